"""``lesioncore evaluate`` as a user meets it: files, output, exit codes, going on, and what goes wrong."""

from __future__ import annotations

import json
from functools import partialmethod
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from support.evaluations import bootstrap_interval, bootstrap_mean
from support.patients import HEAD, lesion as lesion_at, scan, subjects_of, voxels

import lesioncore as lc
from lesioncore.cli import main
from lesioncore.data.roots import ROOTS
from lesioncore.detectors import MAPDetector, ProjectionDetector
from lesioncore.evaluation import case as case_module, evaluate, protocol
from lesioncore.evaluation.curves import Curves

pytestmark = pytest.mark.usefixtures("few_draws")


@pytest.fixture
def run(evaluation_paths, tmp_path, monkeypatch):
    """Runs a command line in which the names of `evaluation_paths` stand for their paths, and OUT for a new folder."""
    monkeypatch.chdir(tmp_path)

    def run(line: str) -> int:
        for name, path in {**evaluation_paths, "OUT": "out"}.items():
            line = line.replace(name, path)
        return main(["evaluate", *line.split()])

    return run


@pytest.fixture
def counted(monkeypatch) -> list[str]:
    """Names of the scans that were scored; appending "stop" beforehand interrupts at the second one."""
    calls: list[str] = []

    def score(detector, name, *arguments, **options):
        if calls[:1] == ["stop"] and len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(name)
        return case_module.score_case(detector, name, *arguments, **options)

    monkeypatch.setattr(protocol, "score_case", score)
    return calls


MAP = "MAP=PRIOR:map:solver=prox,tv_weight=1,tv_dimensions=2"
QUICK = "--no-figures -o OUT --methods PRIOR:intensity:sign=1"


def test_what_is_written_is_what_the_library_finds(run, evaluation_paths, capsys):
    line = "PATIENTS --healthy HEALTHY --calibration CALIBRATION --json --no-figures --limits 0.05 0.2 -o OUT"
    assert run(f"{line} --methods {MAP} smooth=PRIOR:projection:smoothing=6 U=UNET") == 0
    facts = json.loads(capsys.readouterr().out)
    assert list(facts["methods"]) == ["MAP", "smooth", "U"]
    assert (facts["subjects"], facts["healthy_subjects"]) == (3, 2)
    prior, own = lc.load_prior(evaluation_paths["PRIOR"]), subjects_of(Path(evaluation_paths["CALIBRATION"]))
    detectors = {
        "MAP": MAPDetector(prior, lc.RestoreConfig("prox", tv_weight=1.0, tv_dimensions=2)),
        "smooth": ProjectionDetector(prior, smoothing=6.0),
        "U": lc.load_detector(evaluation_paths["UNET"]),
    }
    for detector in detectors.values():
        calibration = detector.thresholds([subject.scan for subject in own])
        detector.metadata = detector.metadata.with_calibration(calibration)
    patients, healthy = (subjects_of(Path(evaluation_paths[name])) for name in ("PATIENTS", "HEALTHY"))
    expected = json.loads(json.dumps(evaluate(detectors, patients, healthy, limits=(0.05, 0.2)).summary()))
    for name in detectors:
        seconds = [figures["methods"][name].pop("seconds") for figures in (facts, expected)]
        assert all(value > 0 for value in seconds)
    for key in ("methods", "differences"):
        assert facts[key] == expected[key]
    assert set(facts["files"]) == {"metrics.json", "subjects.csv", "tables.md"}
    written = json.loads(Path(facts["files"]["metrics.json"]).read_text())
    assert [list(row["thresholds"][0]) for row in (figures["detector"] for figures in written["methods"].values())] == [
        ["limit", "threshold"]
    ] * 3


