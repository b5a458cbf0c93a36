"""Seconds of the CPU and memory of all but the compute at 1,000 and 10,000 subjects.

    python bench/robustness/many_subjects.py             # some minutes
    python bench/robustness/many_subjects.py --counts 100 1000 --out /tmp

Scans of 8 x 8 x 6 voxels stand for real ones. Results of one, which a small random network restored, are copied to all
the others under their names, with hashes that hold, as a finished run leaves them. Measured are, each in a process of
its own, the search for scans in a BIDS dataset and in a folder of nnU-Net's form; the search for subjects with their
masks; ``lesioncore restore --resume`` and both levels of ``lesioncore-bids`` where every scan is finished, which end
with tables and pages of all; the same where all scans lie in one folder; calibrations of as many people merged; and
the tables of an evaluation of a tenth as many patients by two methods, with bootstrapped intervals: the histogram of
each scan and method takes .32 MB.

Writes ``many_subjects.json``: seconds of the CPU, which other work on the machine hardly changes, and the peak of the
memory above that at the step's start. A step's exponent is that of its time against the number of subjects: 1 is
linear, 2 quadratic.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import math
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import nibabel as nib
import numpy as np
import torch
from common.options import parser, started
from common.results import write_json

import lesioncore as lc
from lesioncore.bids_app import main as bids
from lesioncore.calibration.healthy import HealthyScores, merged
from lesioncore.cli import main as lesioncore
from lesioncore.data.bids import scans_in
from lesioncore.data.files import file_digest
from lesioncore.evaluation import Evaluation
from lesioncore.evaluation.case import CaseScore, LimitScore, score_histogram
from lesioncore.evaluation.report import write_report
from lesioncore.metrics import Confusion, LesionCounts
from lesioncore.report.page import Summary
from lesioncore.subjects import find_subjects

SHAPE, AFFINE = (8, 8, 6), np.diag([4.0, 4.0, 4.0, 1.0])
EVALUATION = "tables of an evaluation"
THUMBNAIL = "A" * 20_000  # as long as that of a scan


@dataclass(frozen=True)
class Cohort:
    """Files of so many subjects in a folder."""

    root: Path
    count: int

    @property
    def raw(self) -> Path:
        return self.root / "raw"

    @property
    def names(self) -> list[str]:
        return [f"sub-{number:06d}" for number in range(self.count)]

    def make(self) -> None:
        """Write the scans and masks, in BIDS, in one folder, and in nnU-Net's form."""
        random = np.random.default_rng(0)
        brain = np.zeros(SHAPE, bool)
        brain[1:-1, 1:-1, 1:-1] = True
        lesion = _packed(np.where(np.arange(brain.size).reshape(SHAPE) == 150, 1, 0).astype(np.uint8))
        self._prior(random.normal(400, 50, 5000).astype(np.float32))
        write(self.raw / "dataset_description.json", b'{"Name": "many", "BIDSVersion": "1.10.0"}')
        rows = [f"{name}\t{20 + number % 60}" for number, name in enumerate(self.names)]
        write(self.raw / "participants.tsv", "\n".join(["participant_id\tage", *rows, ""]).encode())
        cases = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in self.names]
        facts = {"channel_names": {"0": "T2"}, "numTraining": self.count, "training": cases, "file_ending": ".nii.gz"}
        write(self.root / "nnunet" / "dataset.json", json.dumps(facts).encode())
        masks = self.raw / "derivatives" / "manual"
        for name in self.names:
            scan = _packed(np.where(brain, random.normal(400, 50, SHAPE), 0).astype(np.float32))
            write(self.raw / name / "anat" / f"{name}_T2w.nii.gz", scan)
            write(masks / name / "anat" / f"{name}_label-lesion_mask.nii.gz", lesion)
            write(self.root / "flat" / f"{name}_T2w.nii.gz", scan)
            write(self.root / "nnunet" / "imagesTr" / f"{name}_0000.nii.gz", scan)

    def _prior(self, values: np.ndarray) -> None:
        torch.manual_seed(0)
        intensity = lc.IntensityScale.fit(torch.from_numpy(values))
        metadata = lc.PriorMetadata("noise", "T2w", lc.SliceGrid(4.0, (8, 8)), intensity)
        prior = lc.VAE(lc.VAEConfig((8, 8), (4, 6), 3), metadata).eval()
        people = merged([HealthyScores.of(torch.arange(1, 101) * scale) for scale in (0.005, 0.01)])
        settings = lc.RestoreConfig().for_prior(prior).settings()
        prior.metadata = metadata.with_calibration(lc.Calibration(settings, 0.5, people))
        lc.save_model(prior, self.root / "prior", card="A random network.\n")

    def finish(self) -> None:
        """Give every scan the results of the first, as runs over a dataset and over one folder leave them."""
        first, made = self.names[0], self.root / "made"
        scan = self.raw / first / "anat" / f"{first}_T2w.nii.gz"
        command = ["restore", str(scan), "-o", str(made), "--prior", str(self.root / "prior"), "--no-report"]
        done(lambda: lesioncore(command))
        facts = json.loads((made / f"{first}_desc-restored_T2w.json").read_text())
        contents = {name: (made / name).read_bytes() for name in facts["Files"]}
        summary: Summary = {
            "name": first,
            "prior": "noise",
            "contrast": "T2w",
            "brain_ml": facts["BrainMillilitres"],
            "detected_ml": {"5": 1.0},
            "allowed_ml": {"5": 2.0},
            "candidates": 1,
            "largest_ml": 1.0,
            "first": "left frontal lobe",
            "not_valid": None,
            "remarks": [],
            "version": lc.__version__,
            "thumbnail": THUMBNAIL,
        }
        for name in self.names:
            for folder, source in (("out", f"{name}/anat/{name}_T2w.nii.gz"), ("flat-out", f"{name}_T2w.nii.gz")):
                scan = (self.raw if folder == "out" else self.root / "flat") / source
                place = (self.root / folder / source).parent
                for old, content in contents.items():
                    write(place / old.replace(first, name), content)
                own = {
                    "Source": scan.name,
                    "SourceSHA256": file_digest(scan).hex(),
                    "Sources": [f"bids:raw:{source}"],
                    "Files": {old.replace(first, name): value for old, value in facts["Files"].items()},
                }
                write(place / f"{name}_desc-restored_T2w.json", json.dumps({**facts, **own}, indent=2).encode())
                text = json.dumps({**summary, "name": f"{name}_T2w"})
                page = f'<html><script type="application/json" id="summary">{text}</script></html>'
                write(place / f"{name}_desc-report_T2w.html", page.encode())
        shutil.rmtree(made)

    def steps(self) -> dict[str, Callable[[], object]]:
        """What is measured, by its name in the table."""
        root, prior = self.root, str(self.root / "prior")

        def resume(scans: str, out: str) -> Callable[[], int]:
            line = ["restore", str(root / scans), "-o", str(root / out), "--prior", prior, "--resume", "--workers", "1"]
            return lambda: lesioncore(line)

        options = ["--prior", prior, "--skip-bids-validation", "--n-procs", "1"]
        app = [str(self.raw), str(root / "out")]
        return {
            "scans of a BIDS dataset": lambda: expect(len(scans_in(self.raw, "T2w").scans), self.count),
            "scans of a folder of nnU-Net": lambda: expect(len(scans_in(root / "nnunet", "T2w").scans), self.count),
            "subjects with masks": lambda: expect(len(find_subjects([self.raw], modality="T2w")), self.count),
            "`restore --resume`, all finished": resume("raw", "out"),
            "the same, all scans in one folder": resume("flat", "flat-out"),
            "`lesioncore-bids participant`, all finished": lambda: bids([*app, "participant", *options]),
            "`lesioncore-bids group`": lambda: bids([*app, "group"]),
            "calibrations merged": lambda: expect(len(merged(self.people()).subjects), self.count),
            EVALUATION: lambda: self.evaluated() and None,
        }

    def people(self) -> list[HealthyScores]:
        """Healthy people, each with a summary of their own."""
        scores = torch.arange(1, 1001) / 1000
        return [HealthyScores.of(scores, bend=0.1 + number / 1e6) for number in range(self.count)]

    def evaluated(self) -> dict[str, Path]:
        """Write the tables of patients' scores by two methods."""
        random = np.random.default_rng(0)
        scores: dict[str, list[CaseScore]] = {"first": [], "second": []}
        for cases in scores.values():
            for name in self.names[: self.count // 10]:
                values, truth = random.normal(size=300), np.arange(300) < 20
                histogram = score_histogram(values + truth, truth, truth | True)
                found = int(random.integers(1, 20))
                limit = LimitScore(Confusion(found, 10, 20 - found, 270), LesionCounts(1, 1, 1, 2), 5.0)
                at_limit = dict.fromkeys((0.01, 0.05, 0.1), limit)
                cases.append(CaseScore(name, name, 0.02, 0.3, histogram, at_limit, 1.0))
        detectors = {method: {"calibration_subjects": 20, "thresholds": []} for method in scores}
        evaluation = Evaluation(scores, {method: [] for method in scores}, detectors)
        return write_report(evaluation, self.root / "evaluated", figures=False)


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _packed(values: np.ndarray) -> bytes:
    return gzip.compress(nib.Nifti1Image(values, AFFINE).to_bytes(), 1, mtime=0)


def expect(found: int, wanted: int) -> None:
    if found != wanted:
        raise RuntimeError(f"found {found}, expected {wanted}")


def done(work: Callable[[], object]) -> None:
    """Do work that has to end well, and keep what it says to errors."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = work()
    if code not in (None, 0):
        raise RuntimeError(f"ended with {code} and said: {said.getvalue()[-2000:]}")


def measured(work: Callable[[], object]) -> dict[str, float]:
    """Seconds of the CPU, and the peak of the memory above that at the start, of work in a process of its own."""
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def run() -> None:
        torch.set_num_threads(1)
        before, start = _memory("VmRSS"), time.process_time()
        done(work)
        sender.send((time.process_time() - start, _memory("VmHWM") - before))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()
    if process.exitcode != 0:
        raise RuntimeError("a step failed; its error is above")
    seconds, peak = receiver.recv()
    return {"seconds": round(seconds, 3), "peak_mb": round(peak, 1)}


def _memory(field: str) -> float:
    """A figure of this process's memory, MB."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1]) * 1024 / 1e6


def exponent(rows: dict[int, dict[str, float]]) -> float:
    """That of the seconds against the number of subjects."""
    (few, short), (many, long) = rows.items()
    return round(math.log(long["seconds"] / short["seconds"]) / math.log(many / few), 2)


def main() -> int:
    options_of = parser(__doc__, writes="many_subjects.json")
    options_of.add_argument("--counts", type=int, nargs=2, default=[1000, 10_000], help="numbers of subjects")
    options_of.add_argument("--only", default="", help="part of the names of the steps to measure")
    options = options_of.parse_args()
    options.device, options.threads = "cpu", 1
    facts = started(options)
    found: dict[str, dict[int, dict[str, float]]] = {}
    for count in options.counts:
        with tempfile.TemporaryDirectory() as folder:
            cohort = Cohort(Path(folder), count)
            cohort.make()
            cohort.finish()
            for name, step in cohort.steps().items():
                if options.only in name:
                    subjects = count // 10 if name == EVALUATION else count
                    found.setdefault(name, {})[subjects] = row = measured(step)
                    print(f"{subjects}: {name}: {row['seconds']:.2f} s, {row['peak_mb']:.0f} MB", flush=True)
    steps = [
        {
            "step": name,
            "counts": [{"subjects": count, **row} for count, row in rows.items()],
            "exponent": exponent(rows),
        }
        for name, rows in found.items()
    ]
    write_json(options.out / "many_subjects.json", {"environment": facts, "steps": steps})
    return 0


if __name__ == "__main__":
    sys.exit(main())
