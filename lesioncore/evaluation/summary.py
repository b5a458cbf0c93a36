"""Figures of one method over all scans, and of two methods against each other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt

from lesioncore.evaluation.case import CaseScore, LimitScore
from lesioncore.metrics import (
    Confusion,
    LesionCounts,
    ScoreHistogram,
    UndefinedMetricError,
    bootstrap_interval,
    bootstrap_mean,
)

Floats = npt.NDArray[np.float64]


def pooled(cases: Sequence[CaseScore]) -> ScoreHistogram:
    """All voxels of all scans."""
    return reduce(add, (case.histogram for case in cases))


def summarise(patients: Sequence[CaseScore], healthy: Sequence[CaseScore], *, intervals: bool = True) -> dict[str, Any]:
    """Figures of one method (JSON-able).

    Parameters
    ----------
    patients : sequence of CaseScore
        Scans with a lesion mask.
    healthy : sequence of CaseScore
        Scans of healthy people, for the false-positive rate alone.
    intervals : bool
        Bootstrap 95 % intervals over subjects; needs two or more.

    Returns
    -------
    dict
        ``auc`` and ``average_precision`` of the pooled voxels; ``best_dice`` (the largest pooled Dice) and
        ``dice_at_youden`` (mean over subjects at the threshold that maximises TPR - FPR, the paper's DSC_AUC), both of
        which use the labels and are no result; ``at_limit`` with means and deviations over subjects, pooled lesion-wise
        figures, and the healthy people's rates; ``seconds``, the median time for a scan.
    """
    found: dict[str, Any] = {}
    if patients:
        whole = pooled(patients)
        best, _ = whole.best_dice()
        youden = whole.youden_threshold()
        found |= {
            "auc": whole.auc(),
            "average_precision": whole.average_precision(),
            "best_dice": best,
            "dice_at_youden": _spread([case.histogram.confusion(youden).dice for case in patients]),
        }
        if intervals and len(patients) > 1:
            histograms = [case.histogram for case in patients]
            for statistic in (ScoreHistogram.auc, ScoreHistogram.average_precision):
                found[f"{statistic.__name__}_interval"] = list(bootstrap_interval(histograms, statistic))
    limits = list(dict.fromkeys(limit for case in [*patients, *healthy] for limit in case.at_limit))
    found["at_limit"] = [
        {
            "limit": limit,
            **(_patients_at(limit, [case.at_limit[limit] for case in patients], intervals) if patients else {}),
            **(_healthy_at(limit, [case.at_limit[limit] for case in healthy]) if healthy else {}),
        }
        for limit in limits
    ]
    found["seconds"] = float(np.median([case.seconds for case in [*patients, *healthy]]))
    return found


def compare(first: Sequence[CaseScore], second: Sequence[CaseScore]) -> dict[str, Any]:
    """Paired differences of two methods on the same scans, `first` minus `second` (JSON-able).

    The intervals are 95 % bootstrap intervals over subjects, with the same subjects drawn for both.

    Raises
    ------
    ValueError
        If the scans are not the same in the same order, or fewer than two.
    """
    if [case.subject for case in first] != [case.subject for case in second]:
        raise ValueError("second: expected the scans of first, in the same order")
    histograms = [[case.histogram for case in cases] for cases in (first, second)]
    found: dict[str, Any] = {
        "auc": pooled(first).auc() - pooled(second).auc(),
        "auc_interval": list(bootstrap_interval(histograms[0], versus=histograms[1])),
    }
    for limit in first[0].at_limit:
        if limit in second[0].at_limit:
            dices = [[case.at_limit[limit].confusion.dice for case in cases] for cases in (first, second)]
            found[f"dice_{limit:g}"] = float(np.mean(dices[0]) - np.mean(dices[1]))
            found[f"dice_{limit:g}_interval"] = list(bootstrap_mean(dices[0], versus=dices[1]))
    return found


def per_subject(score: LimitScore, statistic: str) -> float:
    """A voxel statistic of one scan; NaN where it has no value."""
    found = _defined(score.confusion, statistic)
    return float("nan") if found is None else found


def _patients_at(limit: float, scores: Sequence[LimitScore], intervals: bool) -> dict[str, Any]:
    dices = [score.confusion.dice for score in scores]
    lesions = reduce(add, (score.lesions for score in scores))
    distances = [score.hausdorff for score in scores if score.hausdorff is not None]
    row: dict[str, Any] = {"dice": _spread(dices)}
    if intervals and len(scores) > 1:
        row["dice_interval"] = list(bootstrap_mean(dices))
    for name in ("sensitivity", "precision", "fpr"):
        row[name] = _spread([per_subject(score, name) for score in scores])
    for name in ("recall", "precision", "f1"):
        row[f"lesion_{name}"] = _defined(lesions, name)
    row["hausdorff_mm"] = float(np.median(distances)) if distances else None
    row["hausdorff_scans"] = len(distances)
    return row


def _healthy_at(limit: float, scores: Sequence[LimitScore]) -> dict[str, Any]:
    rates = [score.confusion.fpr for score in scores]
    return {
        "healthy_fpr": reduce(add, (score.confusion for score in scores)).fpr,
        "healthy_fpr_of_subjects": _spread(rates),
        "healthy_fpr_largest": float(np.max(rates)),
        "healthy_above_limit": float(np.mean(np.asarray(rates) > limit)),
    }


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    """Mean and population deviation over the subjects that have a value."""
    known: Floats = np.asarray([value for value in values if not np.isnan(value)])
    return {"mean": float(known.mean()), "sd": float(known.std())} if len(known) else None


def _defined(counts: Confusion | LesionCounts, statistic: str) -> float | None:
    try:
        return float(getattr(counts, statistic))
    except UndefinedMetricError:
        return None
