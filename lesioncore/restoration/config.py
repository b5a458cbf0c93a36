"""Options of restoration: solver, objective, scoring, computation and preprocessing."""

from __future__ import annotations

from dataclasses import InitVar, asdict, dataclass, field, fields, replace
from typing import Any, Literal

from lesioncore.choices import (
    Latent,
    Precision,
    Protocol,
    Sign,
    TotalVariationDimensions,
    TotalVariationForm,
    check_choice,
)
from lesioncore.engine.batches import check_batch_size
from lesioncore.models.prior import FixesPosterior, PriorMetadata, metadata_of
from lesioncore.preprocess.pipeline import Step, check_steps
from lesioncore.scoring.asymmetry import check_asymmetry
from lesioncore.scoring.options import Scoring
from lesioncore.scoring.postprocess import PostProcessing
from lesioncore.solvers import SOLVERS, PaperSolver, Solver, TotalVariation

PROTOCOLS: dict[str, dict[str, Any]] = {
    "paper": {
        "solver": PaperSolver(),
        "tv_dimensions": 2,
        "smoothing": 0.0,
        "standardize": False,
        "spread_map": False,
        "asymmetry": 0.0,
        "edge_preserving": False,
        "sign": 0,
    }
}
"""Options of each protocol; ``"paper"`` follows sections 2.2 and 3.2 of the paper."""


