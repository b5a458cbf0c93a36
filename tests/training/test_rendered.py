"""Brains rendered from real anatomy: contrasts in the right order, repeatable, registered once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from support.remembered import computed_once

import lesioncore as lc
from lesioncore.phantom import simulate
from lesioncore.subjects import FileSubject
from lesioncore.training import rendered
from lesioncore.training.config import TrainingConfig
from lesioncore.training.head_scans import Draws
from lesioncore.training.real import RECIPE, Build, build, calibration_people, held_out_people, people, recalibrate
from lesioncore.training.rendered import RenderedSubject, render_brain, rendered_subjects

ndimage = pytest.importorskip("scipy.ndimage")
GRID = lc.SliceGrid(2.0, (100, 100))
QUICK = lc.RestoreConfig(lc.EMSolver(1, 2, outlier=3.0), tv_weight=0.5, smoothing=4.0)


@pytest.fixture(scope="module", autouse=True)
def one_head():
    """All people have the same head, which is taken apart, registered and seen by a scanner once for all tests."""
    with computed_once(
        ("lesioncore.training.rendered", "make_head"),
        ("lesioncore.training.rendered", "register"),
        ("lesioncore.restoration.prepare", "preprocess"),
    ):
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    """A phantom's T1w scan, in bone, fat and air, its brain mask and MUSE regions."""
    phantom = simulate(0, split="test", contrast="T1w", voxel_size=2.0)
    csf, grey, white = phantom.tissue
    deep = 2 * ndimage.distance_transform_edt(phantom.brain_mask) > 16
    regions = np.select([(csf > 0.5) & deep, csf > 0.5, white > grey, phantom.brain_mask], [52, 1, 81, 142], 0)
    image, brain, regions = (np.pad(part, 12) for part in (phantom.image, phantom.brain_mask, regions))
    affine = phantom.affine.copy()
    affine[:3, 3] = phantom.affine[:3] @ [-12, -12, -12, 1]
    away = 2 * ndimage.distance_transform_edt(~brain)
    fat = 0.9 * np.percentile(image[brain], 95)
    image = np.where(brain, image, np.select([away <= 7, away <= 14], [0.05 * fat, fat], 0.0))
    folder, paths = tmp_path_factory.mktemp("anatomy"), []
    for name, data in (("t1", image), ("brain", brain), ("regions", regions)):
        nib.save(nib.Nifti1Image(data.astype(np.int16), affine), folder / f"{name}.nii.gz")
        paths.append(folder / f"{name}.nii.gz")
    return paths


@pytest.fixture(scope="module")
def head(files):
    t1, brain, regions = (np.asarray(nib.load(path).dataobj) for path in files)
    return rendered.make_head(t1.astype(np.float32), brain > 0, regions.astype(np.int32))


@pytest.mark.parametrize(
    ("contrast", "darkest_first"),
    [
        ("T1w", ("ventricles", "cortex", "white")),
        ("T2w", ("white", "cortex", "ventricles")),
        ("FLAIR", ("ventricles", "white", "cortex")),
    ],
)
def test_tissues_have_the_contrasts_order_on_every_scanner(head, contrast, darkest_first):
    group = head.group
    where = {
        "ventricles": (group == 2) & (head.csf > 230),
        "cortex": (group == 11) & (head.csf < 25) & (head.white < 25),
        "white": (group == 3) & (head.white > 230),
    }
    assert all(part.sum() > 100 for part in where.values())
    levels = []
    for seed in range(6):
        image = render_brain(head, contrast, Draws(seed))
        assert image.isfinite().all()
        levels.append([float(image[where[tissue]].median()) for tissue in darkest_first])
    levels = np.array(levels)
    assert (np.diff(levels, axis=1) > 0).mean() > 0.9
    relative = levels[:, 1] / levels[:, 2]
    assert relative.std() > 0.01  # scanners differ


