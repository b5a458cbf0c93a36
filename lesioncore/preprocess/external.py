"""Brain masks of other tools, where they are installed: HD-BET, SynthStrip, deepbet."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import nibabel as nib
import numpy as np
import numpy.typing as npt
import torch

from lesioncore.data.geometry import SAME_GRID, corner_distance
from lesioncore.data.nifti import load_image


@dataclass(frozen=True)
class Tool:
    """A program that makes a brain mask of a NIfTI file.

    Attributes
    ----------
    commands : tuple of str
        Names of the program; the first one on the ``PATH`` is run.
    arguments : tuple of str
        What it is called with, ``{folder}`` in them being one that holds the scan, ``scan.nii.gz``.
    on_cpu : tuple of str
        Further arguments where there is no GPU.
    mask : str
        File in that folder that it writes.
    source : str
        How to get the program and its weights, as errors say it.
    """

    commands: tuple[str, ...]
    arguments: tuple[str, ...]
    on_cpu: tuple[str, ...]
    mask: str
    source: str

    def command(self) -> str | None:
        """Whole path of the program, which is run in another folder; None where it is not installed."""
        return next((str(Path(path).absolute()) for name in self.commands if (path := shutil.which(name))), None)


TOOLS = {
    "hd-bet": Tool(
        ("hd-bet",),
        ("-i", "{folder}/scan.nii.gz", "-o", "{folder}/brain.nii.gz", "--save_bet_mask", "--no_bet_image"),
        ("-device", "cpu", "--disable_tta"),
        "brain_bet.nii.gz",
        "HD-BET 2 (Apache-2.0) comes with pip install 'lesioncore[hd-bet]', its weights when it first runs",
    ),
    "synthstrip": Tool(
        ("mri_synthstrip", "synthstrip-docker", "synthstrip-singularity"),
        ("-i", "{folder}/scan.nii.gz", "-m", "{folder}/mask.nii.gz"),
        (),
        "mask.nii.gz",
        "SynthStrip comes, with its weights, with FreeSurfer 7.3 or newer, or as a container with its wrapper script"
        " (https://surfer.nmr.mgh.harvard.edu/docs/synthstrip, FreeSurfer's licence)",
    ),
    "deepbet": Tool(
        ("deepbet-cli",),
        ("-i", "{folder}/scan.nii.gz", "-o", "{folder}/brain.nii.gz", "-m", "{folder}/mask.nii.gz"),
        ("--no_gpu",),
        "mask.nii.gz",
        "deepbet (MIT, for T1w scans) comes, with its weights, with pip install 'lesioncore[deepbet]'",
    ),
}
"""The tools by the names that stand for them in place of a mask."""


def is_tool(mask: object) -> TypeGuard[str]:
    """Whether what was given in place of a mask names a tool; a ``Path`` is a file whatever its name."""
    return isinstance(mask, str) and mask in TOOLS


def require_tool(name: str) -> str:
    """Path of a tool's program.

    Raises
    ------
    FileNotFoundError
        If it is not installed; the message says how to get it.
    """
    command = TOOLS[name].command()
    if command is None:
        programs = " or ".join(TOOLS[name].commands)
        raise FileNotFoundError(f"mask: {name} is not installed (no {programs} on the PATH). {TOOLS[name].source}")
    return command


def tool_mask(name: str, values: npt.NDArray[np.float32], affine: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Run a tool on a scan and read the brain mask that it writes.

    Parameters
    ----------
    name : {"hd-bet", "synthstrip", "deepbet"}
        The tool.
    values : ndarray
        ``[X, Y, Z]``, as stored, finite.
    affine : ndarray
        ``[4, 4]``, voxel indices to mm (RAS+).

    Returns
    -------
    ndarray
        ``[X, Y, Z]`` bool.

    Raises
    ------
    FileNotFoundError
        If the tool is not installed.
    RuntimeError
        If it fails or writes no mask on the scan's grid; the message ends with what it printed.
    """
    tool, command = TOOLS[name], require_tool(name)
    with tempfile.TemporaryDirectory(prefix="lesioncore-") as folder:
        nib.save(nib.nifti1.Nifti1Image(np.asarray(values, np.float32), affine), Path(folder) / "scan.nii.gz")
        further: Sequence[str] = () if torch.cuda.is_available() else tool.on_cpu
        arguments = [argument.format(folder=folder) for argument in (*tool.arguments, *further)]
        # Some tools leave files where they run.
        run = subprocess.run([command, *arguments], cwd=folder, capture_output=True, text=True, errors="replace")
        output = "\n".join((run.stdout + run.stderr).strip().splitlines()[-5:])
        written = Path(folder) / tool.mask
        if run.returncode != 0 or not written.exists():
            raise RuntimeError(f"mask: {name} made no mask (exit status {run.returncode}). It said:\n{output}")
        image = load_image(written)
        mask = np.asanyarray(image.dataobj) > 0.5
    if mask.shape != values.shape or corner_distance(image.affine, affine, mask.shape) > SAME_GRID:
        raise RuntimeError(f"mask: {name} wrote one of shape {mask.shape} on another grid than the scan's")
    if not mask.any():
        raise RuntimeError(f"mask: {name} found no brain. It said:\n{output}")
    return mask
