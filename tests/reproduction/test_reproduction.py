"""The way from the released data to the paper's tables and figures: its plan, what it remembers, and what it writes."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from matplotlib.figure import Figure
from support.evaluations import bootstrap_interval, bootstrap_mean
from support.models import tiny_calibration, tiny_metadata, tiny_vae
from support.releases import camcan

import lesioncore as lc
from lesioncore import cli
from lesioncore.cli import reproduce
from lesioncore.datasets import DATASETS, import_dataset
from lesioncore.evaluation import curves
from lesioncore.phantom import simulate
from lesioncore.preprocess import pipeline
from lesioncore.reproduction import plan as plans
from lesioncore.reproduction.figures import write_figures
from lesioncore.reproduction.plan import ALL, NEEDS, PAPER, QUICK, SIMULATED, Plan, is_prior
from lesioncore.reproduction.tables import write_tables
from lesioncore.restoration.figure import save_figure
from lesioncore.subjects import find_subjects

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "reproduce.md"
SOURCES = {"camcan": "c", "brats17": "b", "atlas": "a"}
EXTRACTED = {"input": "mask", "brain_ml": 1400.0}
GIVEN = ["--camcan", "c", "--brats", "b", "--atlas", "a"]


def dry_run(capsys, *words):
    assert cli.main(["reproduce", *words, "--dry-run"]) == 0
    return [shlex.split(line) for line in capsys.readouterr().out.splitlines()]


def test_the_page_has_the_commands_of_the_dry_run(capsys):
    page = re.sub(r"\\\n", " ", PAGE.read_text())
    commands = [shlex.split(line) for line in page.splitlines() if line.startswith("lesioncore ")]
    (whole,) = [words for words in commands if words[1:3] == ["reproduce", "reproduction"] and "--steps" not in words]
    assert dry_run(capsys, *whole[2:]) == commands[commands.index(whole) + 1 :]


def test_each_model_is_trained_once_and_each_prior_calibrated():
    steps = Plan("out", SOURCES).steps()
    assert [step.kind for step in steps] == sorted((step.kind for step in steps), key=plans.KINDS.index)
    names = [step.name for step in steps]
    assert len(set(names)) == len(names) == len({step.made for step in steps})
    for number, step in enumerate(steps):
        assert set(step.needs) <= set(names[:number])
    trained = {name.removeprefix("train ") for name in names if name.startswith("train ")}
    wanted = {f"{name}_{contrast}" for one in ALL for contrast, models in NEEDS[one].items() for name in models}
    assert trained == wanted
    calibrated = {name.removeprefix("calibrate ") for name in names if name.startswith("calibrate ")}
    assert calibrated == {name for name in wanted if is_prior(name.rpartition("_")[0])}


def test_what_is_not_wanted_is_left_out(capsys):
    kinds = [words[1:3] for words in dry_run(capsys, "out", "--phantom", "--only", "figure6")]
    assert kinds == [
        *(["train", "gmvae"], ["calibrate", "phantom:T1w:12"], ["evaluate", "phantom:T1w:0-23:stroke"]),
        ["reproduce", "out"],
    ]
    lines = dry_run(capsys, "out", "--camcan", "c", "--brats", "b", "--only", "table1", "--steps", "import", "tables")
    assert [words[1:3] for words in lines] == [["import", "camcan"], ["import", "brats17"], ["reproduce", "out"]]
    assert lines[-1] == shlex.split("lesioncore reproduce out --camcan c --brats b --only table1 --steps tables")


@pytest.mark.parametrize("size", [PAPER, SIMULATED, QUICK], ids=["paper", "simulated", "quick"])
def test_sizes(size):
    """Each model sees 200 mm, and is one that the commands can make."""
    for step in Plan("out", {}, ("table3", "table2"), size, "cpu").steps():
        command = cli.parse(step.words)
        if step.kind == "train":
            job = command.model
            assert job.voxel_size * job.recipe.model.image_shape[0] == pytest.approx(200)
            assert 0.5 <= job.voxel_size <= 8
            assert job.device == "cpu"
            assert min(job.recipe.model.sizes[-1]) >= 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--brats", "b"], 2, "--camcan: got none"),
        (["--camcan", "c", "--only", "table2"], 2, "--atlas: got none"),
        (["--phantom", "--camcan", "c"], 2, "--phantom: got data sets (camcan)"),
        (["--phantom", "--steps", "tables", "--only", "table1"], 1, "evaluate brats17 has not been done"),
        (["--phantom", "--steps", "evaluate", "--only", "table1"], 1, "has not been done with these inputs"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_done(words, code, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["reproduce", "out", *words]) == code
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Steps that were done, each by a stand-in that makes its folder; a name in `stop` is interrupted."""
    monkeypatch.chdir(tmp_path)
    for name in "cba":
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("released")
    calls = SimpleNamespace(names=[], stop=())

    def run(step, output):
        if step.name in calls.stop:
            raise KeyboardInterrupt
        calls.names.append(step.name)
        path = Path(step.made) / ("model" if step.kind == "train" else "")
        path.mkdir(parents=True, exist_ok=True)
        (path / "config.json").write_text("{}")
        if step.kind == "evaluate":
            (path / "metrics.json").write_text('{"methods": {}}')

    monkeypatch.setattr(reproduce, "_run", run)
    return calls


