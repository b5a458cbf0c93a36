"""The files of a restoration, which appear together: images, and a JSON file that tells the size and hash of each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lesioncore.data.bids import results_of
from lesioncore.data.files import manifest, replace_together, write_json
from lesioncore.data.names import split_name, stem_of
from lesioncore.data.nifti import save_image
from lesioncore.metrics.limits import LIMIT_KEYS

if TYPE_CHECKING:
    from lesioncore.restoration.result import Restoration

_WRITERS = 4
"""Number of a scan's files that are written concurrently; each needs memory for its bytes."""


@dataclass
class Saved:
    """The files of a result by their keys, and what its JSON file says."""

    files: dict[str, Path]
    facts: dict[str, Any]


@contextmanager
def saving(
    result: Restoration,
    directory: str | os.PathLike[str],
    *,
    name: str | None = None,
    figure: bool = False,
    brain_only: bool = False,
    work: Path | None = None,
) -> Iterator[Saved]:
    """Write a result; the block may add files and facts before all are put in their places, the JSON file last.

    Parameters
    ----------
    result : Restoration
        Of a volume.
    directory, name, figure
        As for :meth:`lesioncore.Restoration.save`, which raises the same errors.
    brain_only : bool
        The restored image is 0 outside the brain, where it otherwise is the scan, with its face.
    work : Path, optional
        Folder for temporary files; `directory` when absent.

    Yields
    ------
    Saved
        Files in a temporary folder, to which the block may add others there; after the block, in their places, with the
        JSON file as ``sidecar``.
    """
    from lesioncore.restoration.figure import require_matplotlib, restoration_figure, save_figure

    if figure:
        require_matplotlib()  # before anything is written
    if result.scan.affine is None:
        raise ValueError("save: slices [N, 1, H, W] have no geometry; give restore a volume, or save them yourself")
    name = name if name is not None else _name_of(result)
    stem, suffix = split_name(name)
    folder, sidecar = Path(directory), f"{stem}_desc-restored_{suffix}.json"
    with replace_together(folder, sidecar, earlier=results_of(folder, stem, suffix), work=work) as made:
        saved = Saved(_write_images(result, made, stem, suffix, brain_only), result.sidecar())
        if brain_only:
            saved.facts["BrainOnly"] = True
        if figure:
            saved.files["figure"] = made / f"{stem}_desc-figure_{suffix}.png"
            save_figure(restoration_figure(result, title=name), saved.files["figure"])
        yield saved
        saved.facts["Files"] = manifest(saved.files.values())
        saved.files["sidecar"] = made / sidecar
        write_json(saved.files["sidecar"], saved.facts, indent=2)
    saved.files = {key: folder / path.name for key, path in saved.files.items()}


def _name_of(result: Restoration) -> str:
    if result.scan.path is None:
        raise ValueError("name: the input was no file, so give save(..., name='sub-01_T2w')")
    return stem_of(result.scan.path)


def _write_images(result: Restoration, folder: Path, stem: str, suffix: str, brain_only: bool) -> dict[str, Path]:
    """Write the images on the scan's own grid."""
    labels = {"probability": f"label-L_desc-rank{suffix}_probseg"}
    labels |= {key: f"label-L_desc-{key}{suffix}_mask" for key in LIMIT_KEYS}
    names = {key: f"desc-{key}_{suffix}" for key in ("restored", "residual", "score")}
    names |= {"brain": f"desc-brain{suffix}_mask", **labels}
    arrays, affine, header = result.arrays(), result.scan.affine, getattr(result.scan.source, "header", None)
    assert affine is not None  # that of a volume
    if brain_only:
        arrays["restored"] = np.where(arrays["brain"], arrays["restored"], 0).astype(arrays["restored"].dtype)
    paths = {key: folder / f"{stem}_{names[key]}.nii.gz" for key in arrays}
    with ThreadPoolExecutor(_WRITERS) as executor:  # most time is spent compressing, which releases the GIL
        saves = [executor.submit(save_image, array, affine, paths[key], header=header) for key, array in arrays.items()]
    for save in saves:
        save.result()
    return paths
