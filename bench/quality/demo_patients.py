"""Detection and seconds of ``lesioncore demo`` in its first patients: one alone may be a lucky one.

    python bench/quality/demo_patients.py

Six heads are made around the template's brain, and three phantoms of each contrast. Writes ``demo.json``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for bench/common
from common.machine import environment
from common.options import parser
from common.results import write_json

from lesioncore.demo import PATIENTS, demo


def main() -> None:
    arguments = parser(__doc__, writes="demo.json", voxel_size=1.0)
    arguments.add_argument("--heads", type=int, default=6, help="heads around the template's brain")
    arguments.add_argument("--phantoms", type=int, default=3, help="phantoms of each contrast")
    options = arguments.parse_args()
    rows = []
    for patient, contrasts in PATIENTS.items():
        for contrast in contrasts:
            found = []
            for subject in range(options.heads if patient == "template" else options.phantoms):
                with tempfile.TemporaryDirectory() as folder:
                    report = demo(
                        folder, patient=patient, contrast=contrast, subject=subject, voxel_size=options.voxel_size
                    )
                print("\n".join(report.lines()[:9]), flush=True)
                found.append({key: value for key, value in report.to_dict().items() if key != "files"})
            rows.append({"patient": patient, "contrast": contrast, "found": found})
    write_json(options.out / "demo.json", {**environment("cpu"), "voxel_size": options.voxel_size, "rows": rows})


if __name__ == "__main__":
    main()
