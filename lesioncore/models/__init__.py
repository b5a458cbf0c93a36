"""Models: priors of healthy anatomy, the networks of other detectors, and how they are stored."""

from lesioncore.models.aae import AAE, AAEConfig
from lesioncore.models.anogan import AnoGAN, AnoGANConfig, LatentSearch
from lesioncore.models.gmvae import GMVAE, GMVAEConfig
from lesioncore.models.healthy_mean import HealthyMean, HealthyMeanConfig
from lesioncore.models.io import load_model, load_prior, save_calibration, save_model
from lesioncore.models.multiscale import MultiscaleVAE, MultiscaleVAEConfig
from lesioncore.models.prior import Prior, PriorMetadata
from lesioncore.models.registry import register_model
from lesioncore.models.unet import UNet, UNetConfig
from lesioncore.models.vae import VAE, VAEConfig
from lesioncore.prior_names import available_priors, embedded_priors

__all__ = [
    "AAE",
    "GMVAE",
    "VAE",
    "AAEConfig",
    "AnoGAN",
    "AnoGANConfig",
    "GMVAEConfig",
    "HealthyMean",
    "HealthyMeanConfig",
    "LatentSearch",
    "MultiscaleVAE",
    "MultiscaleVAEConfig",
    "Prior",
    "PriorMetadata",
    "UNet",
    "UNetConfig",
    "VAEConfig",
    "available_priors",
    "embedded_priors",
    "load_model",
    "load_prior",
    "register_model",
    "save_calibration",
    "save_model",
]
