"""Groups of regions of the heads that are rendered."""

from __future__ import annotations

from lesioncore.training.heads import _GROUPS
from lesioncore.training.muse_regions import MUSE, kinds


def test_the_pyramidal_tract_is_in_the_posterior_limb():
    """The atlas's table was checked by where the regions lie; the renderer's group has the same numbers."""
    posterior = 1 + list(MUSE).index("internal capsule, posterior limb")
    assert {number for number, region in enumerate(kinds()["regions"]) if region == posterior} == set(_GROUPS[13])
    numbers = [number for members in _GROUPS.values() for number in members]
    assert len(numbers) == len(set(numbers))
