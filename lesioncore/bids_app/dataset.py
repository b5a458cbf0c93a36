"""Files of the derivatives dataset that describe it as a whole, and the logs of runs."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from lesioncore.about import NOTE
from lesioncore.bids_app.command import PROGRAM, BidsApp
from lesioncore.cli.output import CommandError, Output
from lesioncore.data.files import replace_atomically, write_json
from lesioncore.data.json_files import read_object
from lesioncore.data.roots import leads_out

_BIDS_VERSION = "1.10.0"
_IGNORED = "*.html\nvolumes.*\nsummary.*\n"
"""Files that BIDS does not define."""

_README = f"""# Lesion detection by lesioncore

`lesioncore-bids` restored each scan to the most probable healthy image that is still close to it. What had to change is
where a lesion may be. {NOTE}

Files of a scan, such as `sub-01_T1w`, are in `sub-*/[ses-*/]anat`, on its own grid; each has a JSON file that says what
it was made from and how.

| file | content |
|---|---|
| `*_desc-restored_T1w.nii.gz` | most probable healthy image, in the scan's units |
| `*_desc-residual_T1w.nii.gz` | scan minus restored, z-scores |
| `*_desc-score_T1w.nii.gz` | detection map |
| `*_desc-brainT1w_mask.nii.gz` | brain |
| `*_label-L_desc-rankT1w_probseg.nii.gz` | fraction of healthy brain voxels that score lower |
| `*_label-L_desc-fpr01T1w_mask.nii.gz`, `fpr05`, `fpr10` | detections at limits of 1, 5 and 10 % false positives |
| `*_space-MNI152NLin2009aSym_res-2_*` | score and detections on the axes of the ICBM152 2009a template, if registered |

The probability map and the detections are missing where the prior has no thresholds for the settings. The group level
makes `volumes.tsv` and `summary.tsv`; `volumes.json` and `summary.json` describe their columns. `logs` has a file for
each run.
"""


def check_output(folder: Path) -> None:
    """Raise ``CommandError`` if the output is no folder, or holds a dataset of another program."""
    if folder.exists() and not folder.is_dir():
        raise CommandError(f"output_dir: {folder} exists and is no folder; choose another")
    description = folder / "dataset_description.json"
    if not description.exists():
        return
    try:
        programs = read_object(description)["GeneratedBy"]
        ours = any(program.get("Name") == "lesioncore" for program in programs)
    except (ValueError, KeyError, TypeError, AttributeError):
        ours = False
    if not ours:
        raise CommandError(f"output_dir: {folder} holds a dataset that lesioncore did not make; choose another folder")


def link_to(dataset: Path, folder: Path) -> str:
    """Return the path from the derivatives' folder to their dataset, as a relative URI."""
    return Path(os.path.relpath(dataset.resolve(), folder.resolve())).as_posix()


def write_dataset_files(dataset: Path, folder: Path) -> None:
    """Write ``dataset_description.json``, ``README.md`` and ``.bidsignore`` of a dataset's derivatives."""
    from lesioncore import __version__

    source = _description_of(dataset)
    origin = {"URL": link_to(dataset, folder)}
    if isinstance(source.get("DatasetDOI"), str):
        origin["DOI"] = source["DatasetDOI"]
    values = {
        "Name": f"Lesion detection by lesioncore: {source.get('Name', dataset.resolve().name)}",
        "BIDSVersion": _BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "lesioncore", "Version": __version__, "Description": PROGRAM}],
        "SourceDatasets": [origin],
        "DatasetLinks": {"raw": link_to(dataset, folder)},
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "dataset_description.json", values, indent=2)
    write_text(folder / "README.md", _README)
    write_text(folder / ".bidsignore", _IGNORED)


@contextmanager
def logged(app: BidsApp, output: Output) -> Iterator[None]:
    """Write all lines of a run to a new file in ``logs``, too, after its options."""
    from lesioncore import __version__

    logs = app.output_dir / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    # Runs on the nodes of a cluster may start in the same second.
    name = f"{app.analysis_level}_{datetime.now():%Y%m%dT%H%M%S}_{platform.node()}-{os.getpid()}.log"
    with open(logs / name, "w", encoding="utf-8") as log:
        log.write(f"{PROGRAM} {__version__}, Python {platform.python_version()}\n")
        log.writelines(f"{option}: {value}\n" for option, value in vars(app).items())
        output.log = log
        try:
            yield
        finally:
            output.log = None


def write_text(path: Path, text: str) -> None:
    """Write a text file, atomically."""
    with replace_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def _description_of(dataset: Path) -> dict[str, Any]:
    """Return the content of ``dataset_description.json``, empty if it cannot be read or leads out of the dataset."""
    path = dataset / "dataset_description.json"
    try:
        return {} if leads_out(path, dataset) is not None else read_object(path)
    except (OSError, ValueError):
        return {}
