"""The brain mask of a skull-stripped scan, read off its constant background."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt
import torch

from lesioncore.data.arrays import ArrayT, NumpyArray, to_numpy

_LARGEST_BRAIN = 0.98
_LEAST_BACKGROUND = 0.5
# Of 12 stripped scans of all contrasts, resampled or not, at most 1.7 % are so faint; with ripples, 13 % and more.
_FAINT, _MOST_FAINT = 0.01, 0.05
_WAY_OUT = (
    "skull-strip the scan first (background exactly constant, such as 0), or give its brain mask (mask=..., --mask)"
)


def brain_mask(volume: ArrayT, *, largest: float = 1.0) -> ArrayT:
    """Find the brain of a skull-stripped scan: everything that its background does not reach.

    The background is the exact value that prevails along the edges of the volume's box, usually 0, and is what can be
    reached from there through voxels of that value (6-connected). Voxels of that value inside the brain, such as CSF
    that is 0, are brain. The edges and not the faces, since a scan cut through the brain may have such voxels on a
    face.

    What has another value is brain, and nothing here can tell otherwise: of a scan with its skull and an air background
    of exactly 0 the mask is the head. Ripples that spline resampling leaves around a brain would be in it, too; they
    are known by many values close to the background, and refused.

    Parameters
    ----------
    volume : numpy.ndarray or torch.Tensor
        `[X, Y, Z]`, any real dtype, finite.
    largest : float
        Largest share of the voxels that the brain may be, where that is less than 98 %.

    Returns
    -------
    numpy.ndarray or torch.Tensor
        `[X, Y, Z]`, bool, of the same kind and device.

    Raises
    ------
    ValueError
        If `volume` is not a finite volume, holds nothing but background, or has no constant background: less than
        half of the box's edges share a value, or the brain would be more than 98 % or `largest` of the
        voxels, or more than 5 % of it hardly differ from the background.
    """
    data = to_numpy(volume, "volume")
    if data.ndim != 3 or data.size == 0:
        raise ValueError(f"volume: got shape {data.shape}, expected [X, Y, Z] with voxels")
    bad = data.size - int(np.count_nonzero(np.isfinite(data)))
    if bad:
        raise ValueError(f"volume: got {bad} NaN or infinite voxels of {data.size}, expected none; set them to 0")
    edges = _box_edges(data.shape)
    values, counts = np.unique(data[edges], return_counts=True)
    background = values[counts.argmax()]
    share = counts.max() / counts.sum()
    if share < _LEAST_BACKGROUND:
        raise ValueError(
            f"volume: got no constant background: its commonest value along the box's edges, {background:g}, fills "
            f"{100 * share:.0f} % of them, expected at least {100 * _LEAST_BACKGROUND:.0f} %; {_WAY_OUT}"
        )
    empty = data == background
    largest = min(largest, _LARGEST_BRAIN)
    _check_size(~empty, background, largest)  # before the flood, which is slow in a labyrinth of noise
    mask = ~flood(edges & empty, empty)
    _check_size(mask, background, largest)
    size = np.abs(data[mask & ~empty].astype(np.float64) - background)
    faint = np.count_nonzero(size < _FAINT * np.percentile(size, 99)) / size.size
    if faint > _MOST_FAINT:
        raise ValueError(
            f"volume: got {100 * faint:.0f} % of the brain within {100 * _FAINT:g} % of the background {background:g}, "
            f"expected at most {100 * _MOST_FAINT:g} %: resampling has left ripples around it; {_WAY_OUT}"
        )
    return torch.from_numpy(mask).to(volume.device) if isinstance(volume, torch.Tensor) else mask


def no_contrast(value: float) -> ValueError:
    """The error for a scan of one value."""
    return ValueError(
        f"volume: got the constant {value:g}, expected a scan; such a file is left where a conversion, a mask or a"
        " download failed: look at it in a viewer, and make it anew from the original"
    )


def _check_size(mask: npt.NDArray[np.bool_], background: float, largest: float) -> None:
    """Raise ``ValueError`` if what is not background is nothing, or too much for a brain."""
    filled = np.count_nonzero(mask) / mask.size
    if filled == 0:
        raise no_contrast(background)
    if filled > largest:
        raise ValueError(
            f"volume: got {100 * filled:.1f} % brain by its background value {background:g}, expected at most "
            f"{100 * largest:.0f} %: the scan is not skull-stripped, or is cropped into the brain; {_WAY_OUT}"
        )


def _box_edges(shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Voxels on two faces of the box at once; of a single slice, its border."""
    faces = []
    for axis, length in enumerate(shape):
        face = np.zeros(length, dtype=bool)
        face[[0, -1]] = True
        faces.append(face.reshape([-1 if other == axis else 1 for other in range(3)]))
    edges = np.zeros(shape, dtype=bool)
    for first, second in combinations(faces, 2):
        edges |= first & second
    return edges


def flood(seeds: NumpyArray, passable: NumpyArray) -> npt.NDArray[np.bool_]:
    """Voxels that `seeds` reach through `passable`: sweeps along the axes in turn, until none changes anything."""
    reached = torch.from_numpy(seeds).clone()
    allowed = [torch.from_numpy(passable)]
    allowed += [_turned(allowed[0]), _turned(_turned(allowed[0]))]
    count, turn, settled = -1, 0, 0
    while settled < 3:  # axes in a row without a change, counting the one just swept
        front, way = reached.numpy(), allowed[turn].numpy()
        for step in range(1, len(front)):
            front[step] |= front[step - 1] & way[step]
        for step in range(len(front) - 2, -1, -1):
            front[step] |= front[step + 1] & way[step]
        before, count = count, int(np.count_nonzero(front))
        settled = settled + 1 if count == before else 1
        reached, turn = _turned(reached), (turn + 1) % 3
    while turn != 0:
        reached, turn = _turned(reached), (turn + 1) % 3
    return reached.numpy()


def _turned(volume: torch.Tensor) -> torch.Tensor:
    """Bring the next axis first, in memory too: sweeps along the last would touch every cache line at each step."""
    return volume.permute(1, 2, 0).contiguous()
