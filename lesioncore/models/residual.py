"""Residual blocks of a frozen model: fused forward passes, and backward passes that give the input's gradient alone."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lesioncore.models.convolution import FrozenConvolution, adjoint_of_enlarged, through_activation
from lesioncore.models.networks import DownBlock, UpBlock, fold_batch_norms

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def inference_copy(model: ModuleT) -> ModuleT:
    """A copy of a model for restoration, without metadata.

    Its weights are frozen, batch normalisations are folded into the convolutions before them, channels lie last, and
    residual blocks and other convolutions become fused ones: the same functions to within rounding, whose backward
    passes give the gradient of the input alone. They can be differentiated once.
    """
    metadata = getattr(model, "metadata", None)
    # The metadata is shared, then dropped: another thread may use it, which would change it during a copy.
    copy = deepcopy(model, {id(metadata): metadata})
    if metadata is not None:
        copy.metadata = None  # type: ignore[assignment]
    copy.eval().requires_grad_(False)
    fold_batch_norms(copy)
    copy.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for parent in list(copy.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, DownBlock):
                setattr(parent, name, FusedDownBlock(child))
            elif isinstance(child, UpBlock):
                setattr(parent, name, FusedUpBlock(child))
            elif isinstance(child, nn.Conv2d) and not isinstance(parent, (DownBlock, UpBlock)):
                setattr(parent, name, FusedConv(child))
    return copy


def compute_in(module: Any, dtype: torch.dtype) -> None:
    """Let the residual blocks and wide convolutions of a fused model compute in another type, in place.

    What enters them is converted. The 1 x 1 convolutions that make and take the latents keep theirs.

    Raises
    ------
    ValueError
        If the model has no fused blocks.
    """
    parts = [part for part in module.modules() if isinstance(part, Fused)] if isinstance(module, nn.Module) else []
    if not parts:
        raise ValueError(
            f"precision: {type(module).__name__} has no fused blocks to compute in {dtype}; use 'float32', or 'tf32' on"
            " CUDA devices that have it"
        )
    for part in parts:
        if part.conv.weight[0, 0].numel() > 1:
            part.to(dtype)


class Fused(nn.Module):
    """A part of a network for restoration, which knows the gradient of its input."""

    conv: FrozenConvolution

    def run(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The output, and what the gradient needs of its activations."""
        raise NotImplementedError

    def differentiate(self, gradient: Tensor, signs: tuple[Tensor, ...], shape: torch.Size) -> Tensor:
        """Gradient of an input of `shape` from that of the output."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return _Apply.apply(x, self)


class FusedConv(Fused):
    """A convolution that stands alone."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = FrozenConvolution(conv)

    def run(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self.conv(x)[0], ()

    def differentiate(self, gradient: Tensor, signs: tuple[Tensor, ...], shape: torch.Size) -> Tensor:
        return self.conv.input_gradient(gradient, shape)


class FusedDownBlock(Fused):
    """A :class:`DownBlock`."""

    def __init__(self, block: DownBlock) -> None:
        super().__init__()
        self.conv, self.down, self.skip = (
            FrozenConvolution(conv, block.negative_slope) for conv in (block.conv, block.down, block.skip)
        )

    def run(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        hidden, inner_signs = self.conv(x, activate=True)
        skip, _ = self.skip(_channels_last(_centres(x)))
        out, signs = self.down(hidden, activate=True, add=skip)
        return out, (inner_signs, signs)

    def differentiate(self, gradient: Tensor, signs: tuple[Tensor, ...], shape: torch.Size) -> Tensor:
        inner_signs, out_signs = signs
        gradient = through_activation(gradient, out_signs, self.down.negative_slope)
        hidden_shape = torch.Size((shape[0], len(self.conv.weight), *shape[2:]))
        inner = self.down.input_gradient(gradient, hidden_shape)
        total = self.conv.input_gradient(inner, shape, signs=inner_signs)
        centres = _centres(total)
        centres += self.skip.input_gradient(gradient, centres.shape)
        return total


class FusedUpBlock(Fused):
    """An :class:`UpBlock`."""

    def __init__(self, block: UpBlock) -> None:
        super().__init__()
        self.conv, self.up, self.skip = (
            FrozenConvolution(conv, block.negative_slope) for conv in (block.conv, block.up, block.skip)
        )
        self.size = block.size

    def run(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        hidden, inner_signs = self.conv(x, activate=True)
        skip, _ = self.skip(x)
        out, signs = self.up(hidden, size=self.size, add=skip, activate=True)
        return out, (inner_signs, signs)

    def differentiate(self, gradient: Tensor, signs: tuple[Tensor, ...], shape: torch.Size) -> Tensor:
        inner_signs, out_signs, slope, size = *signs, self.up.negative_slope, (shape[2], shape[3])
        behind: Tensor | None = out_signs
        if out_signs.dtype != torch.uint8:  # once for both calls below; bits they take themselves
            gradient, behind = through_activation(gradient, out_signs, slope), None
        inner = self.up.input_gradient(gradient, gradient.shape, signs=behind)
        inner = adjoint_of_enlarged(inner, size, slope, out_signs=inner_signs)
        skip = adjoint_of_enlarged(gradient, size, slope, signs=behind)
        return self.conv.input_gradient(inner, shape, add=self.skip.input_gradient(skip, shape))


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, module: Fused) -> Tensor:
        out, signs = module.run(_channels_last(x.to(module.conv.weight.dtype)))
        ctx.module, ctx.shape, ctx.dtype = module, x.shape, x.dtype
        ctx.save_for_backward(*signs)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        of_input = ctx.module.differentiate(_channels_last(gradient), ctx.saved_tensors, ctx.shape)
        return of_input.to(ctx.dtype), None


def _channels_last(x: Tensor) -> Tensor:
    """`x` with its channels last in memory, by its strides as well: PyTorch takes one channel for either layout."""
    _, channels, height, width = x.shape
    strides = (height * width * channels, 1, width * channels, channels)
    return x.contiguous(memory_format=torch.channels_last).as_strided(x.shape, strides)


def _centres(x: Tensor) -> Tensor:
    """The pixels on which the unpadded 3 x 3 kernels of stride 2 are centred."""
    return x[..., 1:-1:2, 1:-1:2]
