"""Priors: models of healthy anatomy."""

from lesioncore.priors.base import Prior, PriorMetadata
from lesioncore.priors.gmvae import GMVAE, GMVAEConfig
from lesioncore.priors.io import available_priors, embedded_priors, load_model, load_prior, save_calibration, save_model
from lesioncore.priors.multiscale import MultiscaleVAE, MultiscaleVAEConfig
from lesioncore.priors.registry import register_model
from lesioncore.priors.vae import VAE, VAEConfig

__all__ = [
    "GMVAE",
    "VAE",
    "GMVAEConfig",
    "MultiscaleVAE",
    "MultiscaleVAEConfig",
    "Prior",
    "PriorMetadata",
    "VAEConfig",
    "available_priors",
    "embedded_priors",
    "load_model",
    "load_prior",
    "register_model",
    "save_calibration",
    "save_model",
]
