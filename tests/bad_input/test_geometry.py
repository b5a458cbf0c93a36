"""Scans and masks whose header says something wrong of where their voxels lie: none gives a wrong answer silently."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from support.bad_input import WARNED, BadInput, listed, rows
from support.models import tiny_calibration, tiny_metadata, tiny_vae
from support.scans import AFFINE, BRAIN, FAST, METADATA, VALUES

import lesioncore as lc
from lesioncore.data.nifti import load_image
from lesioncore.models import PriorMetadata
from lesioncore.preprocess.template import brain_template
from lesioncore.restoration.prepare import prepare
from lesioncore.restoration.volumes import read_mask
from lesioncore.subjects import FileSubject

PRIOR = tiny_vae(metadata=METADATA)
TEMPLATE = brain_template()
ADULT, ADULT_AFFINE = TEMPLATE.t1[::2, ::2, ::2].copy(), TEMPLATE.affine @ np.diag([2.0, 2, 2, 1])
ADULT_METADATA = PriorMetadata(
    "adults", "T1w", lc.SliceGrid(4.0, (50, 50)), lc.IntensityScale.fit(ADULT[ADULT > 0]), None
)


SHEAR = np.eye(4)
SHEAR[0, 1] = 0.2


def image(affine=AFFINE, values=None):
    return nib.Nifti1Image((VALUES if values is None else values).numpy(), affine)


def voxels(*sizes):
    """The affine with axes so many times as long."""
    return AFFINE @ np.diag([*sizes, 1.0])


def turned(degrees):
    t = np.deg2rad(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]
    return turn


def restore(affine):
    return lambda _: lc.restore(image(affine), PRIOR, config=FAST)


def array(affine):
    return lambda _: lc.restore(VALUES.numpy(), PRIOR, affine=affine, config=FAST)


def healthy(affine):
    return lambda _: lc.calibrate(PRIOR, [image(), image(affine)], config=FAST)


def adult(affine=ADULT_AFFINE, values=ADULT, **options):
    return lambda _: prepare(nib.Nifti1Image(values, affine), ADULT_METADATA, **options)


def masked(mask_affine, volume=None, affine=None):
    mask = nib.Nifti1Image(BRAIN.numpy().astype(np.uint8), mask_affine)
    scan = image() if volume is None else volume
    return lambda _: lc.restore(scan, PRIOR, mask=mask, config=FAST, affine=affine)


def lesion(affine):
    def use(folder):
        nib.save(image(), folder / "scan.nii")
        nib.save(nib.Nifti1Image(BRAIN.numpy().astype(np.uint8), affine), folder / "lesion.nii")
        FileSubject("a", "a", None, folder / "scan.nii", lesion=folder / "lesion.nii").load(METADATA.grid)

    return use


def shifted(millimetres):
    moved = AFFINE.copy()
    moved[0, 3] += millimetres
    return moved


def in_units(name):
    def use(_):
        scan = image()
        scan.header.set_xyzt_units(name)
        lc.restore(scan, PRIOR, config=FAST)

    return use


def analyze(folder):
    nib.save(nib.AnalyzeImage(VALUES.numpy(), np.diag([4.0, 4, 4, 1])), folder / "scan.img")
    load_image(folder / "scan.img")


def no_orientation(folder):
    scan = image()
    scan.set_sform(AFFINE, code=0)
    scan.set_qform(AFFINE, code=0)
    nib.save(scan, folder / "scan.nii")
    load_image(folder / "scan.nii")


def header(**fields):
    """A file with both forms, of which the header's fields are changed."""

    def use(folder):
        made = image()
        made.set_qform(AFFINE, code=1)
        made.set_sform(AFFINE, code=1)
        nib.save(made, folder / "scan.nii")
        with open(folder / "scan.nii", "r+b") as file:
            written = nib.Nifti1Header.from_fileobj(file)
            for field, value in fields.items():
                written[field] = value
            file.seek(0)
            file.write(written.binaryblock)
        return load_image(folder / "scan.nii")

    return use


