"""A simulated population: healthy brains and lesions with ground truth, made from the ICBM152 tissue maps."""

from lesioncore.phantom.config import PhantomConfig
from lesioncore.phantom.dataset import write_dataset
from lesioncore.phantom.head import template_head
from lesioncore.phantom.simulate import Phantom, simulate

__all__ = ["Phantom", "PhantomConfig", "simulate", "template_head", "write_dataset"]
