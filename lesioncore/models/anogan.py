"""AnoGAN (Schlegl et al., IPMI 2017) and f-AnoGAN (Schlegl et al., MedIA 2019)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lesioncore.models.adversarial import AdversarialConfig, Latent, image_to_latent, latent_to_image
from lesioncore.models.networks import NetworkConfig, check_slices, make_encoder
from lesioncore.models.prior import PriorMetadata
from lesioncore.models.registry import register_model
from lesioncore.models.residual import inference_copy


@dataclass(frozen=True)
class AnoGANConfig(AdversarialConfig):
    """Shape of an :class:`AnoGAN`.

    Parameters
    ----------
    image_shape, channels, negative_slope
        As for :class:`~lesioncore.models.networks.NetworkConfig`; the generator and the critic mirror each other.
    latent_channels : int
        Length of the latent, or channels of a spatial one.
    latent : {"spatial", "dense"}
        As for :class:`~lesioncore.models.adversarial.AdversarialConfig`.
    encoder : bool
        f-AnoGAN: latents come from an encoder in one pass, not from a search.

    Raises
    ------
    ValueError
        As for ``AdversarialConfig``.
    """

    latent_channels: int = 128
    latent: Latent = "dense"
    encoder: bool = False


@dataclass(frozen=True)
class LatentSearch:
    """Options of :meth:`AnoGAN.search`.

    Parameters
    ----------
    steps : int
        Steps of gradient descent (Adam) from each start; 0 takes the best start.
    step_size : float
        Adam's learning rate, in standard deviations of the latent.
    restarts : int
        Starts, drawn from ``N(0, I)``; the best end counts.
    feature_weight : float
        Share ``l`` of the feature-matching loss, in [0, 1].
    seed : int
        Of the starts. All slices begin at the same ones, so that a slice's result depends on nothing but itself.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    steps: int = 500
    step_size: float = 0.02
    restarts: int = 1
    feature_weight: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 0 or self.restarts < 1:
            raise ValueError(f"steps, restarts: got {self.steps}, {self.restarts}, expected >= 0 and >= 1")
        if not 0 < self.step_size < math.inf:
            raise ValueError(f"step_size: got {self.step_size}, expected a positive finite number")
        if not 0 <= self.feature_weight <= 1:
            raise ValueError(f"feature_weight: got {self.feature_weight}, expected a number in [0, 1]")


class ImageCritic(nn.Module):
    """Critic of slices without batch normalisation, which would tie a slice's gradient to its batch."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.blocks = make_encoder(config, norm=False)
        self.head = nn.Conv2d(config.channels[-1], 1, config.sizes[-1])

    def features(self, x: Tensor) -> Tensor:
        """Feature layer ``[N, channels[-1], h, w]`` of slices ``[N, 1, H, W]``: the last block's output."""
        return self.blocks(x)

    def forward(self, x: Tensor) -> Tensor:
        """Value of each slice, ``[N]``; higher for those that look real."""
        return self.head(self.features(x)).flatten()