PIXDIM = np.array([1, 4, 4, 4, 0, 0, 0, 0], np.float32)


@rows(
    "Sizes and places",
    BadInput("affine in metres", restore(np.diag([1e-3, 1e-3, 1e-3, 1]) @ AFFINE), ValueError, ("affine is in mm",)),
    BadInput("affine in metres of a healthy scan", healthy(np.diag([1e-3] * 3 + [1]) @ AFFINE), ValueError, ("in mm",)),
    BadInput("voxels of 40 micrometres", restore(voxels(0.01, 0.01, 0.01)), ValueError, ("0.04 x 0.04 x 0.04 mm",)),
    BadInput("a tenth of the size", restore(voxels(0.1, 0.1, 0.1)), ValueError, ("affine is in mm",)),
    BadInput("affine in micrometres", restore(voxels(1e3, 1e3, 1e3)), ValueError, ("check that the affine is in mm",)),
    BadInput("affine in metres by its unit", in_units("meter"), ValueError, ("affine in metres",)),
    BadInput("affine in micrometres by its unit", in_units("micron"), ValueError, ("affine in micrometres",)),
    BadInput("affine with NaN", array(AFFINE * np.nan), ValueError, ("expected a finite",)),
    BadInput("affine with an axis of 0", array(voxels(1, 0, 1)), ValueError, ("that can be inverted",)),
    BadInput(
        "affine of an image that has its own",
        lambda _: lc.restore(image(), PRIOR, affine=AFFINE, config=FAST),
        ValueError,
        ("given beside an image that has its own",),
    ),
    *(
        BadInput(f"axis {axis} a ten-thousandth", restore(voxels(*sizes)), ValueError, ("affine is in mm",))
        for axis, sizes in enumerate((1 - 0.9999 * np.eye(3)).tolist())
    ),
    BadInput("adult of half the size", adult(ADULT_AFFINE @ np.diag([0.5, 0.5, 0.5, 1])), None, (r"brain has \d+ ml",)),
    BadInput("adult twice as tall", adult(ADULT_AFFINE @ np.diag([1, 1, 2, 1])), None, (r"brain has \d+ ml",)),
    BadInput("right adult", adult(), None),
    BadInput(
        "mask of 1.09 times the size", masked(voxels(1.09, 1.09, 1.09)), ValueError, ("mask: its affine differs",)
    ),
    BadInput("mask turned by 2.5 degrees", masked(turned(2.5) @ AFFINE), ValueError, ("mask: its affine differs",)),
    BadInput(
        "mask of an array with another affine",
        masked(voxels(1.09, 1, 1), volume=VALUES.numpy(), affine=AFFINE),
        ValueError,
        ("mask: its affine differs",),
    ),
    BadInput("mask that lies a voxel beside the scan", masked(shifted(4.0)), ValueError, ("its affine differs",)),
    BadInput("mask that lies half a voxel beside the scan", masked(shifted(2.0)), ValueError, ("its affine differs",)),
    BadInput("mask with left and right exchanged", masked(voxels(-1, 1, 1)), ValueError, ("its affine differs",)),
    BadInput("mask that is sheared", masked(AFFINE @ SHEAR), ValueError, ("its affine differs",)),
    BadInput(
        "mask of another shape",
        lambda _: lc.restore(image(), PRIOR, mask=BRAIN[1:], config=FAST),
        ValueError,
        (r"mask: got shape \(21, 18, 11\)",),
    ),
    BadInput("mask of a rounded header", masked(AFFINE + np.diag([4e-4, 4e-4, 4e-4, 0])), None),
    BadInput("lesion of 1.09 times the size", lesion(voxels(1.09, 1.09, 1.09)), ValueError, ("its affine differs",)),
    BadInput("lesion that lies a voxel beside the scan", lesion(shifted(4.0)), ValueError, ("its affine differs",)),
    BadInput("lesion turned by 2.5 degrees", lesion(turned(2.5) @ AFFINE), ValueError, ("its affine differs",)),
)
def test_sizes_and_places(bad_input, tmp_path):
    bad_input.check(tmp_path)


