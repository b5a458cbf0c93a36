"""What an import refuses, names and leaves as it was."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from support.releases import OTHER_GRID, RELEASES, write_labels, write_scan

from lesioncore.datasets import DATASETS, Imported, import_dataset

SCAN = "BraTS2021_00000/BraTS2021_00000_t2.nii.gz"
MASK = "BraTS2021_00000/BraTS2021_00000_seg.nii.gz"


@pytest.fixture
def source(tmp_path) -> Path:
    """One patient of BraTS 2021."""
    RELEASES["brats21"](tmp_path / "src")
    return tmp_path / "src"


def run(source: Path, name: str = "brats21", **options: object) -> Imported:
    return import_dataset(DATASETS[name], source, source.parent / "out", **options)


def refused(source: Path, message: str, name: str = "brats21", **options: object) -> None:
    """The import raises, and leaves nothing behind."""
    before = sorted(source.parent.iterdir())
    with pytest.raises((ValueError, OSError), match=message):
        run(source, name, **options)
    assert sorted(source.parent.iterdir()) == before


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_import_writes_the_same_bytes(source):
    run(source)
    first = files(source.parent / "out")
    (source.parent / "out").rename(source.parent / "first")
    run(source)
    assert files(source.parent / "out") == first


def test_it_tells_where_each_file_is_from(source):
    run(source)
    out = source.parent / "out"
    rows = [line.split("\t") for line in (out / "provenance.tsv").read_text().splitlines()]
    assert rows[0] == ["file", "source", "sha256"]
    entries = {file: (origin, digest) for file, origin, digest in rows[1:]}
    origin, digest = entries["sub-BraTS202100000/anat/sub-BraTS202100000_T2w.nii.gz"]
    assert (origin, digest) == (SCAN, hashlib.sha256((source / SCAN).read_bytes()).hexdigest())
    assert MASK in [origin for origin, _ in entries.values()]
    images = {file for file in files(out) if file.endswith(".nii.gz")}
    assert images == set(entries)


def test_it_tells_what_it_left_out(source):
    (source / "read\tme\udcff.txt").write_text("text")
    write_scan(source / "template.nii.gz")
    imported = run(source)
    assert imported.left_out == Counter(
        {
            "T1ce, not asked for": 1,
            "neither an image nor a table of people": 1,
            f"an image of no kind that is known in {DATASETS['brats21'].title}": 1,
        }
    )
    text = (source.parent / "out" / "left_out.tsv").read_text()
    assert "template.nii.gz\tan image of no kind" in text
    assert "read me\\udcff.txt\tneither" in text


def test_what_a_person_lacks_is_named(source):
    (source / MASK).unlink()
    (source / SCAN).unlink()
    imported = run(source)
    missing = [("sub-BraTS202100000", "no T2w"), ("sub-BraTS202100000", "no label-lesion mask")]
    assert imported.missing == missing
    assert (source.parent / "out" / "missing.tsv").read_text().splitlines()[1:] == ["\t".join(row) for row in missing]
    assert not (source.parent / "out" / "derivatives").exists()


def test_a_mask_without_a_scan_is_named(source):
    write_labels(source / "BraTS2021_00002" / "BraTS2021_00002_seg.nii.gz", (1,))
    imported = run(source)
    assert imported.people == 1
    assert imported.missing == [("BraTS2021_00002", "no scan to its mask BraTS2021_00002/BraTS2021_00002_seg.nii.gz")]


def test_empty_masks_and_other_grids_are_named(source):
    write_labels(source / MASK, ())
    write_scan(source / SCAN, OTHER_GRID)
    imported = run(source)
    assert imported.empty == ["sub-BraTS202100000_label-lesion_mask.nii.gz"]
    assert imported.remarks == [
        "sub-BraTS202100000_label-lesion_mask.nii.gz: lies on another grid than sub-BraTS202100000_T2w"
    ]


def test_names_may_differ_in_case_and_folders_be_nested(tmp_path):
    source = tmp_path / "src"
    write_scan(source / "a" / "b" / "BRATS2021_00000" / "brats2021_00000_T2.NII.GZ")
    write_labels(source / "a" / "b" / "BRATS2021_00000" / "BraTS2021_00000_SEG.nii.gz", (1,))
    imported = run(source)
    assert (imported.people, imported.masks) == (1, {"label-lesion": 1})


def test_files_of_macos_and_hidden_ones_are_passed_over(source):
    for name in (f"__MACOSX/{SCAN}", "BraTS2021_00000/._BraTS2021_00000_t2.nii.gz", f".git/{SCAN}"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(b"no image")
    assert run(source).left_out == {"T1ce, not asked for": 1}


def test_links_are_followed_within_the_source_alone(source, tmp_path):
    secret = write_scan(tmp_path / "elsewhere" / "BraTS2021_00002_t2.nii.gz")
    inside = source / "store" / "a"
    inside.parent.mkdir()
    (source / SCAN).rename(inside)
    (source / SCAN).symlink_to(inside)
    (source / "BraTS2021_00002_t2.nii.gz").symlink_to(secret)
    (source / "BraTS2021_00003_t2.nii.gz").symlink_to(source / "nothing")
    (source / "linked").symlink_to(secret.parent)
    imported = run(source)
    assert imported.people == 1
    assert imported.scans["T2w"] == 1
    reasons = ("a link that leads out of SRC", "a link to nothing", "a linked folder, which is not followed")
    assert [imported.left_out[reason] for reason in reasons] == [1, 1, 1]
    out = tmp_path / "out"
    assert not any(path.is_symlink() for path in out.rglob("*"))


def test_two_files_of_one_scan_are_refused(source):
    write_scan(source / "copy" / "BraTS2021_00000" / "BraTS2021_00000_t2.nii")
    refused(source, "sub-BraTS202100000_T2w: got 2 files, BraTS2021_00000/.* and copy/.*, expected one")


def test_two_masks_of_one_scan_are_refused(source):
    write_labels(source / "copy" / "BraTS2021_00000" / "BraTS2021_00000_seg.nii", (1,))
    refused(source, "label-lesion mask of sub-BraTS202100000: got 2 files")


def test_two_people_of_one_name_are_refused(tmp_path):
    for name in ("Brats17_A_B_1", "Brats17_AB_1"):
        write_scan(tmp_path / "src" / name / f"{name}_t2.nii.gz")
    refused(tmp_path / "src", "got the subjects .* which would both be sub-Brats17AB1", "brats17")


def test_another_data_set_is_recognised(source):
    refused(
        source,
        "without any T1w or T2w or FLAIR scan of BraTS 2023.*expected files such as BraTS-GLI-00000-000/.*found 5"
        " images, such as BraTS2021_00000/.*; 4 of them look like those of: lesioncore import brats21",
        "brats23",
    )


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "src").mkdir()
    refused(tmp_path / "src", "found 0 images$")
    (tmp_path / "src" / "BraTS2021.zip").touch()
    refused(tmp_path / "src", "found 0 images; unpack BraTS2021.zip first$")
    with pytest.raises(FileNotFoundError, match="SRC: no such folder"):
        run(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="expected the folder that BraTS 2021"):
        run(tmp_path / "file")


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_exists_is_not_replaced(source, kind):
    out = source.parent / "out"
    {"file": out.touch, "folder": out.mkdir, "link": lambda: out.symlink_to("nowhere")}[kind]()
    refused(source, "OUT: .* exists; choose another name")


def test_the_source_stays_as_it_is(source):
    before = files(source)
    run(source)
    assert files(source) == before
    with pytest.raises(ValueError, match="lies in SRC"):
        import_dataset(DATASETS["brats21"], source, source / "bids")
    assert files(source) == before


def test_strange_labels_are_refused(source):
    write_labels(source / MASK, (1, 3))
    refused(source, "_seg.nii.gz: got the label 3, expected 0, 1, 2, 4")
    write_labels(source / MASK, (1, 1.5), np.float32)
    refused(source, "_seg.nii.gz: got the label 1.5, expected")
    write_labels(source / MASK, (1, 1.999), np.float32)
    assert run(source).masks == {"label-lesion": 1}


def test_damaged_files_are_refused_and_all_are_named(source):
    noise = np.random.default_rng(0).integers(0, 999, (32, 32, 32)).astype(np.int16)
    nib.save(nib.Nifti1Image(noise, np.eye(4)), source / SCAN)  # large enough that its header can be read
    for name in (SCAN, MASK):
        (source / name).write_bytes((source / name).read_bytes()[:-4])
    flair = source / SCAN.replace("_t2", "_flair")
    flair.write_bytes(b"no image")
    refused(source, r"SRC: got 3 damaged files of 4, expected none; copy them again, or take them out: .*_seg\.nii\.gz")
    refused(source, r"_flair\.nii\.gz: got no image that can be read.*_t2\.nii\.gz: is damaged or cut short")
    flair.unlink()
    refused(source, "got 2 damaged files of 3", link=True)


@pytest.mark.parametrize(("name", "ending"), [("brats19", "_t2.nii"), ("oasis-1", ".img")])
def test_files_that_are_not_compressed_are_read_to_their_end(tmp_path, name, ending):
    RELEASES[name](tmp_path / "src")
    path = next(path for path in (tmp_path / "src").rglob(f"*{ending}"))
    path.write_bytes(path.read_bytes()[:-1])
    refused(tmp_path / "src", f"{ending}: is damaged or cut short: it has .* bytes, and its header promises", name)


def test_arguments_are_checked(source):
    refused(source, "modality: got PDw, expected T1w, T2w, FLAIR, T1ce, which brats21 has", modalities=["PDw"])
    refused(source, "region: got half, expected whole, core, enhancing", region="half")


def test_links_take_no_space(source):
    run(source, link=True)
    scan = source.parent / "out" / "sub-BraTS202100000" / "anat" / "sub-BraTS202100000_T2w.nii.gz"
    assert os.path.samefile(scan, source / SCAN)


def test_links_to_another_file_system_are_refused(source, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", fail)
    refused(source, "link: .* cannot be linked to from OUT .*; copy it instead", link=True)


def test_nothing_is_left_of_an_import_that_was_stopped(source):
    def stop(done: int, _: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(source, progress=stop)
    assert [path.name for path in source.parent.iterdir()] == ["src"]


def test_a_sidecar_that_is_no_json_is_named(tmp_path):
    RELEASES["camcan"](tmp_path / "src")
    next((tmp_path / "src").rglob("sub-CC110033_T1w.json")).write_text("[1")
    imported = run(tmp_path / "src", "camcan")
    assert (
        "anat/sub-CC110033/anat/sub-CC110033_T1w.json: no JSON object that can be read, not taken over"
        in imported.remarks
    )
    assert len(list((tmp_path / "out").glob("sub-*/anat/*.json"))) == 1


def test_both_files_of_an_analyze_pair_are_in_the_source(tmp_path):
    RELEASES["oasis-1"](tmp_path / "src")
    first, second, _ = sorted((tmp_path / "src").rglob("*.img"))
    first.unlink()
    (tmp_path / "elsewhere.img").write_bytes(second.read_bytes())
    second.unlink()
    second.symlink_to(tmp_path / "elsewhere.img")
    imported = run(tmp_path / "src", "oasis-1")
    assert imported.scans == {"T1w": 1}
    assert imported.left_out["a header without its .img"] == 2


def test_masks_of_one_scan_lie_on_one_grid(tmp_path):
    RELEASES["atlas-1.2-native"](tmp_path / "src")
    other = next((tmp_path / "src").rglob("*_LesionSmooth_1.nii.gz"))
    nib.save(nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), OTHER_GRID), other)
    refused(tmp_path / "src", "lies on another grid than c0003s0002t01_LesionSmooth.nii.gz", "atlas-1.2-native")


def test_of_headers_and_json_files_only_listed_fields_are_taken(tmp_path):
    RELEASES["camcan"](tmp_path / "src")
    released = next((tmp_path / "src").rglob("sub-CC110033_T1w.nii.gz"))
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header["descrip"] = b"Smith^John"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Smith^John"))
    nib.save(image, released)
    sidecar = released.with_name("sub-CC110033_T1w.json")
    sidecar.write_text('{"EchoTime": 0.003, "PatientName": "Smith", "AcquisitionTime": "8:00"}')
    imported = import_dataset(DATASETS["camcan"], tmp_path / "src", tmp_path / "out", deidentify=True)
    made = next((tmp_path / "out").rglob("sub-CC110033_T1w.json"))
    assert json.loads(made.read_text()) == {"EchoTime": 0.003}
    assert any("not taken over, as none of the list: AcquisitionTime, PatientName" in line for line in imported.remarks)
    copy = made.with_suffix(".nii.gz")
    assert np.array_equal(nib.load(copy).get_fdata(), image.get_fdata())
    assert b"Smith" not in gzip.decompress(copy.read_bytes())
    with pytest.raises(ValueError, match="link: a linked file keeps its header"):
        import_dataset(DATASETS["camcan"], tmp_path / "src", tmp_path / "b", deidentify=True, link=True)


def test_tables_have_no_formulas(tmp_path):
    RELEASES["camcan"](tmp_path / "src")
    table = next((tmp_path / "src").rglob("participants.tsv"))
    lines = table.read_text().splitlines()
    first = lines[1].split("\t")
    first[lines[0].split("\t").index("age")] = "=1+1"
    table.write_text("\n".join([lines[0], "\t".join(first), *lines[2:]]))
    import_dataset(DATASETS["camcan"], tmp_path / "src", tmp_path / "out")
    assert "\t'=1+1" in (tmp_path / "out" / "participants.tsv").read_text()
