"""The restored image: a picture of health in the scan's own units, range, detail and bias field."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.models import head, scan_values, tiny_metadata

from lesioncore.restoration.detail import bounded_detail, changed_share
from lesioncore.restoration.prepare import prepare
from lesioncore.restoration.scan import Scan

SHAPE = (40, 36, 22)
BRAIN = head(SHAPE)
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])  # half of the prior's voxels


@pytest.fixture(scope="module")
def healthy() -> torch.Tensor:
    """Smooth anatomy with fine noise."""
    coarse = scan_values(head((20, 18, 11)))
    fine = torch.nn.functional.interpolate(coarse[None, None], size=SHAPE, mode="trilinear")[0, 0]
    noise = 8 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(2))
    return torch.where(BRAIN, fine.clamp_min(50) + noise, 0.0)


@pytest.fixture(scope="module")
def lesion() -> torch.Tensor:
    lesion = torch.zeros(SHAPE, dtype=torch.bool)
    lesion[14:25, 13:22, 7:15] = True  # its sides lie within voxels of the prior's grid
    return lesion & BRAIN


def prepared(values: torch.Tensor) -> Scan:
    return prepare(values, tiny_metadata(), affine=AFFINE, mask=BRAIN)


def test_a_lesion_leaves_neither_its_texture_nor_its_border(healthy, lesion):
    """The best possible residual, that of the scan without its lesion, gives the healthy image but for fine detail."""
    generator = torch.Generator().manual_seed(3)
    ill = torch.where(lesion, healthy + 150 + 60 * torch.randn(SHAPE, generator=generator), healthy)
    scan = prepared(ill)
    truth = replace(scan, slices=scan.slices.clone())
    coarse = scan.grid_plan.to_grid(healthy, 0.0, mask=BRAIN)
    truth.slices = torch.where(scan.mask, scan.intensity_map(coarse), scan.slices)
    residual = scan.slices - truth.slices
    restored = scan.restored(residual, spread=0.05)
    subtracted = scan.intensity_map.inverse(scan.intensity_map(ill.numpy()) - scan.residual(residual))
    near = torch.nn.functional.max_pool3d(lesion[None].float(), 3, 1, 1)[0] > 0
    near = (near & BRAIN).numpy()
    error, before = (np.abs(image - healthy.numpy())[near].mean() for image in (restored, subtracted))
    assert error < 0.65 * before
    # Noise stays, so that no smooth patch shows where the lesion was.
    inside = lesion.numpy()
    fine = [
        np.diff(image, axis=0)[inside[1:] & inside[:-1]].std() for image in (restored, healthy.numpy(), ill.numpy())
    ]
    assert fine[1] < fine[0] < 0.5 * fine[2]
    far = (torch.nn.functional.max_pool3d(lesion[None].float(), 17, 1, 8)[0] == 0).numpy()
    assert np.array_equal(restored[far], ill.numpy()[far])


def test_values_stay_within_the_scans_range_whatever_the_residual(healthy):
    scan = prepared(healthy)
    for sign in (1, -1):
        restored = scan.restored(torch.where(scan.mask, torch.full_like(scan.slices, 100.0 * sign), 0.0), 0.1)
        assert restored.min() >= healthy.min()
        assert restored.max() <= healthy.max()
        assert np.isfinite(restored).all()


def test_the_bias_field_is_put_back(healthy):
    field = torch.linspace(0.6, 1.6, SHAPE[0])[:, None, None].expand(SHAPE).contiguous()
    plain = prepared(healthy)
    observed = healthy * field
    biased = replace(plain, ras_observed=observed, ras_bias=field)
    residual = torch.where(plain.mask, torch.full_like(plain.slices, 0.4), 0.0)
    with_field, without = biased.restored(residual, 0.2), plain.restored(residual, 0.2)
    inside = BRAIN.numpy() & (without > healthy[BRAIN].min().item())
    assert np.allclose(
        with_field[inside], np.clip(without * field.numpy(), 0, float(observed.max()))[inside], rtol=1e-5
    )
    assert np.array_equal(with_field[~BRAIN.numpy()], observed.numpy()[~BRAIN.numpy()])


def test_detail_is_kept_where_nothing_changed_and_bounded_where_much_did():
    generator = torch.Generator().manual_seed(0)
    detail = torch.randn(SHAPE, generator=generator)
    share = torch.zeros(SHAPE)
    share[20:] = 1.0
    bounded = bounded_detail(detail, share, torch.ones(SHAPE, dtype=torch.bool))
    assert torch.equal(bounded[:20], detail[:20])
    assert bounded[20:].abs().max() == pytest.approx(1.0, rel=0.05)
    small = detail.abs() < 0.9
    assert torch.allclose(bounded[small], detail[small])


def test_the_changed_share_rises_with_the_change_and_reaches_beyond_it():
    residual = torch.zeros(9, 1, 9, 9)
    for size, expected in ((0.1, 0.0), (0.3, 0.5), (1.0, 1.0)):
        residual[4, 0, 4, 4] = -size
        share = changed_share(residual, 0.1)
        assert share[4, 0, 4, 4] == pytest.approx(expected)
        assert torch.equal(share[3:6, 0, 3:6, 3:6], share[4, 0, 4, 4].expand(3, 3, 3))
        assert share.sum() == pytest.approx(27 * expected)
