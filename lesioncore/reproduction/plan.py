"""The commands that lead from the released data to the paper's tables and figures."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import get_args

from lesioncore.choices import ReproductionKind, ReproductionResult
from lesioncore.reproduction.paper import TABLE_1, TABLE_2, TABLE_3

KINDS: tuple[ReproductionKind, ...] = get_args(ReproductionKind)
"""Kinds of steps, in their order."""

BEST = {"T2w": "gmvae9", "T1w": "gmvae6"}
"""The model that the paper draws, by contrast."""

PATIENTS = {"T2w": "brats17", "T1w": "atlas"}
"""Data set of patients, by contrast."""

_GMVAES = ("gmvae1", "gmvae3", "gmvae6", "gmvae9")
_ROWS: dict[str, Sequence[str]] = {"T2w": [row.name for row in TABLE_1], "T1w": [row.name for row in TABLE_2]}
NEEDS: dict[ReproductionResult, dict[str, Sequence[str]]] = {
    "table1": {"T2w": _ROWS["T2w"]},
    "table2": {"T1w": _ROWS["T1w"]},
    "table3": {"T2w": [row.name for row in TABLE_3]},
    "figure4": _ROWS,
    "figure5": {"T2w": [BEST["T2w"]]},
    "figure6": {"T1w": [BEST["T1w"]]},
    "figure7": {contrast: [name] for contrast, name in BEST.items()},
    "figure8": {contrast: [name] for contrast, name in BEST.items()},
    "figure9": {contrast: [name] for contrast, name in BEST.items()},
    "figure10": {"T2w": _GMVAES},
    "figure11": {"T1w": _GMVAES},
}
"""Models that each of them shows, by contrast."""

ALL: tuple[ReproductionResult, ...] = tuple(NEEDS)


@dataclass(frozen=True)
class Size:
    """How large models, people and searches are.

    Attributes
    ----------
    voxel_size : float
        Pixels of the priors, mm.
    pixels : int
        Of the priors' slices; those of the baselines are 256 / 200 and 128 / 200 as many.
    channels : tuple of int
        Filters of the networks' blocks; the recipe's when empty.
    latents : tuple of int
        Latent channels in place of the paper's 256, 512 and 1024.
    slices_seen : int
        Length of a training.
    solver : tuple of str
        Options of the calibration that decide the restoration.
    method : str
        How a prior's row is evaluated.
    tv_weights : tuple of float
        Weights to try.
    people : tuple of int
        Simulated people: to train on, healthy ones for weight and thresholds, patients.
    """

    voxel_size: float = 1.0
    pixels: int = 200
    channels: tuple[int, ...] = ()
    latents: tuple[int, int, int] = (256, 512, 1024)
    slices_seen: int = 840_000
    solver: tuple[str, ...] = ("--protocol", "paper")
    method: str = "map:protocol=paper"
    tv_weights: tuple[float, ...] = tuple(1 + number / 2 for number in range(17))
    people: tuple[int, int, int] = (100, 12, 24)


PAPER = Size()
"""As in the paper. It does not say how long it trained: ten times each slice of 600 people, 140 of each."""

SIMULATED = Size(2.0, 100, (16, 32, 64, 96, 96), (32, 64, 128), 28_000)
"""For simulated people."""

_FEW_STEPS = "--solver paper --steps 5 --tv-dimensions 2 --smoothing 0 --standardize False"
QUICK = Size(5.0, 40, (8, 16), (4, 8, 16), 160, tuple(_FEW_STEPS.split()), "map", (1.0, 3.0), (4, 2, 2))
"""Shows that the path leads through; its figures mean nothing."""


@dataclass(frozen=True)
class Step:
    """A command of the plan.

    Attributes
    ----------
    kind : str
        Which of :data:`KINDS`.
    name : str
        Its name among all steps.
    words : tuple of str
        The command, without ``lesioncore``.
    made : str
        The folder that it makes.
    needs : tuple of str
        Names of the steps whose results it takes.
    source : str
        Folder of released data that it reads.
    """

    kind: ReproductionKind
    name: str
    words: tuple[str, ...]
    made: str
    needs: tuple[str, ...] = ()
    source: str = ""

    @property
    def command(self) -> str:
        """The command as a person types it."""
        return shlex.join(["lesioncore", *self.words])


@dataclass(frozen=True)
class Plan:
    """The steps to what is wanted.

    Parameters
    ----------
    out : str
        Folder of all results.
    sources : dict of str to str
        Folders of the released ``camcan``, ``brats17`` and ``atlas``; simulated people when empty.
    wanted : sequence of str
        Tables and figures.
    size : Size
        Of models and searches.
    device : str
        auto, cpu or cuda.
    """

    out: str
    sources: dict[str, str]
    wanted: Sequence[ReproductionResult] = ALL
    size: Size = PAPER
    device: str = "auto"
    contrasts: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "contrasts", tuple(c for c in PATIENTS if self.models(c)))

    def models(self, contrast: str) -> list[str]:
        """Models of a contrast, that which the paper draws first."""
        names = list(dict.fromkeys(name for one in self.wanted for name in NEEDS[one].get(contrast, ())))
        return sorted(names, key=lambda name: name != BEST[contrast])

    def steps(self) -> list[Step]:
        """Imports, trainings, calibrations and evaluations, in their order."""
        imports = self._imports() if self.sources else []
        trainings = [self._train(name, contrast) for contrast in self.contrasts for name in self.models(contrast)]
        priors = [
            self._calibrate(name, contrast)
            for contrast in self.contrasts
            for name in self.models(contrast)
            if is_prior(name)
        ]
        return [*imports, *trainings, *priors, *(self._evaluate(contrast) for contrast in self.contrasts)]

    def evaluation(self, contrast: str) -> str:
        """Folder of a contrast's evaluation."""
        return f"{self.out}/evaluation/{PATIENTS[contrast]}"

    def prior(self, name: str, contrast: str) -> str:
        """Folder of a calibrated prior."""
        return f"{self.out}/priors/{name}_{contrast}"

    def _imports(self) -> list[Step]:
        names = {"camcan": "camcan", "brats17": "brats17", "atlas": "atlas-1.2"}
        steps = []
        for name, dataset in names.items():
            # CamCAN has both whatever is wanted, so that what is trained for a part serves for all of it.
            contrasts = [contrast for contrast in PATIENTS if name in ("camcan", PATIENTS[contrast])]
            if any(contrast in self.contrasts for contrast in contrasts):
                made = f"{self.out}/data/{name}"
                words = ("import", dataset, self.sources[name], made, "--modality", *contrasts)
                steps.append(Step("import", name, words, made, source=self.sources[name]))
        return steps

    def _healthy(self, part: str, contrast: str) -> str:
        """The healthy people of the training, or those of weight and thresholds."""
        if self.sources:
            return f"{self.out}/data/camcan/split.tsv:{part}"
        return f"phantom:{contrast}:{self.size.people[part == 'validation']}"

    def _device(self) -> tuple[str, ...]:
        return () if self.device == "auto" else ("--device", self.device)

    def _train(self, name: str, contrast: str) -> Step:
        size, made = self.size, f"{self.out}/models/{name}_{contrast}"
        pixels, latent, components = size.pixels, size.latents[1], ""
        if name.startswith("gmvae"):
            kind, (components, _, channels) = "gmvae", name.removeprefix("gmvae").partition("_")
            latent = dict(zip((256, 512, 1024), size.latents, strict=True))[int(channels or 512)]
        elif name == "vae":
            kind = "vae"
        else:
            kind = name.rstrip("0123456789")
            pixels = size.pixels * int(name.removeprefix(kind) or 128) // 200
        words = ["train", kind, self._healthy("train", contrast), "-o", made]
        words += ["--validation", self._healthy("validation", contrast), "--modality", contrast]
        words += ["--preprocess", "extract,register", "--voxel-size", f"{size.voxel_size * size.pixels / pixels:g}"]
        words += ["--image-shape", f"{pixels}", f"{pixels}", "--latent-channels", f"{latent}"]
        words += ["--channels", *map(str, size.channels)] if size.channels else []
        words += ["--components", components] if components else []
        words += ["--slices-seen", f"{size.slices_seen}", "--no-calibrate", "--cache", f"{self.out}/cache"]
        needs = ("camcan",) if self.sources else ()
        return Step("train", f"train {name}_{contrast}", (*words, *self._device()), made, needs)

    def _calibrate(self, name: str, contrast: str) -> Step:
        words = ["calibrate", self._healthy("validation", contrast), "--modality", contrast]
        words += ["--prior", f"{self.out}/models/{name}_{contrast}/model", "-o", self.prior(name, contrast)]
        words += [*self.size.solver, "--criterion", "change", "--tv-weights"]
        words += [f"{weight:g}" for weight in self.size.tv_weights]
        needs = (f"train {name}_{contrast}",)
        step = f"calibrate {name}_{contrast}"
        return Step("calibrate", step, (*words, *self._device()), self.prior(name, contrast), needs)

    def _evaluate(self, contrast: str) -> Step:
        if self.sources:
            patients = f"{self.out}/data/{PATIENTS[contrast]}"
        else:
            patients = f"phantom:{contrast}:0-{self.size.people[2] - 1}:{'glioma' if contrast == 'T2w' else 'stroke'}"
        made, methods, needs = self.evaluation(contrast), [], [PATIENTS[contrast]] if self.sources else []
        for name in self.models(contrast):
            prior = is_prior(name)
            folder = self.prior(name, contrast) if prior else f"{self.out}/models/{name}_{contrast}/model"
            methods.append(f"{name}={folder}:{self.size.method if prior else 'projection'}")
            needs.append(f"{'calibrate' if prior else 'train'} {name}_{contrast}")
        words = ["evaluate", patients, "-o", made, "--modality", contrast]
        words += ["--calibration", self._healthy("validation", contrast), "--methods", *methods]
        words += [] if self.sources else ["--voxel-size", f"{self.size.voxel_size:g}"]
        drawn = {one for one in self.wanted if one.startswith("figure") and contrast in NEEDS[one]}
        curves = drawn & {"figure10", "figure11"}
        words += ["--curves"] if curves else []
        words += [] if drawn - curves else ["--no-figures"]
        step = f"evaluate {PATIENTS[contrast]}"
        return Step("evaluate", step, (*words, *self._device()), made, tuple(needs))


def is_prior(name: str) -> bool:
    """Whether a model restores, and does not project."""
    return name == "vae" or name.startswith("gmvae")
