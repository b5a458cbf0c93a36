"""Training of models; installed as ``lesioncore.training``. Inference never imports it."""

from lesioncore.training.config import TrainingConfig
from lesioncore.training.feed import SliceSource, TensorSlices
from lesioncore.training.fit import Outcome, fit

__all__ = ["Outcome", "SliceSource", "TensorSlices", "TrainingConfig", "fit"]
