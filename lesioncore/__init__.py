"""Unsupervised lesion detection in brain MRI by MAP restoration under a learned prior of healthy anatomy.

>>> import lesioncore as lc
>>> prior = lc.load_prior("phantom-t2")
>>> result = lc.restore("sub-01_T2w.nii.gz", prior)  # doctest: +SKIP
>>> result.save("out/")  # doctest: +SKIP

Research software, not a medical device.
"""

__version__ = "0.1.0"

from lesioncore.calibration.record import Calibration
from lesioncore.data.grid import SliceGrid
from lesioncore.detectors import Detector, load_detector
from lesioncore.engine.evaluator import release_graphs
from lesioncore.models import (
    GMVAE,
    VAE,
    GMVAEConfig,
    MultiscaleVAE,
    MultiscaleVAEConfig,
    Prior,
    PriorMetadata,
    VAEConfig,
    available_priors,
    embedded_priors,
    load_model,
    load_prior,
    save_calibration,
    save_model,
)
from lesioncore.ops import library as _library  # noqa: F401  first: it says what is wrong where nothing is built
from lesioncore.preprocess import IntensityScale
from lesioncore.restoration.calibrate import calibrate
from lesioncore.restoration.choice import choose_prior
from lesioncore.restoration.config import RestoreConfig
from lesioncore.restoration.restore import restore
from lesioncore.restoration.result import Restoration
from lesioncore.scoring.postprocess import PostProcessing
from lesioncore.solvers import EMSolver, PaperSolver, ProxSolver

__all__ = [
    "GMVAE",
    "VAE",
    "Calibration",
    "Detector",
    "EMSolver",
    "GMVAEConfig",
    "IntensityScale",
    "MultiscaleVAE",
    "MultiscaleVAEConfig",
    "PaperSolver",
    "PostProcessing",
    "Prior",
    "PriorMetadata",
    "ProxSolver",
    "Restoration",
    "RestoreConfig",
    "SliceGrid",
    "VAEConfig",
    "__version__",
    "available_priors",
    "calibrate",
    "choose_prior",
    "embedded_priors",
    "load_detector",
    "load_model",
    "load_prior",
    "release_graphs",
    "restore",
    "save_calibration",
    "save_model",
]
