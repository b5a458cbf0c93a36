"""``lesioncore info``."""

from __future__ import annotations

from dataclasses import dataclass

from lesioncore.cli.output import Outcome, Output


@dataclass(frozen=True)
class Info:
    """Show versions, what is built, processor, GPU and priors; with --full, what of it loads, or why not.

    Parameters
    ----------
    full : bool
        Load torch and the native libraries, which takes seconds, and report what torch sees.
    json : bool
        Print one JSON object on stdout.
    """

    full: bool = False
    json: bool = False

    def run(self, output: Output) -> Outcome:
        """Print the facts about the installation."""
        from lesioncore.cli.installation import format_info, info

        facts = info(self.full)
        output.say(format_info(facts))
        return Outcome(facts)
