"""Reordering of images from storage order to right-anterior-superior axes, and back."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel.orientations as nibo
import numpy as np
import torch

from lesioncore.data.arrays import ArrayT, NumpyArray


@dataclass(frozen=True, eq=False)
class Orientation:
    """A permutation and flips that bring a volume closest to RAS+ axes, with an exact inverse.

    Voxels are only reordered, never interpolated: each axis goes to the anatomical axis that it points along most, so
    for an oblique or sheared affine `ras_affine` keeps the obliqueness that is left. Where two axes are equally near,
    the choice is nibabel's (`io_orientation`): some one-to-one assignment, the same for the same affine.

    Attributes
    ----------
    shape : tuple of int
        Shape as stored.
    axes : tuple of int
        The stored axis that becomes x, y and z.
    flips : tuple of bool
        Whether x, y and z run against the stored axis.
    voxel_size : tuple of float
        Distance between voxel centres along x, y and z, in mm: the lengths of the affine's columns.
    ras_affine : numpy.ndarray
        `[4, 4]`, from reordered voxel indices to mm.

    Examples
    --------
    >>> orientation = Orientation.from_affine(image.affine, image.shape)  # doctest: +SKIP
    >>> volume = orientation.to_ras(image.get_fdata())  # doctest: +SKIP
    """

    shape: tuple[int, int, int]
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    voxel_size: tuple[float, float, float]
    ras_affine: NumpyArray

    @classmethod
    def from_affine(cls, affine: NumpyArray, shape: tuple[int, ...]) -> Orientation:
        """Read the orientation off an affine.

        Parameters
        ----------
        affine : numpy.ndarray
            `[4, 4]`, stored voxel indices to mm, invertible.
        shape : tuple of int
            Shape of the stored volume, three axes.

        Raises
        ------
        ValueError
            If `shape` has not three axes or `affine` cannot be inverted.
        """
        affine = np.asarray(affine, dtype=np.float64)
        if len(shape) != 3:
            raise ValueError(f"shape: got {tuple(shape)}, expected that of a volume [X, Y, Z]")
        if affine.shape != (4, 4) or not np.all(np.isfinite(affine)):
            raise ValueError(f"affine: got {affine.tolist()}, expected a finite [4, 4] matrix")
        stored = nibo.io_orientation(affine)
        if np.any(np.isnan(stored)):
            raise ValueError(f"affine: got {affine[:3].tolist()}, expected one that can be inverted")
        targets = [int(target) for target in stored[:, 0]]
        axes = (targets.index(0), targets.index(1), targets.index(2))
        against = [bool(sign < 0) for sign in stored[:, 1]]
        ras_affine = affine @ nibo.inv_ornt_aff(stored, shape)
        x_size, y_size, z_size = (float(length) for length in np.linalg.norm(ras_affine[:3, :3], axis=0))
        return cls(
            shape=(int(shape[0]), int(shape[1]), int(shape[2])),
            axes=axes,
            flips=(against[axes[0]], against[axes[1]], against[axes[2]]),
            voxel_size=(x_size, y_size, z_size),
            ras_affine=ras_affine,
        )

    @property
    def ras_shape(self) -> tuple[int, int, int]:
        """Shape along x, y and z."""
        return (self.shape[self.axes[0]], self.shape[self.axes[1]], self.shape[self.axes[2]])

    def to_ras(self, array: ArrayT) -> ArrayT:
        """Reorder a stored volume to `[X, Y, Z]`, closest to RAS+.

        Parameters
        ----------
        array : numpy.ndarray or torch.Tensor
            Any dtype, of the stored shape.

        Returns
        -------
        numpy.ndarray or torch.Tensor
            A contiguous copy of the same kind.

        Raises
        ------
        ValueError
            If the shape is not the stored one.
        """
        _check_shape(array, self.shape, "stored")
        return _flip(_permute(array, self.axes), self.flips)

    def from_ras(self, array: ArrayT) -> ArrayT:
        """Put a volume `[X, Y, Z]` back in storage order: the inverse of `to_ras`, bit for bit.

        Parameters
        ----------
        array : numpy.ndarray or torch.Tensor
            Any dtype, of shape `ras_shape`.

        Returns
        -------
        numpy.ndarray or torch.Tensor
            A contiguous copy of the same kind.

        Raises
        ------
        ValueError
            If the shape is not `ras_shape`.
        """
        _check_shape(array, self.ras_shape, "reordered")
        inverse = (self.axes.index(0), self.axes.index(1), self.axes.index(2))
        flips = (self.flips[inverse[0]], self.flips[inverse[1]], self.flips[inverse[2]])
        return _flip(_permute(array, inverse), flips)


def _check_shape(array: ArrayT, expected: tuple[int, int, int], which: str) -> None:
    if tuple(array.shape) != expected:
        raise ValueError(f"array: got shape {tuple(array.shape)}, expected the {which} shape {expected}")


def _permute(array: ArrayT, axes: tuple[int, int, int]) -> ArrayT:
    if isinstance(array, torch.Tensor):
        return array.permute(axes)
    transposed: NumpyArray = array.transpose(axes)
    return transposed


def _flip(array: ArrayT, flips: tuple[bool, bool, bool]) -> ArrayT:
    dims = tuple(axis for axis, flipped in enumerate(flips) if flipped)
    if isinstance(array, torch.Tensor):
        return torch.flip(array, dims).contiguous()
    # NumPy flips by negative strides, which torch does not take: copy.
    flipped_copy: NumpyArray = np.flip(array, dims).copy(order="C")
    return flipped_copy
