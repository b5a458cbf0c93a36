"""Priors: models of healthy anatomy."""

from lesioncore.priors.base import Prior, PriorMetadata
from lesioncore.priors.io import embedded_priors, load_prior, save_prior
from lesioncore.priors.vae import VAE, VAEConfig

__all__ = ["VAE", "Prior", "PriorMetadata", "VAEConfig", "embedded_priors", "load_prior", "save_prior"]
