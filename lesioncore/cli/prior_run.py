"""A prior that a command restores scans with, and all that is decided for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from lesioncore.cli.options import RestoreOptions, open_prior
from lesioncore.cli.output import CommandError
from lesioncore.cli.resume import expected_record
from lesioncore.models import Prior
from lesioncore.restoration.run import Run
from lesioncore.scoring.postprocess import PostProcessing


@dataclass(frozen=True)
class PriorRun:
    """A prior with its run.

    Attributes
    ----------
    name : str
        What the prior was named by.
    prior : Prior
        The prior.
    run : Run
        Its run.
    expected : dict
        Entries for prior and settings that the sidecars of this run's results will have.
    seed : int
        Seed of the latent samples.
    """

    name: str
    prior: Prior
    run: Run
    expected: dict[str, Any]
    seed: int

    @classmethod
    def of(cls, name: str, options: RestoreOptions, postprocessing: PostProcessing | None = None) -> PriorRun:
        """Load a prior and decide the options of its run.

        Raises
        ------
        CommandError
            If the prior cannot be loaded, or the device or the prior does not support the options.
        UsageError
            If an option is out of its range, or two options contradict each other.
        """
        prior = open_prior(name)
        config = replace(options.config(prior), postprocessing=postprocessing or PostProcessing())
        try:
            run = Run.of(prior, config, options.device)
        except ValueError as error:
            raise CommandError(str(error)) from error
        return cls(name, prior, run, expected_record(run, options), options.seed)
