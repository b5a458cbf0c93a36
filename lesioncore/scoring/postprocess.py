"""Options of cleaning detected masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lesioncore.metrics.base import Bools


@dataclass(frozen=True)
class PostProcessing:
    """Cleaning of detected masks, in the order of the options; by default nothing is done, as in the paper.

    Scores and thresholds stay as they are. `erosion` and `min_volume` only take voxels away, so that a false-positive
    limit still holds; `median` can also add some, so that with it a limit holds only if it takes more than it adds. It
    is the same to filter the score and then to threshold it, since a rank commutes with a threshold (of an even number
    of voxels it is the lower median).

    Parameters
    ----------
    erosion : float
        Rim of the brain, mm, in which nothing is detected: voxels whose centre is at most this far from that of one
        outside. What lies beyond the scan is outside.
    median : float
        Radius, mm, of the ball of a median filter: a voxel is detected if more than half of the brain's voxels in the
        ball around it were, the eroded rim left out.
    min_volume : float
        Volume, mm^3, below which a connected component (26 neighbours) is removed.

    Raises
    ------
    ValueError
        If a number is negative or not finite.
    """

    erosion: float = 0.0
    median: float = 0.0
    min_volume: float = 0.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}: got {value}, expected a finite number >= 0")

    @property
    def active(self) -> bool:
        """Whether anything is done."""
        return self != PostProcessing()

    def check_size(self, voxel_size: Sequence[float] | None) -> Sequence[float]:
        """Return the voxel size (mm), or raise ``ValueError`` if it is unknown."""
        if voxel_size is None:
            raise ValueError(
                "postprocessing: its millimetres need the voxels' size, which slices [N, 1, H, W] and arrays without an"
                f" affine lack; give a volume with its affine, or leave out {self}"
            )
        return voxel_size

    def clean(self, detected: Bools, brain: Bools, voxel_size: Sequence[float] | None) -> Bools:
        """Clean one volume's detection.

        Parameters
        ----------
        detected, brain : ndarray
            ``[X, Y, Z]`` bool, in any storage order.
        voxel_size : sequence of float or None
            Millimetres along each axis; None when unknown.

        Returns
        -------
        ndarray
            Bool, within the brain; `detected` itself if nothing is to be done.

        Raises
        ------
        ValueError
            If there is something to do, but the voxels' size is unknown.
        ImportError
            If scipy is missing.
        """
        if not self.active:
            return detected
        # Imported here, so that the options alone do not load the modules that cleaning needs.
        from lesioncore.scoring.cleaning import clean_mask

        return clean_mask(detected, brain, self.check_size(voxel_size), **asdict(self))