@rows(
    "Headers",
    BadInput("both forms agree", header(), None),
    BadInput(
        "left and right exchanged between them", header(pixdim=PIXDIM * [-1, *[1] * 7]), None, ("left and right",)
    ),
    BadInput("sizes 6 per cent apart", header(pixdim=PIXDIM * 0.94), None, ("4 x 4 x 4 mm by its sform", "3.76 x")),
    BadInput("voxel size 0 beside a sform", header(pixdim=PIXDIM * 0), None, ("1 x 1 x 1 mm by its pixdim",)),
    BadInput("Analyze without orientation", analyze, None, ("is an Analyze file without orientation",)),
    BadInput("neither sform nor qform", no_orientation, None, ("its orientation is unknown",)),
    BadInput("voxel size 0 and no sform", header(pixdim=PIXDIM * 0, sform_code=0), ValueError, ("sizes 0, 0, 0 mm",)),
)
def test_headers_that_contradict_themselves(bad_input, tmp_path):
    bad_input.check(tmp_path)


@rows(
    "Axes",
    *(
        BadInput(f"tilted by {angle} degrees", adult(turned(angle) @ ADULT_AFFINE), None, (f"turned by {angle} deg",))
        for angle in (5, 10, 20, 30)
    ),
    BadInput("tilted by 3 degrees", adult(turned(3) @ ADULT_AFFINE), None),
    BadInput("sheared", adult(ADULT_AFFINE @ SHEAR), None, ("11 degrees off right angles",)),
    BadInput("front and back exchanged", adult(values=ADULT[:, ::-1].copy()), None, ("reversed or exchanged",)),
    BadInput("top and bottom exchanged", adult(values=ADULT[:, :, ::-1].copy()), None, ("reversed or exchanged",)),
    BadInput("axes exchanged", adult(values=ADULT.swapaxes(1, 2).copy()), None, ("reversed or exchanged",)),
    BadInput(
        "every fifth slice",
        adult(ADULT_AFFINE @ np.diag([1, 1, 5, 1]), ADULT[:, :, ::5].copy()),
        None,
        ("20 mm apart",),
    ),
    BadInput(
        "registered upside down",
        adult(steps=("register",), to_template=np.diag([-1.0, 1, -1, 1])),
        None,
        ("turned by 180 degrees from where its header says",),
    ),
    BadInput(
        "registered with a tilt", adult(turned(20) @ ADULT_AFFINE, steps=("register",), to_template=turned(-20)), None
    ),
)
def test_axes(bad_input, tmp_path):
    bad_input.check(tmp_path)


@listed("Axes", "a remark on any of these", WARNED, "it is kept with the result and in its JSON file")
def test_a_remark_on_a_scan_is_kept_with_its_result():
    prior = tiny_vae(metadata=tiny_metadata(tiny_calibration()))
    with pytest.warns(UserWarning, match="turned by 10 degrees"):
        result = lc.restore(image(turned(10) @ AFFINE), prior)
    assert result.sidecar()["Remarks"][0].startswith("its axes are turned by 10 degrees")


def test_masks_of_the_same_grid_are_told_by_their_corners():
    mask = nib.Nifti1Image(BRAIN.numpy().astype(np.uint8), voxels(1.01, 1, 1))
    assert read_mask(mask, tuple(BRAIN.shape), AFFINE).any()  # .21 of a voxel at the far corner
    with pytest.raises(ValueError, match=r"lies 0\.42 voxels away"):
        read_mask(nib.Nifti1Image(BRAIN.numpy().astype(np.uint8), voxels(1.02, 1, 1)), tuple(BRAIN.shape), AFFINE)