def test_pictures(run, monkeypatch, capsys):
    """Examples are drawn of the first method, here of the only patient."""
    monkeypatch.setattr("lesioncore.evaluation.examples.restoration_figure", lambda *_, **__: Figure())
    line = f"PATIENTS/sub-p0 --calibration CALIBRATION --limits 0.05 -o OUT --json --methods {MAP}"
    assert run(line) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    written = {str(path.relative_to("out")) for path in Path("out").rglob("*.*") if path.parent.name != "scores"}
    assert written == set(files)
    pictures = written - {"metrics.json", "subjects.csv", "tables.md"}
    assert pictures == {"roc.png", "size_fpr05.png", "examples/sub-p0_slices.png", "examples/sub-p0_neighbours.png"}
    assert all(Path(files[name]).read_bytes().startswith(b"\x89PNG") for name in pictures)


def test_the_same_command_goes_on(run, counted, capsys):
    line = f"PATIENTS --json --healthy HEALTHY --calibration CALIBRATION {QUICK} other=PRIOR:intensity:sign=-1"
    counted.append("stop")
    assert run(line) == 130
    captured = capsys.readouterr()
    assert "stopped; the same command goes on" in json.loads(captured.out)["error"]
    counted.clear()
    assert run(line) == 0
    assert len(counted) == 2 * 5 - 1
    first = json.loads(capsys.readouterr().out)
    counted.clear()
    assert run(f"{line} third=PRIOR:equalized") == 0
    assert counted == ["sub-p0", "sub-p1", "sub-p2", "sub-h0", "sub-h1"]
    again = json.loads(capsys.readouterr().out)
    assert {name: again["methods"][name] for name in first["methods"]} == first["methods"]


def test_calibrations_are_kept_too(run, monkeypatch):
    line = f"PATIENTS --calibration CALIBRATION {QUICK}"
    assert run(line) == 0
    monkeypatch.setattr(lc.Detector, "thresholds", None)
    assert run(line) == 0


def test_it_speaks_to_people_on_stdout(run, capsys):
    assert run(f"PATIENTS {QUICK}") == 0
    captured = capsys.readouterr()
    for expected in ("# Evaluation", "| method | AUC (95 %)", "3 files in out: metrics.json", "not a medical device"):
        assert expected in captured.out
    assert captured.out.count("not a medical device") == 1
    (warning,) = captured.err.splitlines()
    assert "has no thresholds for these settings; --calibration finds them on healthy scans" in warning


def test_thresholds_of_the_model_itself(run, capsys):
    specs = "own=CALIBRATED:map:solver=prox CALIBRATED:map:solver=prox,tv_weight=3"
    assert run(f"--healthy HEALTHY -o OUT --json --methods {specs}") == 0
    captured = capsys.readouterr()
    methods = json.loads(captured.out)["methods"]
    assert methods["own"]["detector"]["calibration_subjects"] == 4
    assert [len(figures["at_limit"]) for figures in methods.values()] == [3, 0]
    assert "warning: " in captured.err


def test_healthy_people_alone(run, capsys):
    """No patient, so nothing is drawn; a limit that is hardly met is seen in the table."""
    assert run("--healthy HEALTHY --calibration CALIBRATION -o OUT --methods PRIOR:intensity") == 0
    out = capsys.readouterr().out
    assert "Scans with lesion masks: 0. Healthy scans: 2." in out
    assert "| scans above the limit |" in out
    assert "AUC" not in out
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "metrics.json",
        "scores",
        "subjects.csv",
        "tables.md",
    ]


