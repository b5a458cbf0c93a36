"""Small priors for tests: one with a known optimum, and a random network."""

from __future__ import annotations

import math

import torch
from torch import Tensor

import lesioncore as lc
from lesioncore.calibration.healthy import HealthyScores, merged
from lesioncore.ops import reference


class GaussianPrior:
    """Closed-form prior that the package does not ship: ``-a/2 |x - mean|^2 - b/2 |grad(x - mean)|^2``, per slice."""

    def __init__(self, mean: Tensor, a: float = 2.0, b: float = 0.0) -> None:
        self.mean, self.a, self.b = mean, a, b

    def elbo(self, x: Tensor) -> Tensor:
        d = x - self.mean
        rough = sum(k.square().flatten(1).sum(1) for k in reference.differences(d))
        return -0.5 * self.a * d.square().flatten(1).sum(1) - 0.5 * self.b * rough


class PPCAPrior:
    """Probabilistic PCA that the package does not ship: ``log N(x; mean, W W^T + s^2 I)`` of each slice, by Woodbury.

    `mean` is ``[1, 1, H, W]``, `loadings` W is ``[H * W, q]``.
    """

    def __init__(self, mean: Tensor, loadings: Tensor, s: float) -> None:
        self.mean, self.loadings, self.s = mean, loadings, s
        pixels, rank = loadings.shape
        inner = torch.eye(rank, dtype=mean.dtype) + loadings.T @ loadings / s**2
        self.factor = torch.linalg.cholesky(inner)
        log_determinant = 2 * self.factor.diagonal().log().sum() + 2 * pixels * math.log(s)
        self.constant = -0.5 * (pixels * math.log(2 * math.pi) + float(log_determinant))

    def elbo(self, x: Tensor) -> Tensor:
        d = (x - self.mean).flatten(1)
        inside = torch.linalg.solve_triangular(self.factor, (d @ self.loadings).T, upper=False)
        squares = d.square().sum(1) / self.s**2 - inside.square().sum(0) / self.s**4
        return self.constant - 0.5 * squares

    def fixed_posterior_elbo(self, x: Tensor) -> Tensor:
        """``log N(x)``, whose gradient is taken with ``P(z|x)`` held: that of ``E[log N(x; mean + W z, s^2 I)]``."""
        seen = x.detach()
        z = torch.cholesky_solve((self.loadings.T @ (seen - self.mean).flatten(1).T) / self.s**2, self.factor)
        likelihood = -0.5 * (x - self.mean - (self.loadings @ z).T.reshape(x.shape)).square().flatten(1).sum(1)
        return self.elbo(seen) + (likelihood - likelihood.detach()) / self.s**2


def tiny_vae(
    shape: tuple[int, int] = (24, 20), *, seed: int = 0, metadata: lc.PriorMetadata | None = None, **config: object
) -> lc.VAE:
    """A random VAE whose batch statistics are not the trivial ones."""
    return _random(lc.VAE, lc.VAEConfig(shape, (4, 6), 3, **config), seed, metadata)


def tiny_multiscale(
    shape: tuple[int, int] = (24, 20), *, seed: int = 0, metadata: lc.PriorMetadata | None = None, **config: object
) -> lc.MultiscaleVAE:
    """A random multiscale VAE whose batch statistics are not the trivial ones."""
    config = lc.MultiscaleVAEConfig(shape, (4, 6), 3, finer_channels=(2,), **config)
    return _random(lc.MultiscaleVAE, config, seed, metadata)


def tiny_gmvae(
    shape: tuple[int, int] = (24, 20),
    *,
    seed: int = 0,
    metadata: lc.PriorMetadata | None = None,
    components: int = 3,
    **config: object,
) -> lc.GMVAE:
    """A random GMVAE whose batch statistics are not the trivial ones."""
    config = lc.GMVAEConfig(shape, (4, 6), 3, components=components, w_channels=2, hidden_channels=5, **config)
    return _random(lc.GMVAE, config, seed, metadata)


def _random(kind, config, seed, metadata):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = kind(config, metadata)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return model.eval()


def head(shape: tuple[int, int, int], centre: tuple[float, ...] | None = None) -> Tensor:
    """An ellipsoid "brain" (bool) that fills three quarters of each axis."""
    axes = [torch.arange(n, dtype=torch.float64) for n in shape]
    centre = centre or tuple((n - 1) / 2 for n in shape)
    grids = torch.meshgrid(*axes, indexing="ij")
    return sum(((g - c) / (0.375 * n)) ** 2 for g, c, n in zip(grids, centre, shape, strict=True)) < 1


def scan_values(brain: Tensor, seed: int = 0) -> Tensor:
    """Positive float32 intensities inside `brain`, 0 outside."""
    noise = torch.randn(brain.shape, generator=torch.Generator().manual_seed(seed))
    waves = sum(
        torch.sin(2 * math.pi * torch.arange(n) / n + i).reshape([-1 if j == i else 1 for j in range(3)])
        for i, n in enumerate(brain.shape)
    )
    return torch.where(brain, 400 + 60 * waves + 20 * noise, 0.0).float().clamp_min(0)


def tiny_metadata(calibration: lc.Calibration | None = None) -> lc.PriorMetadata:
    """Grid, intensities and, if given, a calibration for :func:`tiny_vae`."""
    brain = head((24, 20, 12))
    intensity = lc.IntensityScale.fit(scan_values(brain, seed=9)[brain])
    return lc.PriorMetadata("tiny", "T2w", lc.SliceGrid(4.0, (24, 20)), intensity, calibration)


def tiny_calibration(solver: object = "em", **settings: object) -> lc.Calibration:
    people = [HealthyScores.of(torch.arange(1, 101) * scale) for scale in (0.005, 0.01)]
    return lc.Calibration(lc.RestoreConfig(solver, **{"tv_dimensions": 3, **settings}).settings(), 1.0, merged(people))


def ellipses(count: int = 64, seed: int = 0, shape: tuple[int, int] = (20, 18)) -> Tensor:
    """Ellipses of random size in noise, ``[count, 1, H, W]``: something that a small network learns at once."""
    generator = torch.Generator().manual_seed(seed)
    i, j = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = 0.4 + 0.5 * torch.rand(count, 1, 1, 1, generator=generator)
    x = torch.where((i.square() + j.square()).sqrt() < radius, 1.0, -1.0)
    return x + 0.1 * torch.randn(count, 1, *shape, generator=generator)
