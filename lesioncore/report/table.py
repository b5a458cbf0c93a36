"""The table of volumes of a folder of results."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from lesioncore.data.files import replace_atomically
from lesioncore.data.table_cells import table_cell
from lesioncore.metrics.limits import LIMITS
from lesioncore.report.saved import name_of, read_sidecar, sidecars_in

VOLUMES = "volumes.tsv"
"""Name of the table."""


def write_volumes(folder: Path) -> Path:
    """Write the volumes of all saved restorations in a folder and below.

    Parameters
    ----------
    folder : Path
        Folder with results, which receives ``volumes.tsv``: a row for each scan with its place in the folder, contrast
        and prior, volumes in ml of the brain and of what was detected at each limit (``n/a`` without thresholds), the
        number of remarks, and the version.

    Returns
    -------
    Path
        The table, replaced by one rename.

    Raises
    ------
    ValueError
        If a sidecar cannot be used.
    """
    rows = [_row(sidecar, folder) for sidecar in sidecars_in(folder)]
    path = folder / VOLUMES
    with replace_atomically(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["scan"], delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def _row(sidecar: Path, folder: Path) -> dict[str, Any]:
    facts = read_sidecar(sidecar)
    detected = facts["DetectedMillilitres"] or {}
    return {
        "scan": table_cell((sidecar.relative_to(folder).parent / name_of(sidecar, facts)).as_posix()),
        "contrast": table_cell(facts["Contrast"] or "n/a"),
        "prior": table_cell(facts["Prior"]),
        "brain_ml": facts["BrainMillilitres"],
        **{f"detected_fpr{100 * limit:02.0f}_ml": detected.get(f"{limit:g}", "n/a") for limit in LIMITS},
        "remarks": len(facts["Remarks"]),
        "version": table_cell(facts["GeneratedBy"]["Version"]),
    }
