"""Scores of healthy people, computed from their residuals, from which thresholds follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import add

from torch import Tensor

from lesioncore.calibration.healthy import HealthyScores, merged
from lesioncore.data.stack import SliceStack
from lesioncore.scoring.deviation import deviation, score_of
from lesioncore.scoring.options import Scoring
from lesioncore.scoring.spread_map import SpreadMap


def healthy_scores(
    residuals: Sequence[Tensor], stacks: Sequence[SliceStack], scoring: Scoring
) -> tuple[dict[tuple[int, float], HealthyScores], SpreadMap | None]:
    """Scores of healthy people for each sign, and if asked for the map of their spread at each place.

    With a map, each person's scores are divided by the map of all the others, as a new person's are by that of all.

    Parameters
    ----------
    residuals : sequence of Tensor
        ``[N, 1, H, W]``, signed, z-scores, of each person.
    stacks : sequence of SliceStack
        The scans that the residuals belong to.
    scoring : Scoring
        How residuals are scored, and whether a map is made; its sign has no effect.

    Returns
    -------
    dict
        Scores for each pair of a sign (1, -1 and 0) and an asymmetry (0 and that of `scoring`).
    SpreadMap or None
        The map of all people, if `scoring` asks for one.

    Raises
    ------
    ValueError
        If a map is asked for and not all stacks are registered.
    """
    maps: list[SpreadMap] = []
    if scoring.spread_map:
        if not all(stack.registered for stack in stacks):
            raise ValueError(
                "spread_map: not all healthy scans are registered; preprocess them with the step 'register', or set it"
                " to False"
            )
        for residual, stack in zip(residuals, stacks, strict=True):
            scored = deviation(residual, stack, Scoring(scoring.smoothing, standardize=True))
            maps.append(SpreadMap.of(scored.values, stack.mask))
    shares = sorted({0.0, scoring.asymmetry})
    of_all = reduce(add, maps) if maps else None
    summaries: dict[tuple[int, float], list[HealthyScores]] = {
        (sign, share): [] for share in shares for sign in (0, 1, -1)
    }
    for number, (residual, stack) in enumerate(zip(residuals, stacks, strict=True)):
        others = None if of_all is None else of_all - maps[number]
        for share in shares:
            scored = deviation(residual, stack, replace(scoring, asymmetry=share), others)
            values = stack.in_brain(scored.values)
            for sign in (0, 1, -1):
                scores = HealthyScores.of(score_of(values, sign), stack.bend, stack.extent, scored.spread)
                summaries[sign, share].append(scores)
    return {which: merged(people) for which, people in summaries.items()}, of_all
