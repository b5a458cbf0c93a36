"""``lesioncore train``: one subcommand for each model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar

import tyro

from lesioncore.cli.output import Outcome, Output, UsageError
from lesioncore.command_options import Flat
from lesioncore.engine.progress import Bar
from lesioncore.training import embedded
from lesioncore.training.config import TrainingConfig
from lesioncore.training.fit import CHECKPOINT
from lesioncore.training.job import Job
from lesioncore.training.recipes import AAERecipe, AnoGANRecipe, GMVAERecipe, MultiscaleVAERecipe, UNetRecipe, VAERecipe


@dataclass(frozen=True)
class TrainModel(Job):
    """A training job as a command; each subclass has the recipe of its model.

    Parameters
    ----------
    json : bool
        Print one JSON object on stdout.
    """

    GOES_ON: ClassVar[str] = "the same command with --resume goes on"

    json: bool = False

    def run(self, output: Output) -> Outcome:
        """Prepare the data, train, calibrate and write the model."""
        from lesioncore.training.train import train

        if not self.data:
            raise UsageError("DATA: expected at least one folder, image, list of paths, or range of phantoms")
        if self.resume and not (self.output / CHECKPOINT).exists():
            output.note(f"{self.output} holds no checkpoint to go on from: starts from the beginning")
        job = Job(**{option.name: getattr(self, option.name) for option in fields(Job)})
        with _Bars() as bars:
            facts = train(job, progress=bars, note=output.note)
        for line in lines(facts):
            output.say(line)
        return Outcome(facts)


@dataclass(frozen=True)
class TrainVAE(TrainModel):
    recipe: Flat[VAERecipe] = field(default_factory=VAERecipe)


@dataclass(frozen=True)
class TrainMultiscaleVAE(TrainModel):
    recipe: Flat[MultiscaleVAERecipe] = field(default_factory=MultiscaleVAERecipe)


_EMBEDDED = TrainMultiscaleVAE(
    data=(),
    output=tyro.MISSING_NONPROP,
    recipe=embedded.RECIPE,
    training=embedded.TRAINING,
    voxel_size=embedded.VOXEL_SIZE,
)


@dataclass(frozen=True)
class TrainGMVAE(TrainModel):
    recipe: Flat[GMVAERecipe] = field(default_factory=GMVAERecipe)


@dataclass(frozen=True)
class TrainAAE(TrainModel):
    recipe: Flat[AAERecipe] = field(default_factory=AAERecipe)


@dataclass(frozen=True)
class TrainAnoGAN(TrainModel):
    recipe: Flat[AnoGANRecipe] = field(default_factory=AnoGANRecipe)
    training: Flat[TrainingConfig] = AnoGANRecipe.training


@dataclass(frozen=True)
class TrainUNet(TrainModel):
    recipe: Flat[UNetRecipe] = field(default_factory=UNetRecipe)


@dataclass(frozen=True)
class Train:
    """Train a model on healthy scans (or a supervised one on patients), calibrate it, and write its directory."""

    model: Annotated[
        Annotated[TrainVAE, tyro.conf.subcommand("vae", description="variational autoencoder, for MAP restoration")]
        | Annotated[
            TrainMultiscaleVAE,
            tyro.conf.subcommand("multiscale-vae", description="with latents at every size: sharper"),
        ]
        | Annotated[
            TrainMultiscaleVAE,
            tyro.conf.subcommand("embedded", default=_EMBEDDED, description="the recipe of the embedded priors"),
        ]
        | Annotated[TrainGMVAE, tyro.conf.subcommand("gmvae", description="with a Gaussian mixture as latent prior")]
        | Annotated[TrainAAE, tyro.conf.subcommand("aae", description="adversarial autoencoder, detects by projection")]
        | Annotated[TrainAnoGAN, tyro.conf.subcommand("anogan", description="generative adversarial net; f-AnoGAN too")]
        | Annotated[TrainUNet, tyro.conf.subcommand("unet", description="supervised, on scans with lesion masks")],
        tyro.conf.arg(name=""),
    ]

    @property
    def json(self) -> bool:
        return self.model.json

    def run(self, output: Output) -> Outcome:
        """Train."""
        return self.model.run(output)


class _Bars:
    """Progress on stderr, one stage after the other."""

    def __init__(self) -> None:
        self._stage: str | None = None
        self._done = 0
        self._bar: Bar | None = None

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
        # A smaller count than before begins a new stage of the same name: validation scans follow training scans.
        if self._bar is None or stage != self._stage or done < self._done:
            self.__exit__()
            self._stage = stage
            self._bar = Bar(*_STAGES[stage])
        self._done = done
        self._bar.move(done, total, ", ".join(f"{key}={value:.4g}" for key, value in list(figures.items())[:3]))


_STAGES = {"prepare": ("preparing", "scan"), "train": ("training", "slice"), "calibrate": ("calibrating", "round")}


def lines(facts: Mapping[str, Any]) -> list[str]:
    """Describe a finished training run in lines of text."""
    seconds = ", ".join(f"{stage} {value:.0f} s" for stage, value in facts["seconds"].items())
    report = [
        f"{facts['slices']} slices of {facts['subjects']} scans; scans held out: {facts['validation_subjects']}",
        f"{facts['updates']} updates, weights of update {facts['best_update']} kept; {seconds}",
        f"{facts['slices_per_second']:.0f} slices/s, {100 * facts['data_wait']:.1f} % of the time waiting for data",
    ]
    validation = {k.removeprefix("validation_"): v for k, v in facts["figures"].items() if k.startswith("validation_")}
    report.append("held out: " + ", ".join(f"{key} {value:.4g}" for key, value in validation.items()))
    if facts.get("tv_weight") is not None:
        report.append(f"data-consistency weight {facts['tv_weight']:g}")
    if "directory" in facts:  # only the first of several processes writes the model
        report.append(f"model in {facts['directory']}")
    return report
