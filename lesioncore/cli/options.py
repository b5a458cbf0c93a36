"""Options that several commands share: the prior, and how scans are restored with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import tyro

from lesioncore.choices import (
    Latent,
    Precision,
    Protocol,
    Sign,
    SolverName,
    TotalVariationDimensions,
    TotalVariationForm,
    check_seed,
)
from lesioncore.cli.output import CommandError, UsageError

if TYPE_CHECKING:
    from lesioncore.models import Prior
    from lesioncore.restoration.config import RestoreConfig


@dataclass(frozen=True)
class RestoreOptions:
    """How scans are restored.

    Parameters
    ----------
    protocol : str, optional
        paper restores as the paper does: its solver and steps, each slice alone, the score |D| neither smoothed nor
        standardized. What contradicts it (--solver, --steps, --tv-dimensions, --smoothing, --standardize, --spread-map,
        --asymmetry, --edge-preserving, --sign) is refused.
    solver : str
        Solver of the objective; auto is that of the prior's calibration, else em for priors that hold their latents'
        posterior (VAE, GMVAE), else prox.
    steps : int, optional
        Steps of the solver. When absent, with --solver auto as the prior was calibrated, else the solver's default.
    tv_weight : float, optional
        Weight of the total variation: larger changes less. When absent the prior's calibrated one; the command
        calibrate searches for one then.
    smoothing : float, optional
        Standard deviation in mm of the Gaussian that smooths the residual before it is scored; 0 for none. When absent
        the prior's calibrated one; the command calibrate searches for one then.
    standardize : bool, optional
        True scores the residual about the scan's own centre in units of its own spread, so that thresholds hold on
        other scanners; False in z-scores. As the prior was calibrated when absent, else True.
    spread_map : bool, optional
        True divides the residual of a registered scan by healthy people's spread at its place of the brain. As the
        prior was calibrated when absent, else False; the command calibrate makes such a map of registered scans.
    asymmetry : float, optional
        Share, 0 to 1, of what both sides of a registered brain have in common that is taken off the residual: for
        lesions on one side. 0 for diseases of both sides. As the prior was calibrated when absent, else 0.
    edge_preserving : bool, optional
        True bounds the smoothed residual by each voxel's own, so that smoothing carries none beyond a lesion's border.
        As the prior was calibrated when absent, else False.
    sign : int, optional
        1 scores what is brighter than expected, -1 what is darker, 0 either. As the prior was calibrated when absent,
        else 0.
    tv : str
        Form of the total variation.
    tv_dimensions : int, optional
        3 couples neighbouring slices, 2 restores each for itself. As the prior was calibrated when absent, else 3.
    latent : str
        Expectation of the ELBO: at the latent's mean, or from a fresh sample in each step.
    kl_weight : float
        Weight of the prior's KL terms; 1 is the ELBO.
    seed : int
        Seed of the latent samples.
    device : str
        auto, cpu or cuda.
    precision : str
        What the network multiplies in; auto is tf32 for lesioncore's own priors on GPUs that have it, else float32.
    preprocess : str
        auto, as the prior was calibrated or trained; none; or some of extract, register, bias, separated by commas. A
        scan that has its skull is brain-extracted in any case, unless a mask is given.
    normalized : bool
        The values are the prior's z-scores already.
    """

    protocol: Annotated[Protocol | None, tyro.conf.arg(metavar="{paper}", help_behavior_hint="")] = None
    solver: SolverName = "auto"
    steps: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    tv_weight: Annotated[float | None, tyro.conf.arg(metavar="W", help_behavior_hint="")] = None
    smoothing: Annotated[float | None, tyro.conf.arg(metavar="MM", help_behavior_hint="")] = None
    standardize: Annotated[bool | None, tyro.conf.arg(metavar="{True,False}", help_behavior_hint="")] = None
    spread_map: Annotated[bool | None, tyro.conf.arg(metavar="{True,False}", help_behavior_hint="")] = None
    asymmetry: Annotated[float | None, tyro.conf.arg(metavar="SHARE", help_behavior_hint="")] = None
    edge_preserving: Annotated[bool | None, tyro.conf.arg(metavar="{True,False}", help_behavior_hint="")] = None
    sign: Annotated[Sign | None, tyro.conf.arg(metavar="{1,-1,0}", help_behavior_hint="")] = None
    tv: TotalVariationForm = "anisotropic"
    tv_dimensions: Annotated[TotalVariationDimensions | None, tyro.conf.arg(metavar="{2,3}", help_behavior_hint="")] = (
        None
    )
    latent: Latent = "mean"
    kl_weight: Annotated[float, tyro.conf.arg(metavar="W")] = 1.0
    seed: int = 0
    device: str = "auto"
    precision: Precision = "auto"
    preprocess: Annotated[str, tyro.conf.arg(metavar="STEPS")] = "auto"
    normalized: bool = False

    def config(self, prior: Prior) -> RestoreConfig:
        """Return the configuration for a prior.

        Raises
        ------
        UsageError
            If an option is out of its range, or two options contradict each other.
        """
        from lesioncore.preprocess.pipeline import parse_steps
        from lesioncore.restoration.config import RestoreConfig

        try:
            check_seed(self.seed)
        except ValueError as error:
            raise UsageError(f"--{error}") from error
        try:
            config = RestoreConfig(
                solver=self.solver,
                tv_weight=self.tv_weight,
                smoothing=self.smoothing,
                standardize=self.standardize,
                spread_map=self.spread_map,
                asymmetry=self.asymmetry,
                edge_preserving=self.edge_preserving,
                sign=self.sign,
                tv=self.tv,
                tv_dimensions=self.tv_dimensions,
                latent=self.latent,
                kl_weight=self.kl_weight,
                precision=self.precision,
                normalized=self.normalized,
                preprocess=parse_steps(self.preprocess),
                protocol=self.protocol,
            ).for_prior(prior)
            if self.steps is not None:
                solver = replace(config.decided_solver, steps=self.steps)
                if self.protocol is not None and solver != config.solver:
                    raise UsageError(
                        f"--steps: {self.steps} contradicts --protocol {self.protocol}, which has"
                        f" {config.decided_solver.steps}; leave one of them out"
                    )
                config = replace(config, solver=solver)
        except ValueError as error:
            raise UsageError(str(error)) from error
        return config

    def precision_of(self, config: RestoreConfig, prior: Prior) -> str:
        """Return the number format in which a prior's network multiplies on the device, such as ``tf32``.

        Raises
        ------
        CommandError
            If the device is missing, or if it or the prior does not support the precision.
        """
        from lesioncore.engine.device import resolve_device
        from lesioncore.engine.precision import precision_for

        try:
            return precision_for(config.precision, resolve_device(self.device), prior)
        except ValueError as error:
            raise CommandError(str(error)) from error


def open_prior(name: str) -> Prior:
    """Load a prior by its name or directory, or from the hub.

    Raises
    ------
    CommandError
        If there is no such prior, or it cannot be loaded.
    """
    from lesioncore.models import load_prior

    try:
        return load_prior(fetched(name))
    except (FileNotFoundError, ImportError, RuntimeError, TypeError) as error:
        raise CommandError(f"--prior: {str(error).removeprefix('name: ')}") from error


def fetched(name: str) -> str:
    """Directory of a prior on the hub, fetched; any other name as it is.

    Raises
    ------
    CommandError
        If it cannot be fetched.
    """
    from lesioncore.models.hub import fetch, is_hub_name

    try:
        return str(fetch(name)) if is_hub_name(name) else name
    except (ImportError, RuntimeError, ValueError) as error:
        raise CommandError(f"--prior: {str(error).removeprefix('name: ')}") from error