def test_a_stopped_run_goes_on_and_a_finished_one_is_kept(made, capsys):
    line = ["reproduce", "out", *GIVEN, "--only", "table2"]
    made.stop = ("train aae128_T1w",)
    assert cli.main(line) == 130
    assert "stopped; the same command goes on" in capsys.readouterr().err
    first, made.names, made.stop = made.names, [], ()
    assert first[:3] == ["camcan", "atlas", "train gmvae6_T1w"]
    assert cli.main(line) == 0
    assert "train: 8 steps, 6 done already" in capsys.readouterr().out
    assert made.names[0] == "train aae128_T1w"
    assert [*first, *made.names] == [step.name for step in Plan("out", SOURCES, ("table2",)).steps()]
    assert Path("out/tables/table2.md").exists()
    made.names = []
    assert cli.main(line) == 0
    assert made.names == []


def test_other_data_and_other_options_are_not_mixed(made, capsys):
    line = ["reproduce", "out", *GIVEN, "--only", "table2"]
    assert cli.main(line) == 0
    made.names = []
    assert cli.main([*line, "--device", "cpu"]) == 0
    assert made.names == []
    assert cli.main([*line, "--quick"]) == 1
    assert "out/models/gmvae6_T1w: was made by another command or of other data" in capsys.readouterr().err
    Path("a/file").write_text("another release")
    assert cli.main(line) == 1
    assert "out/data/atlas: was made by another command" in capsys.readouterr().err
    assert made.names == []


def test_a_download_may_be_removed_once_it_is_imported(made, capsys):
    line = ["reproduce", "out", *GIVEN, "--only", "table2"]
    assert cli.main([*line, "--steps", "import"]) == 0
    shutil.rmtree("c")
    assert cli.main(line) == 0
    assert "import: 2 steps, 2 done already" in capsys.readouterr().out
    shutil.rmtree("b")
    assert cli.main(["reproduce", "out", *GIVEN]) == 1
    assert "b: no such folder; give the one that brats17 was unpacked in" in capsys.readouterr().err


def test_files_that_no_import_reads_do_not_matter(made):
    line = ["reproduce", "out", *GIVEN, "--only", "table2", "--steps", "import"]
    assert cli.main(line) == 0
    Path("a/.DS_Store").write_text("written by a file manager")
    Path("a/link").symlink_to("nowhere")
    made.names = []
    assert cli.main(line) == 0
    assert made.names == []


def test_what_was_made_for_a_part_serves_for_all():
    steps = {step.name: step for step in Plan("out", SOURCES).steps() if step.kind != "evaluate"}
    for one in ALL:
        assert all(steps[step.name] == step for step in Plan("out", SOURCES, (one,)).steps() if step.name in steps)


def test_an_evaluation_is_done_again_when_code_changes_and_a_training_is_not(made, monkeypatch):
    line = ["reproduce", "out", *GIVEN, "--only", "figure6", "--steps", "import", "train", "calibrate", "evaluate"]
    assert cli.main(line) == 0
    made.names = []
    monkeypatch.setattr("lesioncore.reproduction.record.source_hash", lambda _: "other code")
    assert cli.main(line) == 0
    assert made.names == ["evaluate atlas"]


def test_simulated_people_are_others_when_the_code_that_makes_them_is(made, monkeypatch, capsys):
    line = ["reproduce", "out", "--phantom", "--only", "figure6", "--steps", "train"]
    assert cli.main(line) == 0
    monkeypatch.setattr("lesioncore.reproduction.record.source_hash", lambda _: "other code")
    assert cli.main(line) == 1
    assert "was made by another command or of other data" in capsys.readouterr().err


