"""What ``lesioncore demo`` finds in its first patients, and in how long: a demo of one may be a lucky one.

    python bench/demo.py                # 6 heads around the template's brain, 3 phantoms of each contrast

Writes ``demo.json``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from _bench import RESULTS, environment, write_json

from lesioncore.demo import PATIENTS, demo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--phantoms", type=int, default=3)
    parser.add_argument("--voxel-size", type=float, default=1.0, help="mm")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
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
