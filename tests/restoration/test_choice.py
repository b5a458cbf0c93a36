"""Which prior a scan is restored with where none is named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.remembered import computed_once

import lesioncore as lc
from lesioncore.phantom import simulate
from lesioncore.preprocess.tissue_scale import TissueScale
from lesioncore.restoration.prepare import prepare
from lesioncore.restoration.prior_choice import PRIORS, doubt

pytest.importorskip("SimpleITK")


@pytest.fixture(scope="module")
def scans():
    """One person in two contrasts, stripped, as arrays that have no name."""
    return {contrast: simulate(3, split="test", contrast=contrast, voxel_size=2.0) for contrast in ("T1w", "T2w")}


@pytest.fixture
def preprocessed_once():
    """The priors share their preprocessing, and what it makes of a scan."""
    with computed_once(("lesioncore.restoration.prepare", "preprocess")):
        yield


def test_the_priors_of_all_contrasts_share_grid_and_preprocessing():
    metadata = [lc.load_prior(name).metadata for name in PRIORS.values()]
    assert len({(one.grid, one.preprocessing) for one in metadata}) == 1
    assert [one.modality for one in metadata] == list(PRIORS)
    assert all(isinstance(one.intensity, TissueScale) and one.calibration is not None for one in metadata)


def test_names_decide_before_intensities(tmp_path):
    files = [tmp_path / f"sub-{number}_{contrast}.nii.gz" for number, contrast in ((1, "T2w"), (2, "T2w"), (3, "T1w"))]
    found = lc.choose_prior(files[:2])
    assert (found.prior, found.contrast, found.reason) == ("real-t2", "T2w", "the file's name")
    with pytest.raises(ValueError, match=r"prior: got 'auto' for scans of T1w \(1\), T2w \(2\)"):
        lc.choose_prior(files)
    with pytest.raises(ValueError, match="no embedded prior is for bold"):
        lc.choose_prior([tmp_path / "sub-1_bold.nii.gz"])


@pytest.mark.parametrize("contrast", ["T1w", "T2w"])
@pytest.mark.usefixtures("preprocessed_once")
def test_a_nameless_scan_is_known_by_its_tissues(contrast, scans):
    one = scans[contrast]
    found = lc.choose_prior([one.image], affine=one.affine)
    assert (found.contrast, found.reason) == (contrast, "its intensities")
    other = "T2w" if contrast == "T1w" else "T1w"
    scan = prepare(one.image, lc.load_prior(PRIORS[other]).metadata, affine=one.affine)
    assert doubt(scan, other) == f"its intensities fit {contrast} better than {other}"
    assert doubt(scan, contrast) is None
    assert doubt(scan, "bold") is None


def test_slices_have_no_contrast_of_their_own():
    with pytest.raises(ValueError, match="prior: got 'auto' for slices"):
        lc.choose_prior([np.random.default_rng(0).random((3, 1, 100, 100), np.float32)])


def test_a_piece_of_a_brain_is_of_no_contrast():
    """A registered scan that lies outside most regions gives no opinion, and no error."""
    metadata = lc.load_prior(PRIORS["T1w"]).metadata
    rng = np.random.default_rng(0)
    block = np.pad(rng.random((13, 13, 13), np.float32) + 1, 6)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = [-24, -80, 40]
    scan = prepare(block, replace(metadata, intensity=None), affine=affine, mask=block > 0, to_template=np.eye(4))
    assert scan.registered
    assert doubt(scan, "T2w") is None
