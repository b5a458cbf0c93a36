"""The paper's network at its full size, with random weights."""

from __future__ import annotations

import torch
from torch import nn

import lesioncore as lc

SHAPE = (200, 200)
TV_WEIGHT = 3.0
SPREAD = 0.06  # of the network's reconstructions, z-scores


def paper_vae() -> lc.VAE:
    """The paper's network with random weights, in which a step depends on every layer.

    Batch statistics are those of random images, or activations would fade from layer to layer. The reconstruction is
    scaled to a spread at which the gradient through the encoder is several times that at the pixels, and little of it
    is clipped.
    """
    torch.manual_seed(0)
    model = lc.VAE(lc.VAEConfig(SHAPE)).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the statistics are the batch's own
    with torch.no_grad():
        images = torch.randn(4, 1, *SHAPE)
        model.reconstruct(images)
        spread = model.eval().reconstruct(images).std()
        for parameter in model.output.parameters():
            parameter *= SPREAD / spread
    return model
