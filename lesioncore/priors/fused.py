"""Residual blocks of a frozen model: fused forward passes, and backward passes that give the input's gradient alone."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from lesioncore.priors.networks import DownBlock, UpBlock, fold_batch_norms

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def fused(model: ModuleT) -> ModuleT:
    """A copy of a model for restoration, without metadata.

    Its weights are frozen, batch normalisations are folded into the convolutions before them, channels lie last, and
    residual blocks and other convolutions become fused ones: the same functions to within rounding, whose backward
    passes give the gradient of the input alone. They can be differentiated once.
    """
    metadata = getattr(model, "metadata", None)
    # Shared and then let go: another thread may be using it, which would change it under a copy.
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


class FrozenConv(nn.Module):
    """A convolution of fixed weights with what surrounds it: a sum, the leaky-ReLU, the gradient of its input.

    On CPUs in single precision these are oneDNN's fused convolutions, their weights reordered once; elsewhere PyTorch's
    own. A unit stride's gradient is a convolution as well, with the kernel turned round and its channels exchanged.
    """

    weight: Tensor
    bias: Tensor | None
    turned: Tensor

    def __init__(self, conv: nn.Conv2d, negative_slope: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("weight", conv.weight.detach())
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach())
        self.stride: list[int] = list(conv.stride)
        self.padding: list[int] = list(conv.padding)  # type: ignore[arg-type]
        self.negative_slope = negative_slope
        turned = conv.weight.detach().flip(2, 3).transpose(0, 1)
        self.register_buffer("turned", turned.contiguous(memory_format=torch.channels_last))
        self.packed: dict[str, Tensor] = {}

    def forward(self, x: Tensor, *, activate: bool = False, add: Tensor | None = None) -> Tensor:
        """``act(conv(x) + add)``."""
        if not _onednn_takes(x):
            out = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
            if add is not None:
                out += add
        else:
            fused = activate and add is None
            out = self._onednn(x, "weight", self.bias, self.stride, self.padding, add=add, activate=fused)
            activate = activate and not fused  # oneDNN has no leaky-ReLU behind a sum here
        return F.leaky_relu_(out, self.negative_slope) if activate else out

    def input_gradient(self, gradient: Tensor, shape: torch.Size, add: Tensor | None = None) -> Tensor:
        """Gradient of an input of `shape` from that of the output, plus `add`."""
        if self.stride == [1, 1] and _onednn_takes(gradient):
            padding = [size - 1 - pad for size, pad in zip(self.weight.shape[2:], self.padding, strict=True)]
            return self._onednn(gradient, "turned", None, [1, 1], padding, add=add)
        like = torch.empty(shape, dtype=gradient.dtype, device=gradient.device, memory_format=torch.channels_last)
        found: Tensor = torch.ops.aten.convolution_backward(
            gradient,
            like,
            self.weight,
            None,
            self.stride,
            self.padding,
            [1, 1],
            False,
            [0, 0],
            1,
            [True, False, False],
        )[0]
        return found if add is None else found.add_(add)

    def _onednn(
        self,
        x: Tensor,
        which: str,
        bias: Tensor | None,
        stride: list[int],
        padding: list[int],
        *,
        add: Tensor | None = None,
        activate: bool = False,
    ) -> Tensor:
        ops = torch.ops.mkldnn
        if which not in self.packed:
            weight = getattr(self, which)
            self.packed[which] = ops._reorder_convolution_weight(weight, padding, stride, [1, 1], 1, list(x.shape))
        common = (bias, padding, stride, [1, 1], 1)
        if add is not None:
            return ops._convolution_pointwise.binary(x, add, self.packed[which], *common, "add", 1.0, None, [], None)
        name, slope = ("leaky_relu", [self.negative_slope]) if activate else ("none", [])
        return ops._convolution_pointwise(x, self.packed[which], *common, name, slope, "")


def _onednn_takes(x: Tensor) -> bool:
    """Whether oneDNN's fused convolutions take a tensor."""
    usable = torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled) and x.device.type == "cpu"
    if x.dtype == torch.bfloat16:
        return usable and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return usable and x.dtype == torch.float32


