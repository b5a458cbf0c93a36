"""``lesioncore reproduce``."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from lesioncore.choices import ReproductionKind, ReproductionResult
from lesioncore.cli.output import CommandError, Outcome, Output, UsageError
from lesioncore.words import counted

if TYPE_CHECKING:
    from lesioncore.reproduction.plan import Plan, Step
    from lesioncore.reproduction.record import Records


@dataclass(frozen=True)
class Reproduce:
    """Make the paper's Tables 1 to 3 and Figures 4 to 11 of its data sets, as they were downloaded.

    Each step is a command of lesioncore, which --dry-run prints. The same command goes on where it was stopped.
    docs/how-to/reproduce.md says what is as in the paper, and what cannot be.

    Parameters
    ----------
    out : Path
        Folder of all results; tables and figures go to its subfolders of these names.
    camcan : Path, optional
        Folder that CamCAN was unpacked in.
    brats : Path, optional
        Folder that BRATS17 was unpacked in.
    atlas : Path, optional
        Folder that ATLAS 1.2 was unpacked in.
    phantom : bool
        Simulated people in place of the data sets, and smaller models: shows the way today.
    steps : tuple of str
        Kinds of steps to do, all when absent.
    only : tuple of str
        Tables and figures that are wanted, all when absent.
    quick : bool
        Tiny models, hardly trained, to try the way: their figures mean nothing.
    device : str
        auto, cpu or cuda.
    dry_run : bool
        Print the commands, one a line, and do nothing.
    json : bool
        Print one JSON object on stdout.
    """

    GOES_ON: ClassVar[str] = "the same command goes on"

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    camcan: Annotated[Path | None, tyro.conf.arg(metavar="SRC", help_behavior_hint="")] = None
    brats: Annotated[Path | None, tyro.conf.arg(metavar="SRC", help_behavior_hint="")] = None
    atlas: Annotated[Path | None, tyro.conf.arg(metavar="SRC", help_behavior_hint="")] = None
    phantom: bool = False
    steps: Annotated[tuple[ReproductionKind, ...], tyro.conf.arg(help_behavior_hint="")] = ()
    only: Annotated[tuple[ReproductionResult, ...], tyro.conf.arg(help_behavior_hint="")] = ()
    quick: bool = False
    device: str = "auto"
    dry_run: bool = False
    json: bool = False

    def run(self, output: Output) -> Outcome:
        """Say what is to be done, and do it."""
        from lesioncore.reproduction.plan import KINDS
        from lesioncore.reproduction.record import Records

        plan = self._plan()
        kinds = self.steps or KINDS
        steps = plan.steps()
        last = [kind for kind in ("tables", "figures") if kind in kinds and _wants(plan, kind)]
        chosen = [step for step in steps if step.kind in kinds]
        commands = [step.command for step in chosen] + [self._again(last)] * bool(last)
        if self.dry_run:
            for command in commands:
                output.say(command)
            return Outcome({"commands": commands})
        records = Records(self.out / "steps", steps, simulated=self.phantom)
        self._check(steps, chosen, last, records)
        todo = [step for step in chosen if not records.done(step)]
        self._announce(chosen, todo, last, output)
        for number, step in enumerate(todo, start=1):
            output.say(f"[{number}/{len(todo)}] {step.command}")
            records.write(step, done=False)
            _run(step, output)
            records.write(step, done=True)
        files = self._finish(plan, last)
        for file in files:
            output.say(str(file))
        return Outcome({"commands": commands, "done": [step.name for step in todo], "files": [str(f) for f in files]})

    def _plan(self) -> Plan:
        from lesioncore.reproduction.plan import ALL, PAPER, QUICK, SIMULATED, Plan

        sources = {"camcan": self.camcan, "brats17": self.brats, "atlas": self.atlas}
        given = {name: str(path) for name, path in sources.items() if path is not None}
        size = QUICK if self.quick else SIMULATED if self.phantom else PAPER
        plan = Plan(str(self.out), {} if self.phantom else given, self.only or ALL, size, self.device)
        if self.phantom and given:
            raise UsageError(f"--phantom: got data sets ({', '.join(given)}), too; give it alone, or leave it out")
        names = {"T2w": "brats", "T1w": "atlas"}
        missing = ["camcan", *(names[contrast] for contrast in plan.contrasts)]
        missing = [name for name in missing if getattr(self, name) is None]
        if not self.phantom and missing:
            raise UsageError(
                f"--{missing[0]}: got none, expected the folder of the download; give it, leave out with --only what"
                " needs it, or take simulated people with --phantom"
            )
        return plan

    def _again(self, kinds: Sequence[str]) -> str:
        """This command, for the last steps alone."""
        words = ["lesioncore", "reproduce", str(self.out)]
        for name in ("camcan", "brats", "atlas"):
            words += [] if getattr(self, name) is None else [f"--{name}", str(getattr(self, name))]
        words += ["--phantom"] * self.phantom + ["--quick"] * self.quick
        words += [] if self.device == "auto" else ["--device", self.device]
        words += ["--only", *self.only] if self.only else []
        return shlex.join([*words, "--steps", *kinds])

    def _check(self, steps: list[Step], chosen: list[Step], last: Sequence[str], records: Records) -> None:
        """Check that what the steps build on is there, and that their folders are free."""
        from lesioncore.restoration.figure import require_matplotlib

        missing = [step for step in steps if step not in chosen and not records.done(step)]
        needed = {name for step in chosen for name in step.needs if not records.done(step)}
        needed |= {step.name for step in steps if step.kind == "evaluate"} if last else set()
        for step in missing:
            if step.name in needed:
                raise CommandError(
                    f"--steps: {step.name} has not been done with these inputs, and is needed; add {step.kind}"
                )
        for step in chosen:
            if step.source and not Path(step.source).is_dir() and not records.done(step):
                raise CommandError(f"{step.source}: no such folder; give the one that {step.name} was unpacked in")
            if records.stale(step):
                raise CommandError(
                    f"{step.made}: was made by another command or of other data; remove it, or choose another OUT"
                )
        if any("--no-figures" not in step.words for step in chosen if step.kind == "evaluate") or "figures" in last:
            try:
                require_matplotlib()
            except ImportError as error:
                raise CommandError(str(error)) from error

    def _announce(self, chosen: list[Step], todo: list[Step], last: Sequence[str], output: Output) -> None:
        counts, left = Counter(step.kind for step in chosen), Counter(step.kind for step in todo)
        for kind, count in counts.items():
            kept = f", {count - left[kind]} done already" if left[kind] < count else ""
            output.say(f"{kind}: {counted(count, 'step', 'steps')}{kept}")
        for name in last:
            output.say(f"{name}: {self.out / name}")

    def _finish(self, plan: Plan, last: Sequence[str]) -> list[Path]:
        from lesioncore.reproduction.figures import write_figures
        from lesioncore.reproduction.tables import write_tables

        tables = write_tables(plan) if "tables" in last else []
        return tables + (write_figures(plan) if "figures" in last else [])


def _wants(plan: Plan, kind: str) -> bool:
    """Whether a table or a figure is wanted; `kind` is tables or figures."""
    return any(one.startswith(kind.removesuffix("s")) for one in plan.wanted)


def _run(step: Step, output: Output) -> None:
    """Do a step as the command that it is; a training that was stopped goes on."""
    from lesioncore.cli import parse
    from lesioncore.training.fit import CHECKPOINT

    resume = ["--resume"] if step.kind == "train" and (Path(step.made) / CHECKPOINT).exists() else []
    if parse([*step.words, *resume]).run(output).failed:
        raise CommandError(f"{step.name}: not all scans were processed; the messages above say why")