def method(auc):
    """Figures of a method as `metrics.json` has them."""
    at_limit = [{"limit": limit, "dice": {"mean": limit, "sd": 0.5}} for limit in (0.01, 0.05, 0.1)]
    return {
        "auc": auc,
        "at_limit": at_limit,
        "dice_at_youden": {"mean": 0.25, "sd": 0.125},
        "detector": {"tv_weight": 2.5},
    }


def test_tables_have_the_papers_figures_beside(tmp_path):
    plan = Plan(str(tmp_path), {}, ("table1", "table3"), QUICK)
    folder = Path(plan.evaluation("T2w"))
    folder.mkdir(parents=True)
    methods = {"gmvae9": method(0.875), "aae128": {**method(0.5), "detector": {"tv_weight": None}}}
    (folder / "metrics.json").write_text(json.dumps({"methods": methods}))
    files = write_tables(plan)
    assert [path.name for path in files] == ["table1.md", "table1.csv", "table3.md", "table3.csv"]
    with open(files[1], encoding="utf-8", newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert len(rows) == 9
    best = rows["GMVAE, c = 9 (TV)"]
    assert (best["AUC"], best["AUC (paper)"]) == ("0.88", "0.83")
    assert (best["DSC5"], best["DSC5 (paper)"]) == ("0.05 ± 0.50", "0.45 ± 0.20")
    assert (best["DSC_AUC"], best["lambda"], best["lambda (paper)"]) == ("0.25 ± 0.12", "2.5", "4")
    assert (rows["AAE-128"]["lambda"], rows["AnoGAN"]["AUC"], rows["AnoGAN"]["AUC (paper)"]) == ("–", "–", "0.65")
    supervised = rows["U-Net (supervised)"]
    assert {name for name, cell in supervised.items() if cell != "–"} == {"method", "DSC_AUC (paper)"}
    assert "Simulated people stand in place" in files[0].read_text()
    assert "Made with --quick" in files[0].read_text()
    assert "| c = 9, dim_z = 512 | 0.88 | 0.83 |" in files[2].read_text()
    assert len(files[3].read_text().splitlines()) == 13


def test_figures_are_made_of_the_evaluations(tmp_path):
    plan = Plan(str(tmp_path), {}, ("figure5", "figure7", "figure11"), QUICK)
    for name, contrast in (("examples/sub-1_slices.png", "T2w"), ("examples/sub-2_slices.png", "T2w")):
        path = Path(plan.evaluation(contrast)) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_figure(Figure(), path)
    with pytest.raises(FileNotFoundError, match=r"figure7: no size_fpr05\.png in"):
        write_figures(plan)
    for contrast in ("T1w", "T2w"):
        Path(plan.evaluation(contrast)).mkdir(parents=True, exist_ok=True)
        save_figure(Figure(), Path(plan.evaluation(contrast)) / "size_fpr05.png")
    save_figure(Figure(), Path(plan.evaluation("T1w")) / "curves.png")
    curve = tuple({"tv_weight": weight, "smoothing": 0.0, "change": 1 / weight} for weight in (1.0, 2.0))
    calibration = replace(tiny_calibration(), curve=curve, criterion="change")
    vae = tiny_vae(metadata=tiny_metadata(calibration))
    for name in NEEDS["figure11"]["T1w"]:
        lc.save_model(vae, plan.prior(name, "T1w"), card="For tests.\n")
    files = {path.name for path in write_figures(plan)}
    assert files == {
        *("figure5_brats17_1.png", "figure5_brats17_2.png", "figure7_brats17.png", "figure7_atlas.png"),
        *("figure11_atlas.png", "figure11_atlas_change.png"),
    }
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (tmp_path / "figures").iterdir())


def test_a_part_of_an_imported_data_set(tmp_path):
    camcan(tmp_path / "release")
    import_dataset(DATASETS["camcan"], tmp_path / "release", tmp_path / "data")
    table = tmp_path / "data" / "split.tsv"
    people = dict(line.split("\t") for line in table.read_text().splitlines()[1:])
    for part in set(people.values()):
        found = find_subjects([f"{table}:{part}"], modality="T2w")
        assert [subject.person for subject in found] == sorted(name for name, of in people.items() if of == part)
        assert {subject.modality for subject in found} == {"T2w"}
    with pytest.raises(ValueError, match=r"split\.tsv: has nobody in the part test, expected one of train"):
        find_subjects([f"{table}:test"], modality="T2w")
    with pytest.raises(ValueError, match=r"nobody in the part train, 2 in all, has a scan FLAIR"):
        find_subjects([f"{table}:train"], modality="FLAIR")


