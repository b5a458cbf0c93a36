"""Small priors for tests: one with a known optimum, and a random network."""

from __future__ import annotations

import math

import torch
from torch import Tensor

import lesioncore as lc
from lesioncore import reference


class GaussianPrior:
    """Closed-form prior that the package does not ship: ``-a/2 |x - mean|^2 - b/2 |grad(x - mean)|^2``, per slice."""

    def __init__(self, mean: Tensor, a: float = 2.0, b: float = 0.0) -> None:
        self.mean, self.a, self.b = mean, a, b

    def elbo(self, x: Tensor) -> Tensor:
        d = x - self.mean
        rough = sum(k.square().flatten(1).sum(1) for k in reference.differences(d))
        return -0.5 * self.a * d.square().flatten(1).sum(1) - 0.5 * self.b * rough


def tiny_vae(shape: tuple[int, int] = (24, 20), *, seed: int = 0, metadata: lc.PriorMetadata | None = None) -> lc.VAE:
    """A random VAE whose batch statistics are not the trivial ones."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = lc.VAE(lc.VAEConfig(shape, (4, 6), 3), metadata)
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


def tiny_calibration(**settings: object) -> lc.Calibration:
    return lc.Calibration(
        lc.RestoreConfig(**settings).settings(),
        1.0,
        (0.01, 0.05, 0.1, 0.5),
        (2.0, 1.0, 0.8, 0.2),
        subjects=2,
        pixels=99,
    )


def ellipses(count: int = 64, seed: int = 0, shape: tuple[int, int] = (20, 18)) -> Tensor:
    """Ellipses of random size in noise, ``[count, 1, H, W]``: something that a small network learns at once."""
    generator = torch.Generator().manual_seed(seed)
    i, j = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = 0.4 + 0.5 * torch.rand(count, 1, 1, 1, generator=generator)
    x = torch.where((i.square() + j.square()).sqrt() < radius, 1.0, -1.0)
    return x + 0.1 * torch.randn(count, 1, *shape, generator=generator)
