"""Refinement of a pose by mutual information, with SimpleITK: rigid with one scale, or affine, at one voxel size."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from lesioncore.preprocess.pose import CoarseBrain, Matrix, Volume, apply
from lesioncore.preprocess.template import VOXEL_SIZE

_CENTRE = np.array([0.0, -17.0, 5.0])  # of the template's brain, mm: the transforms turn about it


def simpleitk() -> ModuleType:
    """Return SimpleITK, or say which extra brings it."""
    try:
        import SimpleITK
    except ImportError as error:
        raise ImportError(
            "registration, which bias correction builds on, needs SimpleITK; install it with: pip install"
            " 'lesioncore[preprocess]'"
        ) from error
    module: ModuleType = SimpleITK
    return module


_NUMBER_OF_THREADS = threading.Lock()
_running: list[int] = []  # SimpleITK's number of threads before the first of the registrations that are running


@contextmanager
def single_threaded(sitk: ModuleType) -> Iterator[None]:
    """Let SimpleITK use one thread while any registration runs.

    Sums over several threads differ in their last bits from run to run, and a result would with them. The number of
    threads of one registration method alone does not reach its metric.
    """
    process = sitk.ProcessObject
    with _NUMBER_OF_THREADS:
        _running.append(_running[0] if _running else process.GetGlobalDefaultNumberOfThreads())
        process.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        with _NUMBER_OF_THREADS:
            before = _running.pop()
            if not _running:
                process.SetGlobalDefaultNumberOfThreads(before)


@dataclass(frozen=True, eq=False)
class PyramidLevel:
    """Template and scan as images without directions, blurred for voxels of one size.

    Attributes
    ----------
    reference, near : SimpleITK.Image
        The template, and where it is compared.
    scan : SimpleITK.Image
        The scan.
    to_scan : ndarray
        ``[4, 4]``, the scan's millimetres to those of its image.
    size : float
        Voxel size, mm.
    """

    reference: Any
    near: Any
    scan: Any
    to_scan: Matrix
    size: float

    @classmethod
    def of(cls, sitk: ModuleType, fixed: CoarseBrain, moving: CoarseBrain, size: float) -> PyramidLevel:
        stride, sizes, origin = round(size / VOXEL_SIZE), np.full(3, VOXEL_SIZE), fixed.affine[:3, 3]
        own = np.linalg.norm(moving.affine[:3, :3], axis=0)
        return cls(
            reference=_image(sitk, fixed.shaded(), sizes, origin, size / 2)[::stride, ::stride, ::stride],
            near=_image(sitk, fixed.share, sizes, origin, 6.0)[::stride, ::stride, ::stride] > 0.05,
            scan=_image(sitk, moving.shaded(), own, np.zeros(3), size / 2),
            to_scan=np.diag([*own, 1.0]) @ np.linalg.inv(moving.affine),
            size=size,
        )


def refine(sitk: ModuleType, level: PyramidLevel, start: Matrix, *, rigid: bool = False) -> tuple[float, Matrix]:
    """Mattes mutual information at voxels of a size (mm): its negative, and the map to the scan's millimetres."""
    size = level.size
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricFixedMask(level.near)
    if size < 3:
        # A quarter of the voxels at 2 mm are more than all at 4 mm, and enough.
        method.SetMetricSamplingStrategy(method.REGULAR)
        method.SetMetricSamplingPercentage(0.25, 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerScalesFromPhysicalShift()
    start = level.to_scan @ start
    best = _transform(sitk, start, _CENTRE, rigid=rigid)
    method.SetInitialTransform(best, True)
    method.MetricUseMovingImageGradientFilterOff()  # the value alone needs no gradient, which takes most of the time
    value = method.MetricEvaluate(level.reference, level.scan)
    method.MetricUseMovingImageGradientFilterOn()
    for first_step in (size / 2, size / 8):
        # Images have no direction; what leads from the scan's millimetres to its voxels is part of the transform.
        transform = _transform(sitk, start, _CENTRE, rigid=rigid)
        method.SetInitialTransform(transform, True)
        method.SetOptimizerAsRegularStepGradientDescent(first_step, 0.01 * size, 60, 0.6, 1e-5)
        try:
            method.Execute(level.reference, level.scan)
        except RuntimeError:  # a first step so far that the brains no longer overlap
            continue
        if method.GetMetricValue() < value:  # a first step too far, in one scan of 160, leads away for good
            value, best = method.GetMetricValue(), transform
            break
    linear = np.array(best.GetMatrix()).reshape(3, 3)
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = np.array(best.GetTranslation()) + _CENTRE - linear @ _CENTRE
    return float(value), np.linalg.inv(level.to_scan) @ matrix


def _image(sitk: ModuleType, values: Volume, sizes: Matrix, origin: Matrix, sigma: float) -> Any:
    """An image without directions, blurred by a sigma in mm; its ends are continued."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.transpose(2, 1, 0)))
    image.SetSpacing(sizes.tolist())
    image.SetOrigin(origin.tolist())
    # The recursive filter needs four voxels along each axis.
    return sitk.SmoothingRecursiveGaussian(image, sigma) if min(values.shape) >= 4 else image


def _transform(sitk: ModuleType, matrix: Matrix, centre: Matrix, *, rigid: bool = False) -> Any:
    linear = matrix[:3, :3]
    if rigid:
        u, _, v = np.linalg.svd(linear)
        linear = np.cbrt(np.linalg.det(linear)) * (u @ v)
    transform = sitk.Similarity3DTransform() if rigid else sitk.AffineTransform(3)
    transform.SetCenter(centre.tolist())
    transform.SetMatrix(linear.ravel().tolist())
    transform.SetTranslation((apply(matrix, centre) - centre).tolist())
    return transform