class Fused(nn.Module):
    """A part of a network for restoration, which knows the gradient of its input."""

    conv: FrozenConv

    def run(self, x: Tensor) -> tuple[Tensor | None, Tensor]:
        """What the gradient needs beside the output, and the output."""
        raise NotImplementedError

    def differentiate(self, gradient: Tensor, hidden: Tensor | None, out: Tensor, shape: torch.Size) -> Tensor:
        """Gradient of an input of `shape` from that of the output."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return _Apply.apply(x, self)


class FusedConv(Fused):
    """A convolution that stands alone."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = FrozenConv(conv)

    def run(self, x: Tensor) -> tuple[None, Tensor]:
        return None, self.conv(x)

    def differentiate(self, gradient: Tensor, hidden: Tensor | None, out: Tensor, shape: torch.Size) -> Tensor:
        return self.conv.input_gradient(gradient, shape)


class FusedDownBlock(Fused):
    """A :class:`DownBlock`."""

    def __init__(self, block: DownBlock) -> None:
        super().__init__()
        self.conv, self.down, self.skip = (
            FrozenConv(conv, block.negative_slope) for conv in (block.conv, block.down, block.skip)
        )

    def run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.conv(x, activate=True)
        skip = self.skip(_channels_last(_centres(x)))
        return hidden, self.down(hidden, activate=True, add=skip)

    def differentiate(self, gradient: Tensor, hidden: Tensor | None, out: Tensor, shape: torch.Size) -> Tensor:
        assert hidden is not None
        gradient = _through_activation(gradient, out, self.down.negative_slope)
        inner = _through_activation(self.down.input_gradient(gradient, hidden.shape), hidden, self.conv.negative_slope)
        found = self.conv.input_gradient(inner, shape)
        centres = _centres(found)
        centres += self.skip.input_gradient(gradient, centres.shape)
        return found


class FusedUpBlock(Fused):
    """An :class:`UpBlock`."""

    def __init__(self, block: UpBlock) -> None:
        super().__init__()
        self.conv, self.up, self.skip = (
            FrozenConv(conv, block.negative_slope) for conv in (block.conv, block.up, block.skip)
        )
        self.size = block.size

    def run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.conv(x, activate=True)
        skip = _enlarged(self.skip(x), self.size)
        return hidden, self.up(_enlarged(hidden, self.size), activate=True, add=skip)

    def differentiate(self, gradient: Tensor, hidden: Tensor | None, out: Tensor, shape: torch.Size) -> Tensor:
        assert hidden is not None
        gradient = _through_activation(gradient, out, self.up.negative_slope)
        inner = _adjoint_of_enlarged(self.up.input_gradient(gradient, gradient.shape), hidden.shape)
        inner = _through_activation(inner, hidden, self.conv.negative_slope)
        skip = self.skip.input_gradient(_adjoint_of_enlarged(gradient, hidden.shape), shape)
        return self.conv.input_gradient(inner, shape, add=skip)


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, module: Fused) -> Tensor:
        hidden, out = module.run(_channels_last(x.to(module.conv.weight.dtype)))
        ctx.module, ctx.shape, ctx.dtype = module, x.shape, x.dtype
        ctx.save_for_backward(hidden, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        hidden, out = ctx.saved_tensors
        found = ctx.module.differentiate(_channels_last(gradient), hidden, out, ctx.shape)
        return found.to(ctx.dtype), None


def _channels_last(x: Tensor) -> Tensor:
    """`x` with its channels last in memory, by its strides as well: PyTorch takes one channel for either layout."""
    _, channels, height, width = x.shape
    strides = (height * width * channels, 1, width * channels, channels)
    return x.contiguous(memory_format=torch.channels_last).as_strided(x.shape, strides)


def _centres(x: Tensor) -> Tensor:
    """The pixels on which the unpadded 3 x 3 kernels of stride 2 are centred."""
    return x[..., 1:-1:2, 1:-1:2]


def _through_activation(gradient: Tensor, result: Tensor, negative_slope: float) -> Tensor:
    """Gradient before a leaky-ReLU from that behind it; the sign of its result is that of its input."""
    return torch.ops.aten.leaky_relu_backward(gradient, result, negative_slope, True)


def _enlarged(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _adjoint_of_enlarged(gradient: Tensor, shape: torch.Size) -> Tensor:
    return torch.ops.aten.upsample_bilinear2d_backward(
        gradient, list(gradient.shape[2:]), list(shape), False, None, None
    )
