"""The simulated population on disk: BIDS names, deterministic bytes, nothing half written or overwritten."""

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("nilearn")

from lesioncore.phantom import simulate, write_dataset

DERIVED = "derivatives/lesioncore-phantom"


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("bids") / "nested" / "patients"
    return write_dataset(out, subjects=2, contrast="T1w", lesion="stroke", voxel_size=6.0, seed=7)


def test_layout_is_bids(dataset):
    names = set(contents(dataset))
    expected = {"dataset_description.json", "participants.tsv", "participants.json", "README.md"}
    expected |= {f"{DERIVED}/dataset_description.json", f"{DERIVED}/README.md"}
    for subject in ("sub-0001", "sub-0002"):
        stems = [f"{subject}/anat/{subject}_T1w"]
        stems += [f"{DERIVED}/{subject}/anat/{subject}_{kind}_mask" for kind in ("desc-brain", "label-lesion")]
        expected |= {stem + suffix for stem in stems for suffix in (".nii.gz", ".json")}
    assert names == expected
    assert all(re.fullmatch(r"[A-Za-z0-9/_.-]+", name) for name in names)


def test_descriptions_name_kind_and_maker(dataset):
    raw, derived = (
        json.loads((dataset / folder / "dataset_description.json").read_text()) for folder in (".", DERIVED)
    )
    assert raw["DatasetType"] == "raw"
    assert derived["DatasetType"] == "derivative"
    for description in (raw, derived):
        assert description["Name"]
        assert description["BIDSVersion"].startswith("1.")
        assert description["GeneratedBy"][0]["Name"] == "lesioncore-phantom"
        assert description["GeneratedBy"][0]["Version"]
    link = dataset / DERIVED / derived["DatasetLinks"]["raw"]
    assert link.resolve() == dataset.resolve()
    sidecar = json.loads((dataset / DERIVED / "sub-0002/anat/sub-0002_label-lesion_mask.json").read_text())
    assert sidecar["Type"] == "Lesion"
    assert (dataset / sidecar["Sources"][0].removeprefix("bids:raw:")).is_file()


def test_participants_table_matches_its_description(dataset):
    header, *rows = (line.split("\t") for line in (dataset / "participants.tsv").read_text().splitlines())
    assert header[0] == "participant_id"
    assert set(header) == set(json.loads((dataset / "participants.json").read_text()))
    assert [row[0] for row in rows] == ["sub-0001", "sub-0002"]
    for row in rows:
        assert len(row) == len(header)
        mask = nib.load(dataset / DERIVED / row[0] / "anat" / f"{row[0]}_label-lesion_mask.nii.gz")
        volume = np.asarray(mask.dataobj).sum() * 6.0**3 / 1000
        assert float(row[header.index("lesion_volume")]) == pytest.approx(volume, abs=1e-3)


def test_files_hold_what_simulate_gives(dataset):
    expected = simulate(1, contrast="T1w", lesion="stroke", voxel_size=6.0, seed=7)
    scan = nib.load(dataset / "sub-0002/anat/sub-0002_T1w.nii.gz")
    np.testing.assert_array_equal(np.asarray(scan.dataobj), expected.image)
    np.testing.assert_array_equal(scan.affine, expected.affine)
    assert scan.get_data_dtype() == np.int16
    assert scan.header.get_xyzt_units()[0] == "mm"
    assert int(scan.header["sform_code"]) == 4
    for name, mask in (("desc-brain", expected.brain_mask), ("label-lesion", expected.lesion_mask)):
        image = nib.load(dataset / DERIVED / f"sub-0002/anat/sub-0002_{name}_mask.nii.gz")
        assert image.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(np.asarray(image.dataobj), mask)
        np.testing.assert_array_equal(image.affine, scan.affine)
    sidecar = json.loads((dataset / "sub-0002/anat/sub-0002_T1w.json").read_text())
    assert sidecar["SimulationSeed"] == 7
    assert sidecar["SimulationParameters"] == json.loads(json.dumps(expected.parameters))


@pytest.mark.slow
def test_bytes_depend_on_the_seed_alone(dataset, tmp_path):
    arguments = {"subjects": 2, "contrast": "T1w", "lesion": "stroke", "voxel_size": 6.0}
    seen = []
    again = write_dataset(
        tmp_path / "again", workers=2, seed=7, progress=lambda done, total: seen.append((done, total)), **arguments
    )
    assert contents(again) == contents(dataset)
    assert seen == [(1, 2), (2, 2)]
    other = contents(write_dataset(tmp_path / "other", seed=8, **arguments))
    scan = "sub-0001/anat/sub-0001_T1w.nii.gz"
    assert other[scan] != contents(dataset)[scan]


def test_healthy_subjects_have_no_lesion_mask(tmp_path):
    out = write_dataset(tmp_path / "healthy", subjects=1, voxel_size=8.0)
    assert not list(out.rglob("*lesion_mask*"))
    assert (out / "participants.tsv").read_text().splitlines()[1].startswith("sub-0001\tnone\tn/a\t")


def test_nothing_is_overwritten_unasked(dataset, tmp_path):
    before = contents(dataset)
    with pytest.raises(FileExistsError, match="pass overwrite=True"):
        write_dataset(dataset, subjects=1, voxel_size=8.0)
    assert contents(dataset) == before
    empty = tmp_path / "empty"
    empty.mkdir()
    write_dataset(empty, subjects=2, voxel_size=8.0)
    assert (empty / "sub-0002").is_dir()
    write_dataset(empty, subjects=1, voxel_size=8.0, overwrite=True)
    assert (empty / "sub-0001").is_dir()
    assert not (empty / "sub-0002").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


@pytest.mark.parametrize("description", [None, "{", "[]", '{"GeneratedBy": [{"Name": "fMRIPrep"}]}'])
def test_overwrite_spares_what_is_not_ours(description, tmp_path):
    foreign = tmp_path / "study"
    foreign.mkdir()
    (foreign / "notes.txt").write_text("keep")
    if description is not None:
        (foreign / "dataset_description.json").write_text(description)
    with pytest.raises(FileExistsError, match="not written by lesioncore phantom"):
        write_dataset(foreign, subjects=1, voxel_size=8.0, overwrite=True)
    assert (foreign / "notes.txt").read_text() == "keep"
    file = tmp_path / "file"
    file.write_text("keep")
    with pytest.raises(FileExistsError, match="no folder"):
        write_dataset(file, subjects=1, voxel_size=8.0, overwrite=True)


def test_an_interrupted_run_leaves_nothing(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "half", subjects=2, voxel_size=8.0, progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"subjects": 0}, "subjects: got .* expected a whole number of at least 1"),
        ({"subjects": -2}, "subjects: got .* expected a whole number"),
        ({"workers": 0}, "workers: got .* expected a whole number of at least 1"),
        ({"contrast": "PD"}, "contrast: got .* expected one of"),
        ({"voxel_size": -1}, "voxel_size: got .* expected millimetres"),
    ],
)
def test_bad_arguments_write_nothing(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_dataset(tmp_path / "out", **{"subjects": 1, "voxel_size": 8.0, **arguments})
    assert list(tmp_path.iterdir()) == []
