"""Training of priors; installed as ``lesioncore.training``. Inference never imports it."""

from lesioncore.training.config import TrainingConfig
from lesioncore.training.fit import fit

__all__ = ["TrainingConfig", "fit"]
