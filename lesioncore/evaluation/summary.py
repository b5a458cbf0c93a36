"""Statistics of one method over all scans, and differences of two methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from typing import Any, TypeVar

import numpy as np

from lesioncore.data.reduction import tree_reduce
from lesioncore.evaluation.boxes import IOUS
from lesioncore.evaluation.case import CaseScore, LimitScore
from lesioncore.metrics import ScoreHistogram, UndefinedMetricError, bootstrap_interval, bootstrap_mean

T = TypeVar("T")


def summarise(patients: Sequence[CaseScore], healthy: Sequence[CaseScore]) -> dict[str, Any]:
    """Summarise the scores of one method.

    Parameters
    ----------
    patients : sequence of CaseScore
        Scans with a lesion mask.
    healthy : sequence of CaseScore
        Scans of healthy people, for the false-positive rate alone.

    Returns
    -------
    dict
        JSON-able; None stands for undefined values, such as the AUC of scans without lesions.

        - ``auc`` and ``average_precision`` of the pooled voxels, with 95 % bootstrap intervals over people
          (``auc_interval``; None for a single person);
        - ``best_dice``, the largest pooled Dice, and ``dice_at_youden``, the scans' Dice at the threshold that
          maximises TPR - FPR (the paper's DSC_AUC): both choose the threshold with the labels, so they are no results
          of an unsupervised method;
        - ``at_limit``, a row for each limit: means and standard deviations over scans, pooled lesion-wise statistics,
          and the false-positive rates of healthy people. The mean precision is that of the ``precision_scans`` on which
          something is detected; on ``silent_scans`` nothing is;
        - ``unusual``, a row with the remarks on each scan that is unlike the healthy ones of the method's calibration;
        - ``seconds``, the median time for a scan.

        Statistics of patients are left out without patients, and those of healthy people without healthy people.
    """
    summary: dict[str, Any] = {}
    if patients:
        total, histograms = pooled(patients), [case.histogram for case in patients]
        for statistic in (ScoreHistogram.auc, ScoreHistogram.average_precision):
            summary[statistic.__name__] = value_or_none(statistic, total)
            summary[f"{statistic.__name__}_interval"] = interval(bootstrap_interval, patients, histograms, statistic)
        best, youden = value_or_none(total.best_dice), value_or_none(total.youden_threshold)
        summary["best_dice"] = None if best is None else best[0]
        summary["dice_at_youden"] = (
            None if youden is None else mean_and_sd([histogram.confusion(youden).dice for histogram in histograms])
        )
    summary["at_limit"] = [
        {
            "limit": limit,
            **(_patients_at(limit, patients) if patients else {}),
            **(_healthy_at(limit, [case.at_limit[limit] for case in healthy]) if healthy else {}),
        }
        for limit in next((case.at_limit for case in [*patients, *healthy]), {})
    ]
    summary["unusual"] = [
        {"subject": case.subject, "remarks": list(case.remarks)} for case in [*patients, *healthy] if case.remarks
    ]
    seconds = [case.seconds for case in [*patients, *healthy]]
    summary["seconds"] = float(np.median(seconds)) if seconds else None
    return summary


def summarise_boxes(cases: Sequence[CaseScore]) -> list[dict[str, Any]]:
    """Summarise how well a method's detections find the boxes that experts have drawn, all scans together.

    Parameters
    ----------
    cases : sequence of CaseScore
        Scans that were scored with boxes.

    Returns
    -------
    list of dict
        JSON-able, a row for each limit and intersection over union: ``limit``, ``iou``, numbers of ``boxes``,
        ``images`` and ``detections``, ``precision``, ``recall``, ``average_precision``, ``accuracy`` (share of the
        images with a box in which one is found), and ``silent_scans``, on which nothing is detected. None stands for
        undefined values.
    """
    rows = []
    for limit in next((case.at_limit for case in cases), {}):
        for number, iou in enumerate(IOUS):
            counts = [case.at_limit[limit].boxes[number] for case in cases]
            total = tree_reduce(add, counts)
            row: dict[str, Any] = {"limit": limit, "iou": iou, "boxes": total.boxes, "images": total.images}
            row |= {"detections": len(total.true), "silent_scans": sum(not one.true for one in counts)}
            for name in ("precision", "recall", "average_precision", "accuracy"):
                row[name] = value_or_none(getattr, total, name)
            rows.append(row)
    return rows


def compare(first: Sequence[CaseScore], second: Sequence[CaseScore]) -> dict[str, Any]:
    """Compute paired differences of two methods on the same scans with lesion masks, `first` minus `second`.

    Parameters
    ----------
    first, second : sequence of CaseScore
        Scores of the two methods, with the scans in the same order.

    Returns
    -------
    dict
        JSON-able: ``auc`` of the pooled voxels, and in ``at_limit`` a row with the mean ``dice`` for each limit that
        both have. ``auc_interval`` and ``dice_interval`` are 95 % bootstrap intervals over people, with the same
        people drawn for both methods. None stands for undefined values.

    Raises
    ------
    ValueError
        If the scans are not the same in the same order.
    """
    if [case.subject for case in first] != [case.subject for case in second]:
        raise ValueError("second: expected the scans of first, in the same order")
    histograms = [[case.histogram for case in cases] for cases in (first, second)]
    aucs = [value_or_none(pooled(cases).auc) for cases in (first, second)]
    differences: dict[str, Any] = {
        "auc": None if aucs[0] is None or aucs[1] is None else aucs[0] - aucs[1],
        "auc_interval": interval(bootstrap_interval, first, histograms[0], versus=histograms[1]),
        "at_limit": [],
    }
    for limit in first[0].at_limit:
        if limit in second[0].at_limit:
            dices = [[case.at_limit[limit].confusion.dice for case in cases] for cases in (first, second)]
            row: dict[str, Any] = {"limit": limit, "dice": float(np.mean(dices[0]) - np.mean(dices[1]))}
            row["dice_interval"] = interval(bootstrap_mean, first, dices[0], versus=dices[1])
            differences["at_limit"].append(row)
    return differences


def pooled(cases: Sequence[CaseScore]) -> ScoreHistogram:
    """Sum the histograms of all scans."""
    return reduce(add, (case.histogram for case in cases))


def value_or_none(metric: Callable[..., T], *arguments: Any, **options: Any) -> T | None:
    """Compute a metric, or return None where it is undefined."""
    try:
        return metric(*arguments, **options)
    except UndefinedMetricError:
        return None


def _patients_at(limit: float, cases: Sequence[CaseScore]) -> dict[str, Any]:
    scores = [case.at_limit[limit] for case in cases]
    dices = [score.confusion.dice for score in scores]
    lesions = reduce(add, (score.lesions for score in scores))
    distances = [score.hausdorff for score in scores if score.hausdorff is not None]
    row: dict[str, Any] = {"dice": mean_and_sd(dices), "dice_interval": interval(bootstrap_mean, cases, dices)}
    for name in ("sensitivity", "precision", "fpr"):
        row[name] = mean_and_sd([value_or_none(getattr, score.confusion, name) for score in scores])
    row["precision_scans"] = sum(score.confusion.tp + score.confusion.fp > 0 for score in scores)
    row["silent_scans"] = len(scores) - row["precision_scans"]
    for name in ("recall", "precision", "f1"):
        row[f"lesion_{name}"] = value_or_none(getattr, lesions, name)
    row["detections"] = lesions.true_detections + lesions.false_detections
    row["hausdorff_mm"] = float(np.median(distances)) if distances else None
    row["hausdorff_scans"] = len(distances)
    return row


def _healthy_at(limit: float, scores: Sequence[LimitScore]) -> dict[str, Any]:
    rates = [score.confusion.fpr for score in scores]
    return {
        "healthy_fpr": reduce(add, (score.confusion for score in scores)).fpr,
        "healthy_fpr_of_subjects": mean_and_sd(rates),
        "healthy_fpr_largest": max(rates),
        "healthy_above_limit": sum(rate > limit for rate in rates) / len(rates),
    }


def mean_and_sd(values: Sequence[float | None]) -> dict[str, float] | None:
    """Mean and population standard deviation of the values that are defined; None if none is."""
    defined = [value for value in values if value is not None]
    return {"mean": float(np.mean(defined)), "sd": float(np.std(defined))} if defined else None


def interval(
    bootstrap: Callable[..., tuple[float, float]], cases: Sequence[CaseScore], *arguments: Any, **options: Any
) -> list[float] | None:
    """Compute a bootstrap interval over people; None for a single person, or if too few people have a lesion."""
    people = [case.person for case in cases]
    bounds = value_or_none(bootstrap, *arguments, people=people, **options) if len(set(people)) > 1 else None
    return None if bounds is None else list(bounds)