def test_a_table_names_scans_and_masks(run, evaluation_paths, capsys, monkeypatch):
    monkeypatch.setenv(ROOTS, str(evaluation_paths["PATIENTS"]))
    rows = [f"{s.scan},{s.lesion}" for s in subjects_of(Path(evaluation_paths["PATIENTS"]))[:2]]
    Path("scans.csv").write_text("\n".join(["image,lesion", *rows]))
    assert run(f"scans.csv {QUICK} --json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["subjects"] == 2
    lines = Path("out/subjects.csv").read_text().splitlines()
    truth = np.count_nonzero(voxels(subjects_of(Path(evaluation_paths["PATIENTS"]))[0].lesion))
    assert f"sub-p0,0,{truth * 0.064:.3f}," in lines[1]


def test_simulated_people(run, monkeypatch, capsys):
    """One person may be there as a patient and healthy; T2w scans are not for a T1w prior."""

    def simulate(number, *, lesion, voxel_size, **options):
        truth = None if lesion is None else lesion_at(number)
        return SimpleNamespace(
            image=scan(number), affine=np.diag([voxel_size] * 3 + [1]), brain_mask=HEAD, lesion_mask=truth
        )

    monkeypatch.setattr("lesioncore.subjects.subject.simulate", simulate)
    line = "phantom:T2w:0-0:glioma --healthy phantom:T2w:0-0 --voxel-size 5 --no-figures -o OUT"
    line += " --methods ranks=phantom-t1:equalized:sign=1"
    assert run(line) == 1
    assert "got a T2w image, expected T1w" in capsys.readouterr().err
    assert run(f"{line} --modality T2w") == 0
    captured = capsys.readouterr()
    assert "Scans with lesion masks: 1. Healthy scans: 1." in captured.out
    assert "warning: ranks: is for T1w images, but some scans are T2w" in captured.err
    rows = [row.split(",") for row in Path("out/subjects.csv").read_text().splitlines()[1:]]
    person = "phantom-test-0000"
    assert [row[1:4] for row in rows] == [[f"{person}_glioma", person, "0"], [person, person, "1"]]
    assert [float(row[4]) for row in rows] == pytest.approx([(lesion_at(0) & HEAD).sum() * 0.125, 0], abs=1e-3)


def test_curves(run, monkeypatch, capsys):
    for name, values in (("weights", (0.5, 2.0)), ("steps", (0, 2))):
        monkeypatch.setattr(Curves, name, partialmethod(getattr(Curves, name), values))
    line = f"PATIENTS --healthy HEALTHY -o OUT --no-figures --curves --json --methods {MAP}"
    assert run(line) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert {"curves.png", "curves.json"} < set(files)
    curves = json.loads(Path(files["curves.json"]).read_text())
    assert [row["steps"] for row in curves["steps"]] == [0, 2]
    assert [row["tv_weight"] for row in curves["weights"]] == [0.5, 2.0]
    assert curves["weights"][0]["change"] > curves["weights"][1]["change"]


def test_figures_and_tables_are_those_of_cleaned_masks(run, capsys):
    """A volume above that of everything detected leaves nothing."""
    specs = "PRIOR:intensity:sign=1 clean=PRIOR:intensity:sign=1,min_volume=1e6"
    assert run(f"PATIENTS --calibration CALIBRATION --no-figures -o OUT --json --methods {specs}") == 0
    plain, clean = json.loads(capsys.readouterr().out)["methods"].values()
    assert plain["auc"] == clean["auc"]
    assert plain["detector"]["thresholds"] == clean["detector"]["thresholds"]
    assert clean["detector"]["postprocessing"] == {"erosion": 0.0, "median": 0.0, "min_volume": 1e6}
    assert all(row["sensitivity"]["mean"] > 0 for row in plain["at_limit"])
    assert all(row["sensitivity"]["mean"] == row["fpr"]["mean"] == 0 for row in clean["at_limit"])


# ---- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        (QUICK, 2, "DATA: expected scans with lesion masks, or healthy ones with --healthy"),
        ("PATIENTS -o OUT --methods", 2, "--methods"),
        ("PATIENTS --methods PRIOR", 2, "--output"),
        (f"PATIENTS {QUICK} --limits 0 0.1", 2, "--limits: got [0.0, 0.1]"),
        (f"PATIENTS {QUICK} --limits", 2, "--limits"),
        (f"PATIENTS {QUICK} --voxel-size 99", 2, "--voxel-size: got 99"),
        (f"PATIENTS {QUICK} PRIOR:intensity:sign=1", 2, "two have one name"),
        (f"PATIENTS {QUICK} PRIOR:intensity:sin=1", 2, "got sin"),
        (f"PATIENTS {QUICK} --healthy HEALTHY --calibration HEALTHY", 2, "sub-h0 is among the scans to judge, too"),
        (f"PATIENTS {QUICK} nonesuch", 1, "nonesuch"),
        (f"PATIENTS {QUICK} --device tpu", 1, "tpu"),
        (f"PATIENTS {QUICK} --modality T1w", 1, "T2w, not T1w"),
        (f"HEALTHY {QUICK}", 1, "patients: sub-h0, sub-h1: no lesion mask to compare with"),
        (f"PATIENTS PATIENTS {QUICK}", 1, "named twice"),
        (f"missing {QUICK}", 1, "missing"),
        (f"phantom:T2w:3-1 {QUICK}", 1, "phantom:T2w:3-1"),
    ],
)
def test_failures_say_why_in_one_line(line, code, says, run, capsys):
    assert run(line) == code
    error = capsys.readouterr().err
    assert says in " ".join(error.split())
    assert "Traceback" not in error
    assert not list(Path().glob("out/*.*"))


