__version__: str

from . import (
    calibration as calibration,
    data as data,
    demo as demo,
    detectors as detectors,
    engine as engine,
    evaluation as evaluation,
    metrics as metrics,
    models as models,
    ops as ops,
    phantom as phantom,
    preprocess as preprocess,
    report as report,
    restoration as restoration,
    scoring as scoring,
    solvers as solvers,
    subjects as subjects,
    training as training,
)
from .calibration.record import Calibration as Calibration
from .data.grid import SliceGrid as SliceGrid
from .detectors import Detector as Detector, load_detector as load_detector
from .engine.evaluator import release_graphs as release_graphs
from .models import (
    GMVAE as GMVAE,
    VAE as VAE,
    GMVAEConfig as GMVAEConfig,
    MultiscaleVAE as MultiscaleVAE,
    MultiscaleVAEConfig as MultiscaleVAEConfig,
    Prior as Prior,
    PriorMetadata as PriorMetadata,
    VAEConfig as VAEConfig,
    available_priors as available_priors,
    embedded_priors as embedded_priors,
    load_model as load_model,
    load_prior as load_prior,
    save_calibration as save_calibration,
    save_model as save_model,
)
from .preprocess.intensity import IntensityScale as IntensityScale
from .report.page import write_report as write_report
from .restoration.calibrate import calibrate as calibrate
from .restoration.config import RestoreConfig as RestoreConfig
from .restoration.prior_choice import choose_prior as choose_prior
from .restoration.restore import restore as restore
from .restoration.result import Restoration as Restoration
from .scoring.postprocess import PostProcessing as PostProcessing
from .solvers import EMSolver as EMSolver, PaperSolver as PaperSolver, ProxSolver as ProxSolver
