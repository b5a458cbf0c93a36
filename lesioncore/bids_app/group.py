"""The group level: tables of volumes, made from the sidecars of restored images."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from lesioncore.about import NOTE
from lesioncore.bids_app.command import BidsApp
from lesioncore.bids_app.dataset import check_output, logged, write_text
from lesioncore.bids_app.selection import label_filter
from lesioncore.cli.output import CommandError, Outcome, Output
from lesioncore.data.files import difference, write_json
from lesioncore.data.names import contrast_of
from lesioncore.data.table_cells import table_cell
from lesioncore.report.group import write_group_page
from lesioncore.report.page import read_summary, report_path
from lesioncore.report.saved import read_sidecar
from lesioncore.words import counted, people

_LIMITS = {"0.01": "detected_fpr01_ml", "0.05": "detected_fpr05_ml", "0.1": "detected_fpr10_ml"}
_DETECTED = {
    column: {
        "Description": f"Volume detected at a false-positive limit of {100 * float(limit):g} %; n/a without thresholds",
        "Units": "mL",
    }
    for limit, column in _LIMITS.items()
}
_VOLUMES = {
    "participant_id": {"Description": "Person"},
    "session_id": {"Description": "Session; n/a where the dataset has none"},
    "contrast": {"Description": "Suffix of the scan: T1w, T2w or FLAIR"},
    "scan": {"Description": "The scan, from the root of its dataset"},
    "brain_ml": {"Description": "Volume of the brain mask", "Units": "mL"},
    **_DETECTED,
    "candidates": {"Description": "Number of lesion candidates in the scan's report; n/a where there is none"},
    "remarks": {"Description": "Number of remarks in the scan's sidecar: in what it is unlike healthy ones"},
    "prior": {"Description": "Prior of healthy brains"},
    "version": {"Description": "Version of lesioncore"},
}
_SUMMARY = {
    "contrast": {"Description": "Suffix of the scans"},
    "scans": {"Description": "Number of scans"},
    "participants": {"Description": "Number of people with such a scan"},
    "scans_with_remarks": {"Description": "Number of scans with a remark"},
    **{
        f"median_{column}": {**text, "Description": f"Median over the scans. {text['Description']}"}
        for column, text in (("brain_ml", _VOLUMES["brain_ml"]), *_DETECTED.items())
    },
}


def write_group(app: BidsApp, output: Output) -> Outcome:
    """Write ``volumes.tsv`` and ``summary.tsv`` with their JSON files from the derivatives of the participant level.

    Parameters
    ----------
    app : BidsApp
        Options of the command line.
    output : Output
        Writer of the command's lines.

    Returns
    -------
    Outcome
        Not complete if results of a scan are not.
    """
    check_output(app.output_dir)
    patterns = ("sub-*/anat/*_desc-restored_*.json", "sub-*/ses-*/anat/*_desc-restored_*.json")
    sidecars = sorted(path for pattern in patterns for path in app.output_dir.glob(pattern))
    if not sidecars:
        raise CommandError(f"{app.output_dir}: got no results, expected those of the participant level; run it first")
    persons = {path.name.split("_")[0].removeprefix("sub-") for path in sidecars}
    visits = {path.parents[1].name.removeprefix("ses-") for path in sidecars if path.match("ses-*/anat/*")}
    has_labels = label_filter(app.participant_label, app.session_label, persons, visits)
    with logged(app, output):
        return _write_tables(app, [path for path in sidecars if has_labels(_labels_of(path))], output)


def _write_tables(app: BidsApp, sidecars: list[Path], output: Output) -> Outcome:
    rows, failed = [], []
    for path in sidecars:
        if app.modalities and contrast_of(path.with_suffix(".nii")) not in app.modalities:
            continue
        try:
            rows.append(_row(path))
        except (OSError, ValueError, LookupError) as error:
            place = path.relative_to(app.output_dir)
            reason = str(error).removeprefix(f"{path}: ")
            failed.append(
                output.error(CommandError(f"{place}: is not complete ({reason}); run the participant level again"))
            )
    rows.sort(key=lambda row: [row[column] for column in ("participant_id", "session_id", "contrast", "scan")])
    summary = [_summary(contrast, rows) for contrast in sorted({row["contrast"] for row in rows})]
    for name, columns, table in (("volumes", _VOLUMES, rows), ("summary", _SUMMARY, summary)):
        write_json(app.output_dir / f"{name}.json", columns, indent=2)
        rows_of_text = ["\t".join(columns), *("\t".join(_text(row[column]) for column in columns) for row in table)]
        write_text(app.output_dir / f"{name}.tsv", "\n".join(rows_of_text) + "\n")
    page = app.output_dir / "group.html"
    try:
        write_group_page(app.output_dir, page)
        output.say(f"page of the group: {page}")
    except (FileNotFoundError, ImportError) as error:
        output.note(f"no page of the group is written: {error}")
    for row in summary:
        output.say(
            f"{row['contrast']}: {counted(row['scans'], 'scan', 'scans')} of {people(row['participants'])}, median"
            f" brain {_text(row['median_brain_ml'])} ml, detected at 5 % {_text(row['median_detected_fpr05_ml'])} ml"
        )
    output.say(f"written to {app.output_dir}: volumes.tsv and summary.tsv")
    output.say(NOTE)
    facts = {"volumes": rows, "summary": summary, "failed": failed, "note": NOTE}
    return Outcome(facts, failed=bool(failed), some=bool(rows))


def _row(path: Path) -> dict[str, Any]:
    """Return a scan's row of the table; raise an error if a file is missing or its sidecar lacks an entry."""
    facts = read_sidecar(path)
    if (reason := difference(path.parent, facts["Files"])) is not None:
        raise ValueError(reason)
    source = facts["Sources"][0].removeprefix("bids:raw:")
    labels, detected = _labels_of(path), facts["DetectedMillilitres"]
    return {
        "participant_id": f"sub-{labels['sub']}",
        "session_id": f"ses-{labels['ses']}" if "ses" in labels else "n/a",
        "contrast": contrast_of(Path(source)),
        "scan": source,
        "brain_ml": facts["BrainMillilitres"],
        **{column: None if detected is None else detected[limit] for limit, column in _LIMITS.items()},
        "candidates": _candidates(report_path(path)),
        "remarks": len(facts["Remarks"]),
        "prior": facts["Prior"],
        "version": facts["GeneratedBy"]["Version"],
    }


def _candidates(report: Path) -> int | None:
    """Return the number of lesion candidates that a report lists, if it is there and the run had thresholds."""
    summary = read_summary(report) if report.exists() else None
    return summary["candidates"] if summary is not None and summary["detected_ml"] else None


def _summary(contrast: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the row of a contrast in the summary."""
    scans = [row for row in rows if row["contrast"] == contrast]
    summary: dict[str, Any] = {
        "contrast": contrast,
        "scans": len(scans),
        "participants": len({row["participant_id"] for row in scans}),
        "scans_with_remarks": sum(row["remarks"] > 0 for row in scans),
    }
    for column in ("brain_ml", *_DETECTED):
        values = [row[column] for row in scans if row[column] is not None]
        summary[f"median_{column}"] = round(median(values), 3) if values else None
    return summary


def _labels_of(path: Path) -> dict[str, str]:
    """Return the labels of participant and session in a file's name."""
    parts = [part.split("-", 1) for part in path.name.split("_")[:2]]
    return {part[0]: part[1] for part in parts if part[0] in ("sub", "ses")}


def _text(value: Any) -> str:
    return "n/a" if value is None else f"{value:.3f}" if isinstance(value, float) else table_cell(str(value))
