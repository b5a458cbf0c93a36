"""Convolutions of fixed weights, with what surrounds them in residual blocks and in their backward passes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lesioncore.ops import library, maps


class FrozenConvolution(nn.Module):
    """A convolution of fixed weights with what surrounds it: enlargement, a sum, the leaky-ReLU, its input's gradient.

    On CPUs in single precision these are oneDNN's fused convolutions, their weights reordered once. On CUDA devices
    they are lesioncore's own where there are few channels, else cuDNN's with one pass behind. Elsewhere they are
    PyTorch's. A unit stride's gradient is a convolution as well, with the kernel turned round and its channels
    exchanged.
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

    def forward(
        self, x: Tensor, *, size: tuple[int, int] | None = None, add: Tensor | None = None, activate: bool = False
    ) -> tuple[Tensor, Tensor]:
        """``act(conv(x) + add)``, `x` and `add` enlarged to `size`, and what :func:`through_activation` needs of it.

        That is a bit for each value where lesioncore's own operators run, elsewhere the values themselves.
        """
        if self._runs_native(x, size, add, activate):
            out, signs = maps.convolve(
                x,
                self.weight,
                bias=self.bias,
                skip=add,
                size=size,
                stride=self.stride[0],
                negative_slope=self.negative_slope,
                activate=activate,
            )
            return out, out if signs is None else signs
        if size is not None:
            x = _enlarged(x, size)
        if activate and _has_native(x) and len(self.weight) % 8 == 0:
            out = F.conv2d(x, self.weight, None, self.stride, self.padding)
            out = out.contiguous(memory_format=torch.channels_last)  # usually a no-op; cuDNN may return another layout
            return out, maps.activate_(out, bias=self.bias, skip=add, negative_slope=self.negative_slope)
        if size is not None and add is not None:
            add = _enlarged(add, size)
        if not _onednn_takes(x):
            out = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
            if add is not None:
                out += add
        else:
            fused = activate and add is None
            out = self._onednn(x, "weight", self.bias, self.stride, self.padding, add=add, activate=fused)
            activate = activate and not fused  # oneDNN has no leaky-ReLU behind a sum here
        if activate:
            F.leaky_relu_(out, self.negative_slope)
        return out, out

    def input_gradient(
        self, gradient: Tensor, shape: torch.Size, *, signs: Tensor | None = None, add: Tensor | None = None
    ) -> Tensor:
        """Gradient of an input of `shape` from that of the output, plus `add`.

        With `signs`, from that behind this convolution's activation.
        """
        outputs, inputs = self.weight.shape[:2]
        native = self._is_native(gradient, inputs, outputs, alone=add is None)
        takes_bits = native and self.stride == [1, 1]
        if signs is not None and not (takes_bits and signs.dtype == torch.uint8):
            gradient, signs = through_activation(gradient, signs, self.negative_slope), None
        if takes_bits:
            slope = self.negative_slope
            return maps.convolve(gradient, self.turned, skip=add, signs=signs, negative_slope=slope)[0]
        if self.stride == [1, 1] and _onednn_takes(gradient):
            padding = [size - 1 - pad for size, pad in zip(self.weight.shape[2:], self.padding, strict=True)]
            return self._onednn(gradient, "turned", None, [1, 1], padding, add=add)
        if native:
            result = maps.convolve_down_adjoint(gradient, self.weight, (shape[2], shape[3]))
        elif _has_native(gradient) and self.weight[0, 0].numel() == 1:
            result = torch.matmul(gradient.permute(0, 2, 3, 1), self.weight[:, :, 0, 0]).permute(0, 3, 1, 2)
        else:
            like = torch.empty(shape, dtype=gradient.dtype, device=gradient.device, memory_format=torch.channels_last)
            result = torch.ops.aten.convolution_backward(
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
        return result if add is None else result.add_(add)

    def _runs_native(self, x: Tensor, size: tuple[int, int] | None, add: Tensor | None, activate: bool) -> bool:
        """Whether lesioncore's own convolutions compute this one with what surrounds it."""
        outputs, inputs = self.weight.shape[:2]
        if activate and outputs % 8 != 0:
            return False  # there are eight bits to a byte of signs
        if size is not None and (2 * x.shape[2] > size[0] or 2 * x.shape[3] > size[1]):
            return False
        if x.dtype == torch.bfloat16 and self.stride == [2, 2]:
            return False  # cuDNN and a pass behind it are faster
        return self._is_native(x, outputs, inputs, alone=size is None and add is None)

    def _is_native(self, x: Tensor, outputs: int, inputs: int, *, alone: bool) -> bool:
        """Whether lesioncore's own convolutions take this one or its gradient.

        `alone`: there is nothing to enlarge or to add.
        """
        shape = self.weight.shape[2:], self.stride, self.padding
        if not _has_native(x) or shape not in (((3, 3), [1, 1], [1, 1]), ((3, 3), [2, 2], [0, 0])):
            return False
        if min(inputs, outputs) == 1:
            return alone and self.stride == [1, 1] and max(inputs, outputs) in _BESIDE_ONE
        backends: Any = torch.backends
        rounds = x.dtype == torch.bfloat16 or backends.cudnn.conv.fp32_precision == "tf32"
        return rounds and (inputs, outputs, self.stride[0]) in _ON_TENSOR_CORES and (alone or inputs == 16)

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


_BESIDE_ONE = (8, 16, 32, 64, 128, 256)
"""Channels on the other side of the convolutions from or to one channel that lesioncore computes itself on CUDA."""

_ON_TENSOR_CORES = {(16, 16, 1), (16, 32, 1), (32, 16, 1), (16, 16, 2)}
"""Input and output channels and stride of those that it computes itself on tensor cores; from 32 channels alone."""


def through_activation(gradient: Tensor, signs: Tensor, negative_slope: float) -> Tensor:
    """Gradient before a leaky-ReLU from that behind it; `signs` as :class:`FrozenConvolution` returns them."""
    if signs.dtype == torch.uint8:
        return maps.activation_gradient(gradient, signs, negative_slope=negative_slope)
    return torch.ops.aten.leaky_relu_backward(gradient, signs, negative_slope, True)


def adjoint_of_enlarged(
    gradient: Tensor,
    size: tuple[int, int],
    negative_slope: float,
    *,
    signs: Tensor | None = None,
    out_signs: Tensor | None = None,
) -> Tensor:
    """Gradient of a map of `size` from that of the enlarged one.

    With `signs` from that behind the enlarged map's activation, with `out_signs` before the small map's.
    """
    if signs is not None and signs.dtype != torch.uint8:
        gradient, signs = through_activation(gradient, signs, negative_slope), None
    behind = out_signs if out_signs is not None and out_signs.dtype != torch.uint8 else None
    if _has_native(gradient):  # PyTorch's adds up in an order that changes from run to run
        bits = None if behind is not None else out_signs
        result = maps.enlarge_adjoint(gradient, size, signs=signs, out_signs=bits, negative_slope=negative_slope)
    else:
        shape = [*gradient.shape[:2], *size]
        result = torch.ops.aten.upsample_bilinear2d_backward(
            gradient, list(gradient.shape[2:]), shape, False, None, None
        )
    return result if behind is None else through_activation(result, behind, negative_slope)


def _enlarged(x: Tensor, size: tuple[int, int]) -> Tensor:
    if _has_native(x):
        return maps.enlarge(x, size)
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _has_native(x: Tensor) -> bool:
    """Whether lesioncore's own operators between convolutions take a map; they are faster there."""
    return x.is_cuda and x.dtype in (torch.float32, torch.bfloat16) and library.cuda_loaded


def _onednn_takes(x: Tensor) -> bool:
    """Whether oneDNN's fused convolutions take a tensor."""
    usable = torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled) and x.device.type == "cpu"
    if x.dtype == torch.bfloat16:
        return usable and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return usable and x.dtype == torch.float32