@pytest.fixture
def short(monkeypatch):
    """Two models in place of eight, short curves, and few resamples."""
    monkeypatch.setitem(NEEDS, "table2", {"T1w": ["gmvae6", "vae128"]})
    monkeypatch.setitem(NEEDS, "figure11", {"T1w": ["gmvae6"]})
    monkeypatch.setitem(curves.STEPS, "paper", (0, 2))
    monkeypatch.setattr("lesioncore.evaluation.summary.bootstrap_interval", bootstrap_interval)
    monkeypatch.setattr("lesioncore.evaluation.summary.bootstrap_mean", bootstrap_mean)


def rows_of_table2(folder):
    """Rows by method; each has figures and a weight if it has one."""
    with open(folder / "tables" / "table2.csv", encoding="utf-8", newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    for label, weights in (("GMVAE, c = 6 (TV)", ("1", "3")), ("VAE-128", ("–",))):
        assert 0 < float(rows[label]["AUC"]) < 1
        assert "±" in rows[label]["DSC5"]
        assert rows[label]["lambda"] in weights
    return rows


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_simulated_people_from_training_to_table_and_figure(short, tmp_path, capsys):
    line = ["reproduce", str(tmp_path / "out"), "--phantom", "--quick", "--only", "table2", "figure11", "--json"]
    assert cli.main(line) == 0, capsys.readouterr().err
    facts = json.loads(capsys.readouterr().out)
    assert facts["done"] == [
        *("train gmvae6_T1w", "train vae128_T1w", "calibrate gmvae6_T1w", "evaluate atlas"),
    ]
    assert {Path(file).name for file in facts["files"]} == {
        *("table2.md", "table2.csv", "figure11_atlas.png", "figure11_atlas_change.png"),
    }
    rows_of_table2(tmp_path / "out")
    assert cli.main(line) == 0
    assert json.loads(capsys.readouterr().out)["done"] == []


def write_release(folder):
    """Simulated brains as if they were the files of CamCAN and ATLAS 1.2."""
    for number in range(7):  # so that one of them is for validation
        person = f"sub-CC{110033 + number}"
        scan = simulate(number, split="train", contrast="T1w", voxel_size=5.0).nifti()
        for contrast in ("T1w", "T2w"):
            path = folder / "camcan" / person / "anat" / f"{person}_{contrast}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(scan, path)
    for number in range(2):
        name = f"c000{number}s0002t01"
        patient = simulate(number, split="test", contrast="T1w", lesion="stroke", voxel_size=5.0)
        path = folder / "atlas" / "standard_MNI" / "standard_part1" / name[:5] / name
        path.mkdir(parents=True)
        nib.save(patient.nifti(), path / f"{name}_t1w_stx.nii.gz")
        nib.save(patient.nifti("lesion_mask"), path / f"{name}_LesionSmooth_stx.nii.gz")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_released_data_from_import_to_table_and_figures(short, tmp_path, monkeypatch, capsys):
    """With stand-ins for brain extraction and registration, which simulated brains do not need."""
    write_release(tmp_path)
    monkeypatch.setattr(pipeline, "_extract", lambda values, *_: (values > 0, values > 0, EXTRACTED))
    monkeypatch.setattr(pipeline, "_register", lambda values, affine, brain, limit: (brain, np.eye(4), {}))
    monkeypatch.chdir(tmp_path)
    line = ["reproduce", "out", "--camcan", "camcan", "--atlas", "atlas", "--quick", "--json"]
    line += ["--only", "table2", "figure6", "figure11"]
    assert cli.main(line) == 0, capsys.readouterr().err
    facts = json.loads(capsys.readouterr().out)
    assert facts["done"] == [
        *("camcan", "atlas", "train gmvae6_T1w", "train vae128_T1w", "calibrate gmvae6_T1w", "evaluate atlas"),
    ]
    assert {Path(file).name for file in facts["files"]} == {
        *("table2.md", "table2.csv", "figure6_atlas_1.png", "figure6_atlas_2.png"),
        *("figure11_atlas.png", "figure11_atlas_change.png"),
    }
    rows_of_table2(Path("out"))
    assert Path("out/tables/table2.md").read_text().startswith("# Table 2: atlas\n")
    for download in ("camcan", "atlas"):
        shutil.rmtree(download)
    assert cli.main(line) == 0
    assert json.loads(capsys.readouterr().out)["done"] == []
