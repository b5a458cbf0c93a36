"""``lesioncore info``."""

from __future__ import annotations

from dataclasses import dataclass

from lesioncore.cli.output import Outcome, Output


@dataclass(frozen=True)
class Info:
    """Show versions, the backends that are built and loaded (or why not), processor, GPU and embedded priors.

    Parameters
    ----------
    json : bool
        Print one JSON object on stdout.
    """

    json: bool = False

    def run(self, output: Output) -> Outcome:
        """Print the facts about the installation."""
        from lesioncore.cli.installation import format_info, info

        facts = info()
        output.say(format_info(facts))
        return Outcome(facts)
