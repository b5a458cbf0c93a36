"""Figures by groups of people: age, sex, site, and size and contrast of the lesion."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from lesioncore.data.participants import participant_of
from lesioncore.evaluation.case import CaseScore
from lesioncore.evaluation.summary import interval, mean_and_sd, pooled, value_or_none
from lesioncore.metrics import bootstrap_interval, bootstrap_mean
from lesioncore.subjects import FileSubject, Subject

UNKNOWN = "unknown"
"""Stratum of those whose value is missing."""

OF_LESIONS: dict[str, Callable[[CaseScore], float | None]] = {
    "lesion_size": lambda case: case.lesion_ml or None,
    "lesion_contrast": lambda case: case.contrast,
}
"""Columns that no table has: volume of the lesion, ml, and its contrast with what is around it."""

_MOST_VALUES = 4  # numbers of so many different values, such as codes, are values and not cut into bands


@dataclass(frozen=True)
class By:
    """A column that people are grouped by.

    Attributes
    ----------
    column : str
        Of ``participants.tsv``, or one of :data:`OF_LESIONS`.
    edges : tuple of float
        Where bands of a numeric column end; the band above begins with the edge. Quartiles when empty.
    """

    column: str
    edges: tuple[float, ...] = ()


def parse_by(texts: Sequence[str]) -> list[By]:
    """Read columns with their edges, such as ``age:40,60,sex``; ``ValueError`` if a text cannot be understood."""
    found: dict[str, list[float]] = {}
    for piece in (piece.strip() for text in texts for piece in text.split(",")):
        column, colon, first = piece.partition(":")
        try:
            number = float(first if colon else piece)
        except ValueError:
            number = math.nan
        if not colon and not math.isnan(number) and found and list(found.values())[-1]:
            list(found.values())[-1].append(number)
        elif not column or column in found or (colon and math.isnan(number)):
            raise ValueError(
                f"by: got {piece!r} in {','.join(texts)}, expected columns, each once, such as age:40,60,sex"
            )
        else:
            found[column] = [number] if colon else []
    for column, edges in found.items():
        if edges != sorted(set(edges)):
            raise ValueError(f"by: got the edges {edges} of {column}, expected ascending numbers")
    return [By(column, tuple(edges)) for column, edges in found.items()]


def facts_of(subjects: Sequence[Subject]) -> list[dict[str, str | None]]:
    """What the tables of their data sets tell of the people; nothing of simulated ones."""
    return [participant_of(s.scan, s.person) if isinstance(s, FileSubject) else {} for s in subjects]


def check_columns(by: Sequence[By], facts: Sequence[Mapping[str, str | None]]) -> None:
    """Raise ``ValueError`` if no data set has a column, or one with edges holds something else than numbers."""
    known = list(dict.fromkeys(column for row in facts for column in row))
    for one in by:
        if one.column in OF_LESIONS:
            continue
        if one.column not in known:
            raise ValueError(
                f"by: got {one.column}, but no participants.tsv has this column; expected one of"
                f" {', '.join([*known, *OF_LESIONS])}"
            )
        wrong = [value for row in facts if (value := row.get(one.column)) is not None and _number(value) is None]
        if one.edges and wrong:
            raise ValueError(f"by: got edges for {one.column}, but it holds {wrong[0]!r}; give it without edges")


def stratify(
    patients: Mapping[str, Sequence[CaseScore]],
    healthy: Mapping[str, Sequence[CaseScore]],
    facts: tuple[Sequence[Mapping[str, str | None]], Sequence[Mapping[str, str | None]]],
    by: Sequence[By],
) -> list[dict[str, Any]]:
    """Compute the figures of each stratum.

    Parameters
    ----------
    patients, healthy : mapping of str to sequence of CaseScore
        For each method, the scans with lesion masks and the healthy ones.
    facts : tuple of two sequences
        From :func:`facts_of`, of the patients and of the healthy people in the same order.
    by : sequence of By
        Columns. Those of lesions divide the patients alone, by what the first method's scores say of the scan.

    Returns
    -------
    list of dict
        JSON-able: ``by``, ``stratum``, numbers of ``people``, ``scans``, ``healthy_people``, ``healthy_scans``, and for
        each of the ``methods`` the ``auc`` of the pooled voxels of patients and, in ``at_limit``, means over scans of
        ``dice`` and ``fpr`` of patients and of ``healthy_fpr``. Each has an ``_interval``, as in
        :func:`lesioncore.evaluation.summarise`.
    """
    first = next(iter(patients))
    rows = []
    for one in by:
        values: list[list[Any]]
        if one.column in OF_LESIONS:
            values = [[OF_LESIONS[one.column](case) for case in patients[first]], []]
        else:
            values = [[row.get(one.column) for row in part] for part in facts]
        names, labels = _labels([*values[0], *values[1]], one.edges)
        for name in names:
            members = [
                [number for number, label in enumerate(part) if label == name]
                for part in (labels[: len(values[0])], labels[len(values[0]) :])
            ]
            ill, well = (
                [cases[first][i] for i in part] for cases, part in zip((patients, healthy), members, strict=True)
            )
            rows.append(
                {
                    "by": one.column,
                    "stratum": name,
                    "people": len({case.person for case in ill}),
                    "scans": len(ill),
                    "healthy_people": len({case.person for case in well}),
                    "healthy_scans": len(well),
                    "methods": {
                        method: _figures(
                            [patients[method][i] for i in members[0]], [healthy[method][i] for i in members[1]]
                        )
                        for method in patients
                    },
                }
            )
    return rows


def _figures(ill: Sequence[CaseScore], well: Sequence[CaseScore]) -> dict[str, Any]:
    figures: dict[str, Any] = {"auc": None, "auc_interval": None, "at_limit": []}
    if ill:
        figures["auc"] = value_or_none(pooled(ill).auc)
        figures["auc_interval"] = interval(bootstrap_interval, ill, [case.histogram for case in ill])
    for limit in [*ill, *well][0].at_limit:
        row: dict[str, Any] = {"limit": limit}
        for key, cases, name in (("dice", ill, "dice"), ("fpr", ill, "fpr"), ("healthy_fpr", well, "fpr")):
            numbers = [value_or_none(getattr, case.at_limit[limit].confusion, name) for case in cases]
            defined = [(case, number) for case, number in zip(cases, numbers, strict=True) if number is not None]
            row[key] = mean_and_sd(numbers)
            row[f"{key}_interval"] = interval(bootstrap_mean, [case for case, _ in defined], [n for _, n in defined])
        figures["at_limit"].append(row)
    return figures


def _labels(values: Sequence[Any], edges: Sequence[float]) -> tuple[list[str], list[str]]:
    """Names of the strata in their order, and that of each value."""
    numbers = [None if value is None else _number(value) for value in values]
    known = [number for number in numbers if number is not None]
    numeric = len(known) == sum(value is not None for value in values) and (edges or len(set(known)) > _MOST_VALUES)
    if numeric and known:
        quartiles = (float(f"{end:.3g}") for end in np.quantile(known, (0.25, 0.5, 0.75)))
        ends = list(dict.fromkeys(edges or quartiles))
        middle = [f"{low:g} to {high:g}" for low, high in pairwise(ends)]
        names = [f"below {ends[0]:g}", *middle, f"{ends[-1]:g} and more"]
        labels = [UNKNOWN if n is None else names[int(np.searchsorted(ends, n, side="right"))] for n in numbers]
    else:
        labels = [UNKNOWN if value is None else f"{value}" for value in values]
        names = sorted(set(labels) - {UNKNOWN})
    return [name for name in [*names, UNKNOWN] if name in labels], labels


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
