"""Restoration of stacks of slices in shared batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lesioncore.data.stack import SliceStack
from lesioncore.engine.batches import batch_size_for, computing
from lesioncore.engine.gradient import ElboGradient
from lesioncore.engine.precision import multiplying_in
from lesioncore.restoration.run import Run
from lesioncore.solvers import Objective, Solution, TotalVariation


def solve_stacks(
    stacks: Sequence[SliceStack],
    prior: Any,
    run: Run,
    *,
    seed: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Solution]:
    """Restore prepared stacks in shared batches.

    Slices without brain are not computed. With ``tv_dimensions=3`` each stack with a voxel size is one coupled problem;
    stacks whose voxels have the same shape are solved together until they fill a batch.

    Parameters
    ----------
    stacks : sequence of SliceStack
        Slices to restore.
    prior : Prior
        The prior of the run; a module is moved to the run's device.
    run : Run
        Decided options.
    seed : int, optional
        Seed of the latent samples; when absent, the latents' mean is taken.
    progress : callable, optional
        Called as ``progress(done, steps)`` after each step of each group of stacks.

    Returns
    -------
    list of Solution
        The solution of each stack, on the CPU.

    Raises
    ------
    ValueError
        If the prior's ELBO, or its gradient, is NaN or infinite.
    """
    if isinstance(prior, torch.nn.Module):
        prior.to(run.device)
    solutions: dict[int, Solution] = {}
    with computing(run.device):  # also while results are copied, since the next loop reuses a graph's memory
        for tv, indices in _groups(stacks, run):
            solved = _solve_together([stacks[i] for i in indices], prior, run, tv, seed=seed, progress=progress)
            solutions.update(zip(indices, solved, strict=True))
    return [solutions[i] for i in range(len(stacks))]


def _groups(stacks: Sequence[SliceStack], run: Run) -> list[tuple[TotalVariation, list[int]]]:
    """Indices of the stacks that are solved together: those of one data term, coupled ones until they fill a batch."""
    groups_of: dict[TotalVariation, list[list[int]]] = {}
    for i, stack in enumerate(stacks):
        tv = run.config.total_variation(stack.voxel_size)
        groups = groups_of.setdefault(tv, [[]])
        fills = run.config.batch_size or batch_size_for(stack.slices, run.device)
        if tv.depth_weight > 0 and sum(len(stacks[j].slices) for j in groups[-1]) >= fills:
            groups.append([])
        groups[-1].append(i)
    return [(tv, group) for tv, groups in groups_of.items() for group in groups]


def _solve_together(
    stacks: Sequence[SliceStack],
    prior: Any,
    run: Run,
    tv: TotalVariation,
    *,
    seed: int | None,
    progress: Callable[[int, int], None] | None,
) -> list[Solution]:
    """Solutions of stacks with one data term."""
    start = time.perf_counter()
    config, device = run.config, run.device
    keep = [stack.brain_rows for stack in stacks]
    if tv.depth_weight > 0:
        for rows in keep:
            # A slice on either side of the brain is kept for its residual of 0; slices beyond it change nothing.
            brain = rows.nonzero()[:, 0]
            if len(brain):
                rows[max(0, int(brain[0]) - 1) : int(brain[-1]) + 2] = True
    y = _joined([stack.slices for stack in stacks], keep).to(device)
    mask = _joined([stack.mask for stack in stacks], keep).to(device)
    # A slice's seed follows from its index in its own scan, so that a scan has the same result alone and in a list.
    noise_seeds = None if seed is None else [seed * 1_000_003 + int(i) for rows in keep for i in rows.nonzero()]
    solver = config.decided_solver
    elbo = ElboGradient(
        prior,
        batch_size=config.batch_size,
        noise_seeds=noise_seeds,
        kl_weight=config.kl_weight,
        fix_posterior=solver.fixes_posterior,
        dtype=torch.bfloat16 if run.precision == "bfloat16" else torch.float32,
    )
    counts = [int(rows.sum()) for rows in keep]
    objective = Objective(elbo, run.tv_weight, tv, counts)
    with multiplying_in(run.precision, device):
        joint = solver.solve(y, mask, objective, progress)
        restored, values = joint.restored.cpu(), joint.objective.cpu()
    if not (values.isfinite().all() and restored.isfinite().all()):
        raise ValueError(
            f"prior: {run.metadata.name!r} has a NaN or infinite ELBO, or gradient, for these slices, expected finite"
            " ones; check its weights and its elbo(x)"
        )
    seconds = (time.perf_counter() - start) / len(stacks)
    solutions = []
    parts = restored.split(counts)
    curves = values.split(1 if tv.depth_weight > 0 else counts, dim=1)
    for stack, rows, part, curve in zip(stacks, keep, parts, curves, strict=True):
        if not rows.all():
            whole = stack.slices.clone()
            whole[rows] = part
            part = whole
        elif len(stacks) > 1:
            part = part.clone()  # a view would keep the memory of all stacks
        solutions.append(Solution(part, curve, elbo.backend, seconds))
    return solutions


def _joined(wholes: list[Tensor], keep: list[Tensor]) -> Tensor:
    """Concatenate the slices to keep of several stacks, without a copy for a single stack of which all are kept."""
    parts = [whole if rows.all() else whole[rows] for whole, rows in zip(wholes, keep, strict=True)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)