def subject(files, number, cache) -> RenderedSubject:
    return RenderedSubject("sub-1_T2w", "sub-1", "T2w", *files, number, cache)


def test_a_scanner_is_repeated_and_the_brain_registered_once(files, head, tmp_path, monkeypatch):
    first = subject(files, 0, tmp_path).load(GRID)
    moved = np.linalg.norm(first.to_template[:3, 3])
    assert moved < 15  # the phantom lies in the template's space
    monkeypatch.setattr("lesioncore.training.rendered.register", lambda *_: pytest.fail("registered again"))
    again, other = subject(files, 0, tmp_path).load(GRID), subject(files, 1, tmp_path).load(GRID)
    assert np.array_equal(first.volume, again.volume)
    core = head.core.numpy()
    for loaded in (first, other):
        assert 2 * ndimage.distance_transform_edt(~core)[loaded.mask].max() < 5  # mm beyond it
        assert 2 * ndimage.distance_transform_edt(core)[~loaded.mask].max() < 4  # mm of it missing
    assert not np.array_equal(first.mask, other.mask)  # no two extractions end at quite the same place
    assert not np.array_equal(first.volume, other.volume)
    assert (first.volume[first.mask] > 0).all()
    around = (head.distance > 4) & (head.distance < 10)
    assert np.median(first.volume[around.numpy()]) < 0.7 * np.percentile(first.volume[first.mask], 95)  # bone is dark
    assert subject(files, 0, tmp_path).key() != subject(files, 1, tmp_path).key()
    scan = first.prepare(lc.PriorMetadata("test", grid=GRID, preprocessing=("extract", "register", "bias")))
    assert scan.steps == ()
    assert torch.isfinite(scan.slices).all()


@pytest.mark.parametrize("contrast", ["T1w", "T2w", "FLAIR"])
def test_a_whole_head_has_its_brain_found(files, head, tmp_path, contrast):
    whole = replace(subject(files, 3, tmp_path), modality=contrast, whole=True)
    loaded = whole.load(GRID)
    assert (loaded.mask, loaded.to_template) == (None, None)
    assert whole.key() != replace(whole, whole=False).key()
    away = head.distance.numpy()
    inside = np.median(loaded.volume[away < 0])
    assert np.median(loaded.volume[(away > 2) & (away < 6)]) < 0.4 * inside  # bone
    assert np.median(loaded.volume[(away > 9) & (away < 12)]) > 0.2 * inside  # fat
    assert np.median(loaded.volume[away > 20]) < 0.1 * inside  # air
    assert not any(tmp_path.iterdir())  # no registration but the scan's own
    extracted, core = loaded.preprocess(("extract",)), head.core.numpy()
    assert 2 * (extracted.mask & core).sum() / (extracted.mask.sum() + core.sum()) > 0.9


