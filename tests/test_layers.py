"""The package's rooms: imports go one way, and what hashes code by name misses no module."""

from __future__ import annotations

import ast
from itertools import chain
from pathlib import Path

import lesioncore
from lesioncore.evaluation.store import NOT_SCORING, SCORING
from lesioncore.training.build import PREPARING

PACKAGE = Path(lesioncore.__file__).parent
LAYERS = (
    *(
        "about",
        "choices",
        "command_options",
        "prior_names",
        "torch_modes",
        "words",
        "ops",
        "data",
        "preprocess",
        "metrics",
        "scoring",
        "calibration",
        "models",
        "engine",
        "solvers",
        "restoration",
        "report",
    ),
    *("detectors", "phantom", "datasets", "subjects", "evaluation", "demo", "training", "reproduction", "cohort"),
    "cli",
    "bids_app",
)
"""From the lowest to the highest: a room imports those that come before it, and itself."""


def parts() -> list[str]:
    """Rooms and modules of the package's root."""
    return sorted(
        path.name for path in PACKAGE.iterdir() if path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py")))
    )


def imported(path: Path) -> set[str]:
    """Rooms of this package that a file imports from, also within functions and for types alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [node.module]
            if node.module == "lesioncore":
                names = [f"lesioncore.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("lesioncore.")}
    return found


def test_every_part_is_in_one_layer():
    assert {Path(part).stem for part in parts()} - {"__init__", "__main__"} == set(LAYERS)


def test_imports_go_down():
    climbs = []
    for number, room in enumerate(LAYERS):
        folder = PACKAGE / room
        files = sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{room}.py"]
        for file in files:
            if file.name != "__main__.py":  # hands over to the command line
                climbs += [(file.name, other) for other in imported(file) & set(LAYERS[number + 1 :])]
    assert climbs == []


def test_code_that_scores_follow_from_is_listed_once():
    assert sorted(chain(SCORING, NOT_SCORING)) == parts()


def test_code_that_prepares_slices_exists():
    assert [part for part in PREPARING if not (PACKAGE / part).exists()] == []