class AnoGAN(nn.Module):
    """Generator of healthy slices, with a search or an encoder for the latent of a given one.

    It is trained by :class:`lesioncore.training.anogan.AnoGANLearner`. A slice is scored by ``|x - G(z)|``.

    Parameters
    ----------
    config : AnoGANConfig
        Shape of the networks, and whether there is an encoder.
    metadata : PriorMetadata, optional
        Grid, intensities and thresholds that belong to the weights.
    """

    def __init__(self, config: AnoGANConfig, metadata: PriorMetadata | None = None) -> None:
        super().__init__()
        self.config = config
        self.metadata = metadata
        self.generator = latent_to_image(config)
        # Belongs to the model: its features are part of the search's loss.
        self.critic = ImageCritic(config)
        self.encoder = image_to_latent(config) if config.encoder else None

    def reconstruct(self, x: Tensor, mask: Tensor | None = None, search: LatentSearch | None = None) -> Tensor:
        """The generated slice nearest to each given one: ``G(E(x))`` with an encoder, else by :meth:`search`.

        Parameters
        ----------
        x : Tensor
            ``[N, 1, H, W]`` z-scores.
        mask : Tensor, optional
            ``[N, 1, H, W]`` bool, for the search; the encoder needs none.
        search : LatentSearch, optional
            Options of the search.

        Returns
        -------
        Tensor
            ``[N, 1, H, W]``.

        Raises
        ------
        ValueError
            If `x` is not ``[N, 1, H, W]`` with the model's own slice size.
        """
        check_slices(x, self.config.image_shape)
        z = self.search(x, mask, search)[0] if self.encoder is None else self.encoder(x)
        return self.generator(z)

    def search(
        self, x: Tensor, mask: Tensor | None = None, options: LatentSearch | None = None
    ) -> tuple[Tensor, Tensor]:
        """Latent of least :meth:`search_loss` that gradient descent comes upon, for each slice by itself.

        Parameters
        ----------
        x, mask
            As for :meth:`search_loss`.
        options : LatentSearch, optional
            Steps, starts and their seed.

        Returns
        -------
        z : Tensor
            ``[N, *config.latent_shape]``.
        loss : Tensor
            ``[N]``, that of `z`.
        """
        options = options or LatentSearch()
        stream = torch.Generator().manual_seed(options.seed)
        # Gradients are needed whatever mode the caller is in; what is made here is no inference tensor.
        with torch.inference_mode(False), torch.enable_grad():
            model = self.for_inference()
            x, mask = x.detach().clone(), None if mask is None else mask.clone()
            features = model.critic.features(x)
            best_loss = x.new_full((len(x),), math.inf)
            best = x.new_zeros(len(x), *self.config.latent_shape)
            for _ in range(options.restarts):
                start = torch.randn(self.config.latent_shape, generator=stream).to(x)
                z = start.repeat(len(x), 1, 1, 1).requires_grad_(True)
                # Adam works on each number by itself, so slices that share a batch share nothing else.
                adam = torch.optim.Adam([z], lr=options.step_size)
                for step in range(options.steps + 1):
                    loss = model.search_loss(x, z, mask, feature_weight=options.feature_weight, features=features)
                    better = loss.detach() < best_loss
                    best_loss = torch.where(better, loss.detach(), best_loss)
                    best = torch.where(better.view(-1, 1, 1, 1), z.detach(), best)
                    if step < options.steps:
                        (z.grad,) = torch.autograd.grad(loss.sum(), z)
                        adam.step()
        return best, best_loss

    def search_loss(
        self,
        x: Tensor,
        z: Tensor,
        mask: Tensor | None = None,
        *,
        feature_weight: float = LatentSearch.feature_weight,
        features: Tensor | None = None,
    ) -> Tensor:
        """``(1 - l) sum |x - G(z)| + l sum |f(x) - f(G(z))|`` of each slice (Schlegl et al. 2017).

        Parameters
        ----------
        x : Tensor
            ``[N, 1, H, W]`` z-scores.
        z : Tensor
            ``[N, *config.latent_shape]``.
        mask : Tensor, optional
            ``[N, 1, H, W]`` bool. Outside it ``G(z)`` is replaced by `x`, so that neither sum sees the background,
            which is most of a slice and says nothing about the brain.
        feature_weight : float
            The ``l``.
        features : Tensor, optional
            ``f(x)``, where it is known.

        Returns
        -------
        Tensor
            ``[N]``.
        """
        generated = self.generator(z)
        if mask is not None:
            generated = torch.where(mask, generated, x)
        residual = (x - generated).abs().flatten(1).sum(1)
        if features is None:
            features = self.critic.features(x)
        mismatch = (features - self.critic.features(generated)).abs().flatten(1).sum(1)
        return (1 - feature_weight) * residual + feature_weight * mismatch

    def for_inference(self) -> AnoGAN:
        """A copy for detection, with frozen weights: see :func:`lesioncore.models.residual.inference_copy`."""
        return inference_copy(self)


register_model("anogan", AnoGAN, AnoGANConfig)
