"""Detectors by the residual of a model of healthy anatomy: MAP restoration and prior projection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import torch
from torch import Tensor, nn

from lesioncore.data.stack import SliceStack
from lesioncore.detectors.base import Progress
from lesioncore.detectors.deviation import DeviationDetector, scoring_by
from lesioncore.detectors.sign import Sign
from lesioncore.detectors.slices import map_slices
from lesioncore.engine.batches import check_batch_size
from lesioncore.models.anogan import AnoGAN, LatentSearch
from lesioncore.models.prior import PriorMetadata
from lesioncore.restoration.config import RestoreConfig
from lesioncore.restoration.run import Run
from lesioncore.restoration.solve import solve_stacks


class MAPDetector(DeviationDetector):
    """Residual ``D = Y - X`` of :func:`lesioncore.restore` (method: Chen et al., MedIA 2020, Eq. 6).

    Parameters
    ----------
    prior : Prior
        From :func:`lesioncore.load_prior`, or any object with ``elbo(x) -> [N]``.
    config : RestoreConfig, optional
        Solver and objective, scoring, and post-processing of masks. With ``latent="sample"`` samples are drawn with
        seed 0. A calibration by :func:`lesioncore.calibrate` with the same configuration holds for this detector, too.

    Raises
    ------
    ValueError
        If neither `config` nor the prior's calibration gives a data-consistency weight.
    """

    name = "map"

    def __init__(self, prior: Any, config: RestoreConfig | None = None) -> None:
        self.prior = prior
        self.run = Run.of(prior, config)
        super().__init__(self.run.scoring)
        self.metadata, self.config, self.tv_weight = self.run.metadata, self.run.config, self.run.tv_weight
        self.normalized = self.config.normalized
        self.preprocess = self.config.preprocess
        self.postprocessing = self.config.postprocessing

    def settings(self) -> dict[str, Any]:
        return {**self.config.settings(), "preprocess": None if self.preprocess is None else list(self.preprocess)}

    def precision_on(self, device: torch.device) -> str:
        return self.run.on(device, self.prior).precision

    def _options(self) -> dict[str, Any]:
        options = {field.name: (getattr(self.config, field.name), field.default) for field in fields(self.config)}
        return {name: value for name, (value, default) in options.items() if value != default}

    def deviation_stacks(
        self,
        stacks: Sequence[SliceStack],
        *,
        device: str | torch.device = "auto",
        progress: Progress | None = None,
    ) -> list[Tensor]:
        seed = 0 if self.config.latent == "sample" else None
        run = self.run.on(device, self.prior)
        solutions = solve_stacks(stacks, self.prior, run, seed=seed, progress=progress)
        return [stack.slices - solution.restored for stack, solution in zip(stacks, solutions, strict=True)]


class ProjectionDetector(DeviationDetector):
    """Residual ``Y - mu_X(z(Y))`` of a model's own reconstruction (prior projection, paper section 3.3).

    Parameters
    ----------
    model : nn.Module
        Any model with ``reconstruct(x)``, from and to ``[N, 1, H, W]`` z-scores: VAE, GMVAE, AAE and others. Its
        ``metadata`` (:class:`lesioncore.PriorMetadata`), if there is any, gives grid and intensity scale.
    standardize : bool
        Subtract the centre of the scan's residual, and divide by its spread.
    sign : {1, -1}, optional
        Score ``sign * residual``, for lesions known to be brighter (1) or darker (-1) than healthy tissue; the absolute
        residual when absent.
    **options
        `smoothing`, `spread_map`, `asymmetry` and `edge_preserving` of :class:`lesioncore.scoring.options.Scoring`.
    batch_size : int, optional
        Slices in one pass through the model; bounds memory. What suits the device when absent.

    Raises
    ------
    TypeError
        If `model` has no ``reconstruct``.
    ValueError
        If an option is out of its range, or `batch_size` is not positive.
    """

    name = "projection"

    def __init__(
        self,
        model: nn.Module,
        *,
        sign: Sign = None,
        standardize: bool = True,
        batch_size: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(scoring_by(sign, standardize=standardize, **options))
        if not callable(getattr(model, "reconstruct", None)):
            raise TypeError(f"model: got {type(model).__name__}, expected a model with a reconstruct(x) method")
        self.model = model
        self.batch_size = check_batch_size(batch_size)
        self.metadata = getattr(model, "metadata", None) or PriorMetadata(type(model).__name__)

    def deviation_stacks(
        self,
        stacks: Sequence[SliceStack],
        *,
        device: str | torch.device = "auto",
        progress: Progress | None = None,
    ) -> list[Tensor]:
        return map_slices(
            self._residual, stacks, self.model, device=device, batch_size=self.batch_size, progress=progress
        )

    def reconstruct(self, x: Tensor, mask: Tensor) -> Tensor:
        """Reconstruct slices; `x`, its brain `mask` and the result are ``[N, 1, H, W]`` on the same device."""
        return self.model.reconstruct(x)  # type: ignore[operator]  # checked above

    def _residual(self, x: Tensor, mask: Tensor) -> Tensor:
        return x - self.reconstruct(x, mask)


class AnoGANDetector(ProjectionDetector):
    """Residual ``Y - G(z)`` of the slice that an AnoGAN generates nearest to the observed one.

    Parameters
    ----------
    model : AnoGAN
        From :func:`lesioncore.load_model`, or trained.
    search : LatentSearch, optional
        How the latent is found for a model without an encoder.
    **options
        As for :class:`ProjectionDetector`.

    Raises
    ------
    ValueError
        As for `ProjectionDetector`; or if `search` is given for a model with an encoder, which needs no search.
    """

    model: AnoGAN

    def __init__(self, model: AnoGAN, *, search: LatentSearch | None = None, **options: Any) -> None:
        super().__init__(model, **options)
        if search is not None and model.encoder is not None:
            raise ValueError("search: the model has an encoder, which finds the latent without a search")
        self.search = search or LatentSearch()

    def settings(self) -> dict[str, Any]:
        search = asdict(self.search) if self.model.encoder is None else None
        return {**super().settings(), "search": search}

    def reconstruct(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.model.reconstruct(x, mask, self.search)
