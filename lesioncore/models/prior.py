"""The protocol of a prior: anything that gives the evidence lower bound (ELBO) of a batch of slices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch

from lesioncore.calibration.record import Calibration
from lesioncore.data.grid import SliceGrid
from lesioncore.preprocess.pipeline import Step
from lesioncore.preprocess.scale import Scale
from lesioncore.scoring.spread_map import SpreadMap


@runtime_checkable
class Prior(Protocol):
    """A latent-variable model of healthy slices (method: Chen et al., MedIA 2020, section 2.1).

    The one thing that restoration needs is :meth:`elbo`, differentiable in `x`. It must be a sum over the pixels and
    latents of each slice, in nats, so that a slice's value and gradient do not depend on the rest of its batch.
    An optional attribute ``metadata`` (:class:`PriorMetadata`) says which grid and intensities the model was trained
    on; a prior without it takes slices as they are.

    What else a prior may offer, each for itself, and what it gets for it:

    ======================  =========================================  ===============================================
    protocol                member                                     what it makes possible
    ======================  =========================================  ===============================================
    `WeighsCosts`           ``elbo_terms(x)``                          ``RestoreConfig(kl_weight=...)`` other than 1
    `SamplesLatents`        ``noise_shape``                            ``RestoreConfig(latent="sample")``
    `FixesPosterior`        ``fixed_posterior_elbo(x)``                the solver "em", which is the default then
    `RunsFused`             ``for_inference()``                        its own fast copy, TF32 where there is that
    ======================  =========================================  ===============================================

    With ``noise_shape``, ``elbo`` and the methods of this table that it has take noise as a second argument. CUDA
    graphs need `RunsFused` and an ``nn.Module`` whose weights lie on the device; bfloat16 needs lesioncore's own fused
    blocks in the copy.
    """

    def elbo(self, x: torch.Tensor) -> torch.Tensor:
        """Evidence lower bound of each slice: ``[N, 1, H, W]`` z-scores to ``[N]`` nats."""
        ...


@runtime_checkable
class WeighsCosts(Protocol):
    """A prior whose ELBO comes in parts, so that its costs can be given another weight."""

    def elbo_terms(self, x: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Parts of the ELBO, ``[N]`` nats each: see :func:`elbo_of_terms`."""
        ...


@runtime_checkable
class SamplesLatents(Protocol):
    """A prior whose ``elbo``, and the others that it has, take standard normal noise ``[N, *noise_shape]`` as well."""

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of one slice's noise."""
        ...


@runtime_checkable
class FixesPosterior(Protocol):
    """A prior whose pixels have variance 1/2 given the latents, and whose latents' posterior Q can be held fixed."""

    def fixed_posterior_elbo(self, x: torch.Tensor) -> torch.Tensor:
        """The ELBO, ``[N]`` nats, with the gradient of ``E_Q[log P(X|z)]`` at a fixed Q: ``2 (mu_X - X)``."""
        ...


@runtime_checkable
class RunsFused(Protocol):
    """A prior that gives a copy of itself for restoration: the same functions, frozen, faster to differentiate."""

    def for_inference(self) -> Any:
        """The copy (:func:`lesioncore.models.residual.inference_copy` makes one of lesioncore's own networks)."""
        ...


def require(prior: Any, protocol: type, what: str, instead: str) -> None:
    """Raise ``ValueError`` unless a prior follows an optional protocol.

    Parameters
    ----------
    prior : Prior
        Any prior.
    protocol : type
        One of the protocols of this module.
    what : str
        What was asked for, as ``"name: got value"``.
    instead : str
        What to do without.
    """
    if not isinstance(prior, protocol):
        (member,) = (name for name in vars(protocol) if not name.startswith("_"))
        raise ValueError(f"{what}, but {type(prior).__name__} has no {member}; use {instead}")


def elbo_of_terms(terms: Mapping[str, torch.Tensor], kl_weight: float = 1.0) -> torch.Tensor:
    """The evidence lower bound from its parts: ``log_likelihood - kl_weight * (sum of all others)``, ``[N]`` nats.

    Parameters
    ----------
    terms : mapping of str to Tensor
        ``"log_likelihood"`` and any number of costs such as KL divergences, ``[N]`` nats each.
    kl_weight : float
        Weight of the costs; 1 is the ELBO.
    """
    elbo = terms["log_likelihood"]
    for name, cost in terms.items():
        if name != "log_likelihood":
            elbo = elbo - kl_weight * cost
    return elbo


@dataclass(frozen=True)
class PriorMetadata:
    """Name, grid, intensities and calibration that a prior carries beside its weights.

    Parameters
    ----------
    name : str
        Short name, as given to :func:`lesioncore.load_prior`.
    modality : str or None
        BIDS suffix of the images it was trained on, such as ``T2w``.
    grid : SliceGrid or None
        Voxel size (mm) and slice size (pixels) of its slices.
    intensity : IntensityScale or TissueScale or None
        What brings a scan to its z-scores.
    calibration : Calibration or None
        Data-consistency weight and thresholds found on healthy people.
    fingerprint : str or None
        SHA-256 of the stored weights and configuration; set when a prior is loaded.
    preprocessing : tuple of {"extract", "register", "bias"}
        The steps by which its training scans were preprocessed (:func:`lesioncore.preprocess.pipeline.preprocess`), and
        so are those to be restored.
    """

    name: str
    modality: str | None = None
    grid: SliceGrid | None = None
    intensity: Scale | None = None
    calibration: Calibration | None = None
    fingerprint: str | None = None
    preprocessing: tuple[Step, ...] = ()

    def spread_map(self, wanted: bool) -> SpreadMap | None:
        """The calibration's map of healthy people's spread by place, if it is wanted.

        Raises
        ------
        ValueError
            If there is none.
        """
        if not wanted:
            return None
        if self.calibration is None or self.calibration.spread_map is None:
            raise ValueError(
                f"spread_map: {self.name!r} carries no map of healthy people's spread; calibrate it on registered"
                " healthy scans with spread_map=True, or leave that out"
            )
        return self.calibration.spread_map

    def with_calibration(self, calibration: Calibration) -> PriorMetadata:
        """The same metadata with another calibration."""
        return replace(self, calibration=calibration)


def metadata_of(prior: Any) -> PriorMetadata:
    """Metadata of any prior; empty for one that carries none.

    Raises
    ------
    TypeError
        If `prior` has no ``elbo`` method, or its ``metadata`` is not a :class:`PriorMetadata`.
    """
    if not isinstance(prior, Prior):
        raise TypeError(
            f"prior: got {type(prior).__name__}, expected an object with an elbo(x) method; "
            "load one with lesioncore.load_prior(name or directory)"
        )
    metadata = getattr(prior, "metadata", None)
    if metadata is None:
        return PriorMetadata(name=type(prior).__name__)
    if not isinstance(metadata, PriorMetadata):
        raise TypeError(f"prior.metadata: got {type(metadata).__name__}, expected lesioncore.PriorMetadata or None")
    return metadata