@dataclass(frozen=True)
class RestoreConfig:
    """Options of :func:`lesioncore.restore`; the defaults are those of the embedded priors' calibration.

    Parameters
    ----------
    solver : {"auto", "em", "prox", "paper"} or Solver
        A solver by name with its defaults, or an instance such as ``PaperSolver(steps=100)``. ``"auto"`` is the solver
        that the prior was calibrated with; without a calibration it is ``"em"`` for priors that can hold their latents'
        posterior fixed (VAE, GMVAE), else ``"prox"``.
    tv_weight : float, optional
        Data-consistency weight lambda of the objective (paper Eq. 6): a larger weight changes the scan less. When
        absent, it is the prior's calibrated weight.
    smoothing : float, optional
        Standard deviation, mm, of a three-dimensional Gaussian that smooths the residual before it is scored, at most
        100; 0 scores ``|D|`` itself, as the paper does. When absent, it is the prior's calibrated smoothing.
    standardize : bool, optional
        Score the residual about the scan's own centre, in units of its own spread (:mod:`lesioncore.scoring.spread`),
        so that thresholds hold on other scanners; False scores z-scores, as the paper does. When absent, it is as the
        prior was calibrated, else True.
    spread_map : bool, optional
        Divide the residual of a registered scan by the healthy people's relative spread at its place in the template
        (:class:`lesioncore.scoring.spread_map.SpreadMap`), so that a threshold is as strict where people differ as
        where they do not. When absent, it is as the prior was calibrated, else False.
    asymmetry : float, optional
        Share in [0, 1] of the deviation common to both sides of a registered brain that is taken off the residual
        (:func:`lesioncore.scoring.asymmetry.lower_symmetric`), for lesions on one side, such as tumours and strokes; 0
        for diseases of both sides, such as multiple sclerosis. When absent, it is as the prior was calibrated, else 0.
    edge_preserving : bool, optional
        Bound the smoothed residual at each voxel by the unsmoothed one, each in units of its own spread
        (:func:`lesioncore.scoring.smoothing.keep_edges`), so that smoothing carries no deviation beyond a lesion's
        border. When absent, it is as the prior was calibrated, else False.
    sign : {1, -1, 0}, optional
        1 scores voxels that are brighter than the prior expects (hyperintense lesions), -1 darker ones (hypointense
        lesions), 0 both by the size ``|D|``, as the paper does. When absent, it is as the prior was calibrated, else 0.
    tv : {"anisotropic", "isotropic"}
        Form of the total variation.
    tv_eps : float
        Smoothing of the isotropic form in the paper solver, z-scores.
    tv_dimensions : {2, 3}, optional
        3 couples neighbouring slices, weighted by in-plane over through-plane voxel size. 2, as in the paper, restores
        each slice independently; slices without geometry always are. When absent, it is as the prior was calibrated,
        else 3.
    latent : {"mean", "sample"}
        Latents at which the ELBO is evaluated: the mean of ``Q(z|X)``, or a new seeded sample in each step.
    kl_weight : float
        Weight of the ELBO's costs (KL divergences) against its log-likelihood. 1 is the ELBO; 0 leaves the likelihood
        of the prior's reconstruction alone. It is not for the em solver, whose steps it would not change.
    batch_size : int, optional
        Slices in one pass through the network, which bounds memory. When absent, it suits the device.
    precision : {"auto", "float32", "tf32", "bfloat16"}
        Number format that the prior's network multiplies in. ``"auto"`` is TF32 for lesioncore's own kinds of priors on
        CUDA devices that have it, else float32; bfloat16 is for lesioncore's own kinds alone. Solvers and total
        variation are always in float32. A calibration holds for all formats, though bfloat16 changes scores slightly:
        those of the embedded priors by .002 to .004 z-scores (root mean square).
    normalized : bool
        Whether the scan's values are the prior's z-scores already.
    preprocess : sequence of {"extract", "register", "bias"}, optional
        Steps of preprocessing (:func:`lesioncore.preprocess.pipeline.preprocess`); () does none. When absent, they are
        as the prior was calibrated, else as it was trained.
    postprocessing : PostProcessing
        Cleaning of detected masks; by default nothing is done. Scores and thresholds do not depend on it.
    protocol : {"paper"}, optional
        ``"paper"`` restores as the paper does. It sets those of these eight options that are not given, and no others:
        `solver` (``"paper"``), `tv_dimensions` (2), `smoothing` (0), `standardize` (False), `spread_map` (False),
        `asymmetry` (0), `edge_preserving` (False) and `sign` (0).

    Raises
    ------
    ValueError
        If an option is not one of those listed, contradicts the `protocol`, or a number is out of range; or if another
        `kl_weight` than 1 is given to the em solver.
    """

    solver: Solver | str = "auto"
    tv_weight: float | None = None
    smoothing: float | None = None
    standardize: bool | None = None
    spread_map: bool | None = None
    asymmetry: float | None = None
    edge_preserving: bool | None = None
    sign: Sign | None = None
    tv: TotalVariationForm = "anisotropic"
    tv_eps: float = 1e-3
    tv_dimensions: TotalVariationDimensions | None = None
    latent: Latent = "mean"
    kl_weight: float = 1.0
    batch_size: int | None = None
    precision: Precision = "auto"
    normalized: bool = False
    preprocess: tuple[Step, ...] | None = None
    postprocessing: PostProcessing = field(default_factory=PostProcessing)
    protocol: InitVar[Protocol | None] = None

    def __post_init__(self, protocol: Protocol | None) -> None:
        if isinstance(self.solver, str):
            if self.solver not in ("auto", *SOLVERS):
                known = ["auto", *sorted(SOLVERS)]
                raise ValueError(f"solver: got {self.solver!r}, expected one of {known} or a solver instance")
            if self.solver != "auto":
                object.__setattr__(self, "solver", SOLVERS[self.solver]())
        elif not isinstance(self.solver, tuple(SOLVERS.values())):
            raise ValueError(f"solver: got {type(self.solver).__name__}, expected a name or a solver instance")
        if protocol is not None:
            self._follow(protocol)
        check_choice("tv", self.tv, TotalVariationForm)
        check_choice("tv_dimensions", self.tv_dimensions, TotalVariationDimensions, optional=True)
        check_choice("sign", self.sign, Sign, optional=True)
        check_choice("latent", self.latent, Latent)
        check_choice("precision", self.precision, Precision)
        for name in ("standardize", "spread_map", "edge_preserving"):
            check_choice(name, getattr(self, name), Literal[True, False], optional=True)
        check_batch_size(self.batch_size)
        for name in ("tv_weight", "smoothing", "kl_weight"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"{name}: got {value}, expected a finite number >= 0")
        Scoring(smoothing=self.smoothing or 0.0)  # checks how wide it is
        check_asymmetry(self.asymmetry)
        if self.preprocess is not None:
            object.__setattr__(self, "preprocess", check_steps(self.preprocess))
        if not isinstance(self.postprocessing, PostProcessing):
            raise ValueError(f"postprocessing: got {self.postprocessing!r}, expected a lesioncore.PostProcessing")
        TotalVariation(eps=self.tv_eps)  # checks it
        if getattr(self.solver, "fixes_posterior", False) and self.kl_weight != 1.0:
            raise ValueError(f"kl_weight: got {self.kl_weight}, which solver 'em' does not know; use 'prox' or 'paper'")

    def _follow(self, protocol: str) -> None:
        """Set the options that are not given to the protocol's values; ``ValueError`` if one is given another value."""
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol: got {protocol!r}, expected one of {[*PROTOCOLS]} or None")
        for name, value in PROTOCOLS[protocol].items():
            given = getattr(self, name)
            if given not in (None, "auto", value):
                given_text, protocol_text = _difference(given, value)
                raise ValueError(
                    f"{name}: {given_text} contradicts protocol {protocol!r}, which has {protocol_text}; leave one of"
                    " them out"
                )
            object.__setattr__(self, name, value)

    def for_prior(self, prior: Any) -> RestoreConfig:
        """The same options, with those that are not given decided for a prior.

        Weight and smoothing are left to :class:`lesioncore.restoration.run.Run`. `preprocess` is None in the result
        where it is as the prior was trained.

        Raises
        ------
        ValueError
            If the settings of the prior's calibration are none that this version knows.
        TypeError
            If `prior` has no ``elbo``.
        """
        metadata = metadata_of(prior)
        try:
            return self._as_calibrated(prior, metadata)
        except (AttributeError, LookupError, TypeError, ValueError) as error:  # given options were checked before
            raise ValueError(
                f"prior {metadata.name!r}: its calibration has settings that are damaged or of a newer lesioncore"
                f" ({error}); calibrate it again"
            ) from error

    def _as_calibrated(self, prior: Any, metadata: PriorMetadata) -> RestoreConfig:
        """The options, with those that are not given as the prior was calibrated."""
        calibration = metadata.calibration
        calibrated = {} if calibration is None else calibration.settings
        solver = self.solver
        if isinstance(solver, str):  # "auto"
            default = {"name": "em" if isinstance(prior, FixesPosterior) else "prox"}
            options = dict(calibrated.get("solver", default))
            solver = SOLVERS[options.pop("name")](**options)
            if solver.fixes_posterior and self.kl_weight != 1.0:
                solver = SOLVERS["prox"]()
        standardize = calibrated.get("standardize", True) if self.standardize is None else self.standardize
        spread_map = calibrated.get("spread_map", False) if self.spread_map is None else self.spread_map
        asymmetry = calibrated.get("asymmetry", 0.0) if self.asymmetry is None else self.asymmetry
        edges = calibrated.get("edge_preserving", False) if self.edge_preserving is None else self.edge_preserving
        sign = calibrated.get("sign", 0) if self.sign is None else self.sign
        tv_dimensions = self.tv_dimensions or calibrated.get("tv_dimensions", 3)
        steps = calibrated.get("preprocess") if self.preprocess is None else self.preprocess
        preprocess = None if steps is None or check_steps(steps) == metadata.preprocessing else check_steps(steps)
        return replace(
            self,
            solver=solver,
            tv_dimensions=tv_dimensions,
            standardize=standardize,
            spread_map=spread_map,
            asymmetry=asymmetry,
            edge_preserving=edges,
            sign=sign,
            preprocess=preprocess,
        )

    def scoring(self, smoothing: float) -> Scoring:
        """How residuals are scored, with a given smoothing (mm); options that are not decided are off."""
        return Scoring(
            smoothing=smoothing,
            standardize=bool(self.standardize),
            spread_map=bool(self.spread_map),
            asymmetry=self.asymmetry or 0.0,
            edge_preserving=bool(self.edge_preserving),
            sign=self.sign or 0,
        )

    @property
    def solver_name(self) -> str:
        """Name of the solver, as in ``solver="prox"``."""
        return _name_of(self.decided_solver)

    @property
    def decided_solver(self) -> Solver:
        """The solver; ``ValueError`` while it is ``"auto"``."""
        if isinstance(self.solver, str):
            raise ValueError("solver: 'auto' is not decided yet; RestoreConfig.for_prior(prior) does")
        return self.solver

    def total_variation(self, voxel_size: tuple[float, float, float] | None) -> TotalVariation:
        """The data term for slices of a given voxel size (mm); slices are not coupled where it is unknown."""
        depth_weight = 0.0
        if self.tv_dimensions == 3 and voxel_size is not None:
            depth_weight = voxel_size[0] / voxel_size[2]
        return TotalVariation(self.tv == "isotropic", self.tv_eps, depth_weight)

    def settings(self) -> dict[str, Any]:
        """All options that change a score, except weight and smoothing, to compare with a calibration's (JSON-able)."""
        # Options that are off are left out, so that calibrations from before an option existed still match.
        solver_options = {name: value for name, value in asdict(self.decided_solver).items() if value is not None}
        newer = {
            "spread_map": self.spread_map,
            "asymmetry": self.asymmetry,
            "edge_preserving": self.edge_preserving,
            "sign": self.sign,
        }
        return {
            "solver": {"name": self.solver_name, **solver_options},
            "tv": self.tv,
            "tv_eps": self.tv_eps,
            "tv_dimensions": self.tv_dimensions,
            "latent": self.latent,
            "kl_weight": self.kl_weight,
            "standardize": self.standardize,
            **{name: value for name, value in newer.items() if value},
            "preprocess": None if self.preprocess is None else list(self.preprocess),
        }


def _name_of(solver: Solver) -> str:
    return next(name for name, kind in SOLVERS.items() if isinstance(solver, kind))


def _difference(given: Any, value: Any) -> tuple[str, str]:
    """Texts of two different values of an option: of solvers their names, or those of their options that differ."""
    if type(given) not in SOLVERS.values():
        return repr(given), repr(value)
    if type(given) is not type(value):
        return repr(_name_of(given)), repr(_name_of(value))
    names = [option.name for option in fields(value)]
    differing = [name for name in names if getattr(given, name) != getattr(value, name)]
    first, second = (", ".join(f"{name}={getattr(solver, name)!r}" for name in differing) for solver in (given, value))
    return first, second
