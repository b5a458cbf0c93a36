"""What a prior is: anything that gives the evidence lower bound (ELBO) of a batch of slices."""

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
    on; a prior without it takes slices as they are. An optional method ``elbo_terms(x)`` gives the parts of the ELBO,
    see :func:`elbo_of_terms`, and lets the weight of its costs be changed. A prior with an attribute ``noise_shape``
    takes standard normal noise ``[N, *noise_shape]`` as a second argument of all these, for samples of its latents. An
    optional method ``held_elbo(x)``, for priors whose pixels have variance 1/2 given the latents, returns the ELBO with
    another gradient: that of ``E_Q[log P(X|z)]`` with the posterior Q held, ``2 (mu_X - X)``. The solver "em" needs it.
    """

    def elbo(self, x: torch.Tensor) -> torch.Tensor:
        """Evidence lower bound of each slice: ``[N, 1, H, W]`` z-scores to ``[N]`` nats."""
        ...


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
    """What a prior carries beside its weights.

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