def test_healthy_scans_with_lesions_and_scans_that_are_none(run, evaluation_paths, capsys, monkeypatch):
    monkeypatch.setenv(ROOTS, str(evaluation_paths["PATIENTS"]))
    assert run(f"--healthy PATIENTS {QUICK}") == 1
    assert "sub-p0: is given as healthy, but its lesion mask is not empty" in capsys.readouterr().err
    Path("junk_T2w.nii").write_text("no image")
    Path("scans.csv").write_text(
        f"image,lesion\njunk_T2w.nii,{subjects_of(Path(evaluation_paths['PATIENTS']))[0].lesion}\n"
    )
    assert run(f"scans.csv {QUICK}") == 1
    assert "junk" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["taken", "taken/deeper"])
def test_an_output_that_is_a_file_is_said_before_anything_is_scored(out, run, counted, capsys):
    Path("taken").write_text("thesis")
    assert run(f"PATIENTS {QUICK.replace('OUT', out)}") == 1
    assert "taken" in capsys.readouterr().err
    assert counted == []
    assert Path("taken").read_text() == "thesis"


def test_without_matplotlib_figures_have_to_be_waived(run, counted, monkeypatch, capsys):
    def missing():
        raise ImportError("figures need matplotlib")

    monkeypatch.setattr("lesioncore.restoration.figure.require_matplotlib", missing)
    assert run(f"PATIENTS {QUICK.removeprefix('--no-figures ')}") == 1
    assert "figures need matplotlib; or give --no-figures" in capsys.readouterr().err
    assert counted == []
    assert run(f"PATIENTS {QUICK}") == 0


def test_groups_of_people_and_boxes(run, evaluation_paths, monkeypatch, capsys):
    monkeypatch.setattr("lesioncore.evaluation.strata.bootstrap_mean", bootstrap_mean)
    monkeypatch.setattr("lesioncore.evaluation.strata.bootstrap_interval", bootstrap_interval)
    Path("boxes.csv").write_text("participant_id,x,y,z,width,height,depth\nsub-p0,6,4,3,5,5,5\n")
    line = f"PATIENTS --calibration CALIBRATION --json --by lesion_size:1,lesion_contrast --boxes boxes.csv {QUICK}"
    assert run(line) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {row["by"] for row in facts["strata"]} == {"lesion_size", "lesion_contrast"}
    assert [row["boxes"] for row in next(iter(facts["methods"].values()))["boxes"]] == [1] * 6
    assert "| lesion_size | patients |" in Path("out/tables.md").read_text()
    assert run(f"PATIENTS --by age: {QUICK}") == 2
    assert "--by: got 'age:'" in capsys.readouterr().err
    assert run(f"PATIENTS --by age {QUICK}") == 1
    assert "no participants.tsv has this column" in capsys.readouterr().err
    assert run(f"PATIENTS --boxes nowhere.csv {QUICK}") == 1
    assert "nowhere.csv" in capsys.readouterr().err