def test_every_tenth_person_is_held_out_on_new_scanners(tmp_path):
    for number in range(20):
        name = f"sub-{number:02d}"
        for path in (
            tmp_path / name / "anat" / f"{name}_T1w.nii.gz",
            tmp_path / "derivatives" / "muse" / name / "anat" / f"{name}_desc-brain_mask.nii.gz",
            tmp_path / "derivatives" / "muse" / name / "anat" / f"{name}_desc-muse_dseg.nii.gz",
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    options = Build(tmp_path, tmp_path / "out", scanners=3, phantoms=5)
    learning, held_out = people(options, "T2w"), held_out_people(options, "T2w")
    assert len(learning) == 18 * 3 + 5
    assert {subject.person for subject in held_out if isinstance(subject, RenderedSubject)} == {"sub-09", "sub-19"}
    assert all(subject.whole for subject in held_out if isinstance(subject, RenderedSubject))
    assert not {subject.person for subject in learning} & {subject.person for subject in held_out}
    seen = {subject.number for subject in learning if isinstance(subject, RenderedSubject)}
    assert not seen & {subject.number for subject in held_out if isinstance(subject, RenderedSubject)}
    assert len({subject.id for subject in [*learning, *held_out]}) == len(learning) + len(held_out)
    assert calibration_people(options, "T2w") == held_out
    own = [subject for subject in calibration_people(options, "T1w") if isinstance(subject, FileSubject)]
    assert [subject.person for subject in own] == ["sub-03", "sub-10", "sub-16"]  # of those who are not held out
    with pytest.raises(ValueError, match="folder: "):
        rendered_subjects(tmp_path / "out", "T1w", 1, tmp_path)


def people_of_one_head(folder: Path, files: list[Path]) -> Path:
    """Ten people's scans, of whom two to learn from and one who is held out have regions."""
    suffixes = ("T1w.nii.gz", "desc-brain_mask.nii.gz", "desc-muse_dseg.nii.gz")
    for number in range(10):
        name = f"sub-{number:02d}"
        for part, suffix, source in zip(("", *2 * ("derivatives/muse",)), suffixes, files, strict=True):
            path = folder / part / name / "anat" / f"{name}_{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if not part or (number in (0, 1, 9) and "brain" in suffix):
                path.symlink_to(source)
            elif number in (0, 1, 9):
                regions = nib.load(source)
                regions.header["descrip"] = name  # or all were the same scan
                nib.save(regions, path)
    return folder


def test_an_embedded_prior_is_not_calibrated_into_what_is_there(tmp_path):
    (tmp_path / "real-t1").mkdir()
    with pytest.raises(FileExistsError, match=r"output: .*real-t1"):
        recalibrate(Build(tmp_path, tmp_path), "T1w")


def test_an_embedded_prior_gets_new_thresholds_and_keeps_its_weights(files, tmp_path, monkeypatch):
    monkeypatch.setattr("lesioncore.training.real.RESTORE", QUICK)
    options = Build(people_of_one_head(tmp_path / "people", files), tmp_path / "out", calibrate_only=True)
    before, after = lc.load_prior("real-flair"), lc.load_prior(recalibrate(options, "FLAIR"))
    assert after.metadata.calibration.subjects == 2  # one person by two scanners
    assert after.metadata.calibration.settings["solver"]["steps"] == QUICK.solver.steps
    assert after.metadata.calibration.threshold(0.05) != before.metadata.calibration.threshold(0.05)
    assert "whole heads of held-out people" in after.metadata.calibration.notes["data"]
    states = before.state_dict(), after.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_prior_is_built_and_calibrated_on_people_it_has_not_seen(files, tmp_path, monkeypatch):
    """The command as a whole, with a small network, on one head for three people."""
    folder = people_of_one_head(tmp_path / "people", files)
    monkeypatch.setattr("lesioncore.training.real.RESTORE", QUICK)
    small = lc.MultiscaleVAEConfig((100, 100), (4, 6), 3, finer_channels=(2,))
    options = Build(
        folder,
        tmp_path / "out",
        scanners=1,
        recipe=replace(RECIPE, model=small),
        training=TrainingConfig(slices_seen=64, batch_size=16),
    )
    prior = lc.load_prior(build(options, "FLAIR"))
    assert (prior.metadata.name, prior.metadata.modality) == ("real-flair", "FLAIR")
    assert prior.metadata.preprocessing == ("extract", "register", "bias")
    calibration = prior.metadata.calibration
    assert calibration.settings["solver"]["outlier"] == 3.0
    assert calibration.settings["sign"] == 1
    assert calibration.threshold(0.05) > 0
    relative = calibration.spread_map.relative(torch.Size((86, 1, 100, 100)))
    assert 0.05 < relative.min() < 0.9 < relative.max() < 5
    card = (tmp_path / "out" / "real-flair" / "README.md").read_text()
    assert "2 scans" in card
    assert "CC BY-SA 3.0" in card
    assert str(tmp_path) not in (tmp_path / "out" / "real-flair" / "config.json").read_text()
