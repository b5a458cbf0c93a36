"""The whole training job: from files on disk to a calibrated model that restores, through the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import tyro
from support.models import head, scan_values

import lesioncore as lc
from lesioncore.cli import main
from lesioncore.cli.train import Train
from lesioncore.data.roots import ROOTS
from lesioncore.training import embedded

AFFINE = np.diag([4.0, 4, 4, 1])
SHAPE = (24, 20, 12)
BRAIN = head(SHAPE)
OPTIONS = ("--voxel-size", "4", "--image-shape", "24", "20", "--channels", "4", "6", "--latent-channels", "3")
SHORT = ("--slices-seen", "320", "--batch-size", "8", "--validate-every", "80", "--checkpoint-every", "80")


def write(path: Path, data: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, AFFINE), path)
    return path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """BIDS folder of five healthy people."""
    root = tmp_path_factory.mktemp("healthy")
    for i in range(5):
        name = f"sub-{i:02d}"
        write(root / name / "anat" / f"{name}_T2w.nii.gz", scan_values(BRAIN, seed=i).numpy())
    return root


@pytest.fixture(scope="module")
def patients(tmp_path_factory) -> Path:
    """Scans with a bright square in each but the last, and its mask in a derivative."""
    root = tmp_path_factory.mktemp("patients")
    for i in range(5):
        name = f"sub-{i:02d}"
        lesion = np.zeros(SHAPE, np.uint8)
        lesion[8:13, 7:12, 4:8] = i < 4
        scan = scan_values(BRAIN, seed=i).numpy() + 500 * lesion.astype(np.float32)
        write(root / name / "anat" / f"{name}_T2w.nii.gz", scan)
        write(root / "derivatives" / "labels" / name / "anat" / f"{name}_label-lesion_mask.nii.gz", lesion)
    return root


def command(*words: object) -> list[str]:
    return ["train", *map(str, words), "--preprocess", "none"]


@pytest.mark.parametrize(
    ("model", "options"),
    [("vae", ("--kl-weight", "0.5")), ("gmvae", ("--components", "3", "--k-floor", "0.1"))],
)
def test_a_prior_from_a_folder_restores(dataset, tmp_path, capsys, model, options):
    words = command(model, dataset, "-o", tmp_path / "run", *OPTIONS, *SHORT, *options, "--json")
    assert main(words) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["subjects"] == 4
    assert facts["validation_subjects"] == 1
    assert facts["updates"] == 40
    assert facts["slices_per_second"] > 0
    assert {"checkpoint.safetensors", "config.json", "metrics.csv", "model"} <= set(os.listdir(tmp_path / "run"))
    prior = lc.load_prior(facts["directory"])
    assert prior.metadata.modality == "T2w"
    assert prior.metadata.calibration.tv_weight == facts["tv_weight"]
    result = lc.restore(dataset / "sub-00" / "anat" / "sub-00_T2w.nii.gz", prior)
    assert result.mask(0.05).shape == SHAPE
    saved = json.loads((tmp_path / "run" / "model" / "config.json").read_text())["training"]
    assert saved["job"]["training"]["slices_seen"] == 320
    assert "not a medical device" in (tmp_path / "run" / "model" / "README.md").read_text()
    assert main(words) == 1
    assert "finished run" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"folder of a training run; its model is in .*model"):
        lc.load_prior(tmp_path / "run")


def test_a_supervised_model_from_labels(patients, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(ROOTS, str(patients))
    words = command("unet", patients, "-o", tmp_path / "run", *OPTIONS, "--slices-seen", 1600, "--learning-rate", 0.01)
    assert main([*words, "--validation", str(patients / "sub-04" / "anat" / "sub-04_T2w.nii.gz")]) == 1
    assert "people are in the training data" in capsys.readouterr().err
    table = tmp_path / "train.csv"
    rows = [patients / f"sub-{i:02d}" / "anat" / f"sub-{i:02d}_T2w.nii.gz" for i in range(4)]
    labels = patients / "derivatives" / "labels"
    lesions = [labels / f"sub-{i:02d}" / "anat" / f"sub-{i:02d}_label-lesion_mask.nii.gz" for i in range(4)]
    table.write_text("image,lesion\n" + "".join(f"{a},{b}\n" for a, b in zip(rows, lesions, strict=True)))
    held_out = patients / "sub-04" / "anat" / "sub-04_T2w.nii.gz"
    words[2] = str(table)
    assert main([*words, "--validation", str(held_out)]) == 0
    detector = lc.load_detector(tmp_path / "run" / "model")
    score = detector.detect(rows[0])
    lesion = np.asarray(nib.load(lesions[0]).dataobj) > 0
    values = np.asarray(score.dataobj)
    assert values[lesion].mean() > values[BRAIN.numpy() & ~lesion].mean() + 0.3
    assert detector.calibration.subjects == 1


@pytest.mark.parametrize("options", [("aae",), ("anogan", "--encoder")])
def test_an_adversarial_model_from_a_folder_detects(dataset, tmp_path, options):
    model, *rest = options
    words = command(model, dataset, "-o", tmp_path / "run", *OPTIONS, *SHORT, "--critic-steps", 2, *rest)
    assert main(words) == 0
    detector = lc.load_detector(tmp_path / "run" / "model")
    score = detector.detect(dataset / "sub-00" / "anat" / "sub-00_T2w.nii.gz")
    assert detector.mask(score, 0.05).shape == SHAPE


def test_the_embedded_priors_recipe_has_a_name(tmp_path):
    words = ["embedded", "phantom:T2w:0-99", "-o", str(tmp_path), "--kl-weight", "2"]
    job = tyro.cli(Train, args=words).model
    assert job.recipe == replace(embedded.RECIPE, kl_weight=2.0)
    assert (job.training, job.voxel_size) == (embedded.TRAINING, embedded.VOXEL_SIZE)
    paper = tyro.cli(Train, args=["vae", *words[1:4]]).model.recipe
    assert (paper.model.image_shape, len(paper.model.channels)) == ((200, 200), 6)
    assert paper.corruption.strength == 0


def test_a_run_starts_from_the_weights_of_another(dataset, tmp_path, capsys):
    shape = ("--voxel-size", 4, "--image-shape", 24, 20, "--channels", 4, 6, "--latent-channels", 3)
    assert main(command("vae", dataset, "-o", tmp_path / "first", *shape, *SHORT, "--no-calibrate")) == 0
    source = tmp_path / "first" / "model"
    hardly = ("--slices-seen", 8, "--batch-size", 8, "--learning-rate", 1e-9, "--no-calibrate")
    words = command("vae", dataset, *shape, *hardly)
    assert main([*words, "--start-from", str(source), "-o", str(tmp_path / "second")]) == 0
    before, after = (lc.load_model(path).parameters() for path in (source, tmp_path / "second" / "model"))
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(before, after, strict=True))
    record = json.loads((tmp_path / "second" / "model" / "config.json").read_text())["training"]
    assert record["job"]["start_from"] == str(source)
    capsys.readouterr()
    third = ["-o", str(tmp_path / "third")]
    assert main([*words, *third, "--start-from", str(source), "--latent-channels", "5"]) == 1
    said = capsys.readouterr().err
    assert "start_from" in said
    assert "latent_channels=3" in said
    assert not (tmp_path / "third").exists()
    assert main([*words, *third, "--start-from", "nobody"]) == 1
    assert "nobody" in capsys.readouterr().err


def test_no_lesions_no_supervision(dataset, tmp_path, capsys):
    assert main(command("unet", dataset, "-o", tmp_path / "run", *OPTIONS, *SHORT)) == 1
    assert "lesion mask" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same_weights(dataset, tmp_path, capsys):
    cache = tmp_path / "cache"
    words = [*OPTIONS, *SHORT, "--slices-seen", "1600", "--no-calibrate", "--cache", str(cache), "--device", "cpu"]
    assert main(command("vae", dataset, "-o", tmp_path / "whole", *words)) == 0
    run = command("vae", dataset, "-o", tmp_path / "run", *words)
    # Away from the checkout, whose sources have no compiled operators beside them.
    start = [sys.executable, "-m", "lesioncore", *run]
    process = subprocess.Popen(start, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "the run ended before it could be killed"
    assert not (tmp_path / "run" / "model").exists()
    assert main(run) == 1
    assert "--resume" in capsys.readouterr().err
    assert main([*run, "--resume", "--kl-weight", "2"]) == 1
    assert "recipe.kl_weight 1.0, not 2.0" in capsys.readouterr().err
    assert main([*run, "--resume"]) == 0
    first, second = (lc.load_prior(tmp_path / name / "model").state_dict() for name in ("whole", "run"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    metrics = [(tmp_path / name / "metrics.csv").read_text() for name in ("whole", "run")]
    assert metrics[0] == metrics[1]


def test_patients_to_learn_health_from_are_noticed(patients, tmp_path, capsys):
    words = command("vae", patients, "-o", tmp_path / "run", *OPTIONS, *SHORT, "--no-calibrate")
    assert main([*words, "--resume"]) == 0
    said = capsys.readouterr().err
    assert "some scans have lesion masks" in said
    assert "no checkpoint to go on from" in said


def test_a_run_stopped_while_calibrating_keeps_its_figures(dataset, tmp_path, capsys, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    words = command("vae", dataset, "-o", tmp_path / "run", *OPTIONS, *SHORT, "--json")
    with monkeypatch.context() as patch:
        patch.setattr("lesioncore.training.recipes.VAERecipe.calibrate", stop)
        assert main(words) == 130
    capsys.readouterr()
    assert main([*words, "--resume"]) == 0
    figures = json.loads(capsys.readouterr().out)["figures"]
    last = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    written = dict(zip(last[0].split(","), map(float, last[-1].split(",")), strict=True))
    assert figures["validation_loss"] == pytest.approx(written["validation_loss"], abs=1e-4)
    assert "slices_seen" not in figures


@pytest.mark.slow
def test_two_processes_train_one_model(dataset, tmp_path):
    words = [*command("vae", dataset, "-o", tmp_path / "run", *OPTIONS, *SHORT, "--device", "cpu")[1:], "--json"]
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "lesioncore.training",
    ]
    done = subprocess.run([*launch, *words], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["directory"] == str(tmp_path / "run" / "model")
    assert lc.load_prior(tmp_path / "run" / "model").metadata.calibration.subjects == 1


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        ("multiscale-vae", ("--channels", 8, 8, 8), "finer_channels: got (2, 4, 8, 8, 8), expected 2"),
        ("vae", ("--slices-seen", 0), "slices_seen"),
        ("gmvae", ("--components", 0), "components"),
    ],
)
def test_options_that_do_not_fit_are_said_in_short(model, options, said, tmp_path, capsys):
    assert main(command(model, "phantom:T2w:0-1", "-o", tmp_path / "run", *options)) == 2
    error = capsys.readouterr().err
    assert said in " ".join(error.split())
    assert "Traceback" not in error


def test_a_run_keeps_out_of_folders_with_other_files(dataset, capsys):
    before = sorted(dataset.rglob("*"))
    assert main(command("vae", dataset, "-o", dataset, *OPTIONS, *SHORT)) == 1
    assert "holds other files" in capsys.readouterr().err
    assert sorted(dataset.rglob("*")) == before


def test_nothing_to_train_on_is_said(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(command("vae", tmp_path / "empty", "-o", tmp_path / "run", *OPTIONS)) == 1
    assert "no scan" in capsys.readouterr().err
    assert main(command("vae", "phantom:T2w:3-1", "-o", tmp_path / "run", *OPTIONS)) == 1
    assert "phantom:T2w:3-1" in capsys.readouterr().err
    assert main(command("vae", "-o", tmp_path / "run")) == 2


@pytest.mark.slow
def test_embedded_priors_are_rebuilt_by_their_command(tmp_path):
    pytest.importorskip("nilearn")
    words = ["--out", tmp_path, "--contrasts", "T2w", "--subjects", 2, "--validation", 1, "--training.slices-seen", 64]
    words += ["--recipe.channels", 4, 4, 4, 4, "--recipe.latent-channels", 4]
    run = [sys.executable, "-m", "lesioncore.training.embedded", *map(str, words)]
    done = subprocess.run(run, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    prior = lc.load_prior(tmp_path / "phantom-t2")
    assert prior.metadata.name == "phantom-t2"
    assert prior.metadata.calibration.subjects == 1
    assert str(tmp_path) not in (tmp_path / "phantom-t2" / "config.json").read_text()
    assert "2 simulated healthy brains" in (tmp_path / "phantom-t2" / "README.md").read_text()
