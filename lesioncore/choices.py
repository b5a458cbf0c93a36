"""Options that are one of a few values, for Python and the command line alike."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

DatasetName: TypeAlias = Literal[
    "camcan",
    "ixi",
    "oasis-1",
    "oasis-3",
    "brats17",
    "brats18",
    "brats19",
    "brats20",
    "brats21",
    "brats23",
    "atlas-1.2",
    "atlas-1.2-native",
    "atlas-2.0",
    "wmh",
    "wmh-pre",
    "mslub",
    "isles22",
]
"""Public data sets that can be imported."""

EngineName: TypeAlias = Literal["local", "ray"]
"""Where many scans are in work: in one process, or in those of Ray."""

Latent: TypeAlias = Literal["mean", "sample"]
"""Expectation of the ELBO: at the latents' mean, or from a fresh sample in each step."""

LesionRegion: TypeAlias = Literal["whole", "core", "enhancing"]
"""Part of a tumour; lesions of other kinds have the whole alone."""

Precision: TypeAlias = Literal["auto", "float32", "tf32", "bfloat16"]
"""What a network multiplies in."""

Protocol: TypeAlias = Literal["paper"]
"""Names of options that belong together."""

ReproductionKind: TypeAlias = Literal["import", "train", "calibrate", "evaluate", "tables", "figures"]
"""Kinds of steps of ``lesioncore reproduce``."""

ReproductionResult: TypeAlias = Literal[
    "table1",
    "table2",
    "table3",
    "figure4",
    "figure5",
    "figure6",
    "figure7",
    "figure8",
    "figure9",
    "figure10",
    "figure11",
]
"""What the paper has of results."""

Sign: TypeAlias = Literal[1, -1, 0]
"""Lesions are brighter (1) or darker (-1) than healthy tissue, or may be either (0)."""

SolverName: TypeAlias = Literal["auto", "em", "prox", "paper"]
"""Solvers of the objective; ``"auto"`` is the calibration's."""

TotalVariationForm: TypeAlias = Literal["anisotropic", "isotropic"]
"""Form of the total variation."""

TotalVariationDimensions: TypeAlias = Literal[2, 3]
"""Each slice for itself, or coupled with its neighbours."""


def check_choice(name: str, value: Any, choice: Any, *, optional: bool = False) -> None:
    """Raise ``ValueError`` unless an option has one of its values.

    Parameters
    ----------
    name : str
        What the error calls it.
    value : object
        What was given.
    choice : Literal
        The values.
    optional : bool
        None is one of them, too.
    """
    allowed = (*get_args(choice), *([None] if optional else []))
    if value not in allowed:
        raise ValueError(f"{name}: got {value!r}, expected one of {allowed}")


def check_seed(seed: int) -> None:
    """Raise ``ValueError`` unless a seed of random numbers is one that all generators take."""
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed: got {seed}, expected a whole number of at least 0 and less than 2^63")
