"""A simulated population: healthy brains and lesions with ground truth, made from the ICBM152 tissue maps."""

from .config import PhantomConfig
from .simulate import Phantom, simulate

__all__ = ["Phantom", "PhantomConfig", "simulate"]
