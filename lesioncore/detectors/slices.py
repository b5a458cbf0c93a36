"""Application of a function to the slices of many stacks, in batches that the stacks share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lesioncore.data.stack import SliceStack
from lesioncore.detectors.base import Progress
from lesioncore.engine.batches import batch_size_for, computing, in_batches
from lesioncore.engine.device import resolve_device


def map_slices(
    function: Callable[[Tensor, Tensor], Tensor],
    stacks: Sequence[SliceStack],
    model: nn.Module,
    *,
    device: str | torch.device,
    batch_size: int | None,
    progress: Progress | None,
) -> list[Tensor]:
    """Apply a function of a model to every slice with brain, without gradients.

    Parameters
    ----------
    function : callable
        Maps slices and masks, each ``[n, 1, H, W]`` on the device, to ``[n, 1, H, W]``.
    stacks : sequence of SliceStack
        Prepared scans; their slices share batches.
    model : nn.Module
        Put into evaluation mode and moved to the device.
    device : str or torch.device
        As for :func:`lesioncore.restore`.
    batch_size : int, optional
        Slices in one call of `function`; bounds memory. What suits the device when absent.
    progress : callable, optional
        Called as ``progress(slices done, all)`` after each batch.

    Returns
    -------
    list of Tensor
        ``[N, 1, H, W]`` on the CPU for each stack; 0 outside its mask.

    Raises
    ------
    ValueError
        If a value is NaN or infinite.
    """
    target = resolve_device(device)
    model.to(target).eval()
    rows = [stack.brain_rows for stack in stacks]
    slices = torch.cat([stack.slices[keep] for stack, keep in zip(stacks, rows, strict=True)])
    masks = torch.cat([stack.mask[keep] for stack, keep in zip(stacks, rows, strict=True)])
    outputs = torch.zeros_like(slices)
    with computing(target), torch.no_grad():

        def run(batch: slice) -> None:
            mask = masks[batch].to(target)
            outputs[batch] = torch.where(mask, function(slices[batch].to(target), mask), 0.0).cpu()
            if progress is not None:
                progress(batch.stop, len(slices))

        in_batches(run, len(slices), batch_size or batch_size_for(slices, target))
    if not outputs.isfinite().all():
        raise ValueError(
            f"model: {type(model).__name__} returned NaN or infinite values for these slices; check its weights"
        )
    results = []
    for stack, keep, output in zip(stacks, rows, outputs.split([int(keep.sum()) for keep in rows]), strict=True):
        result = torch.zeros_like(stack.slices)
        result[keep] = output
        results.append(result)
    return results
