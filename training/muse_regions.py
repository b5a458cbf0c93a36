"""MUSE's numbers of brain regions, grouped to the regions of a report."""

from __future__ import annotations

from itertools import chain

import numpy as np
import numpy.typing as npt

# Of what has two sides, the number on the right. What is not listed, the fluid around the brain and vessels, is none.
MUSE: dict[str, tuple[int, ...]] = {
    "frontal lobe, cortex": (
        *(104, 112, 118, 120, 124, 136, 140, 142, 146, 150, 152),
        *(162, 164, 178, 182, 186, 190, 192, 204),
    ),
    "frontal lobe, white matter": (81,),
    "parietal lobe, cortex": (106, 148, 168, 174, 176, 194, 198),
    "parietal lobe, white matter": (85,),
    "temporal lobe, cortex": (116, 122, 132, 154, 170, 180, 184, 200, 202, 206),
    "temporal lobe, white matter": (87,),
    "occipital lobe, cortex": (108, 114, 128, 134, 144, 156, 160, 196),
    "occipital lobe, white matter": (83,),
    "insula": (102, 172),
    "cingulate gyrus": (100, 138, 166),
    "hippocampus": (47,),
    "amygdala": (31,),
    "thalamus": (59,),
    "caudate nucleus": (36,),
    "putamen": (57,),
    "globus pallidus": (55,),
    "basal forebrain": (23, 69, 76),  # with the accumbens and the optic chiasm
    "ventral diencephalon": (61,),  # hypothalamus, subthalamus, red nucleus, substantia nigra
    "internal capsule, anterior limb": (93,),
    "internal capsule, posterior limb": (91,),  # down to the cerebral peduncle
    "corpus callosum": (95,),
    "fornix": (89,),
    "lateral ventricle": (49, 51),
    "third ventricle": (4,),
    "fourth ventricle": (11,),
    "brain stem": (35,),
    "cerebellar hemisphere": (38, 40),
    "cerebellar vermis": (71, 72, 73),
}
"""The atlas's regions from 1 on, by their MUSE numbers."""

UNPAIRED = ("corpus callosum", "fornix", "third ventricle", "fourth ventricle", "brain stem", "cerebellar vermis")
"""Regions that are one for both sides."""

_PAIRS = (
    *((23, 30), (31, 32), (36, 37), (38, 39), (40, 41), (47, 48), (49, 50), (51, 52), (55, 56), (57, 58), (59, 60)),
    *((61, 62), (76, 75)),
    *((right, right + 1) for right in (*range(81, 95, 2), *range(100, 208, 2))),
)
_RIGHT, _LEFT = (list(numbers) for numbers in zip(*_PAIRS, strict=True))


def kinds() -> dict[str, npt.NDArray[np.uint8]]:
    """What a MUSE number stands for, by three grains, whatever the side; 0 for nothing.

    Returns
    -------
    dict of str to ndarray
        ``[256]`` each: ``gyri``, MUSE's own parcels, by the right one's number; ``regions``, the places in `MUSE` from
        1 on; ``lobes``, the first region of a lobe for all of it, whatever the tissue.
    """
    mirrored = np.arange(256)
    mirrored[_LEFT] = _RIGHT
    gyri, regions, lobes = (np.zeros(256, np.uint8) for _ in range(3))
    gyri[list(chain(*MUSE.values()))] = list(chain(*MUSE.values()))
    lobe = [name.split(",")[0] for name in MUSE]
    for number, (name, members) in enumerate(zip(lobe, MUSE.values(), strict=True), 1):
        regions[list(members)] = number
        lobes[list(members)] = 1 + lobe.index(name)
    return {"gyri": gyri[mirrored], "regions": regions[mirrored], "lobes": lobes[mirrored]}


def sides() -> npt.NDArray[np.int64]:
    """``[256]``: 1 for MUSE numbers of paired regions on the right, -1 on the left, 0 for the others."""
    side = np.zeros(256, np.int64)
    side[_RIGHT], side[_LEFT] = 1, -1
    numbers = [1 + list(MUSE).index(name) for name in UNPAIRED]
    side[np.isin(kinds()["regions"], numbers)] = 0
    return side
