"""Calibrations that are another model's, or not as they were written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.bad_input import BadInput, rows
from support.models import tiny_calibration, tiny_metadata, tiny_vae

import lesioncore as lc


def saved(folder: Path, seed: int = 0) -> Path:
    return lc.save_model(tiny_vae(seed=seed, metadata=tiny_metadata(tiny_calibration())), folder, card="For tests.\n")


def with_anothers(folder: Path) -> Any:
    directory, other = saved(folder / "own"), saved(folder / "other", seed=1)
    shutil.copy(other / "calibration.json", directory)
    return lc.load_prior(directory)


def with_other_weights(folder: Path) -> Any:
    directory, other = saved(folder / "own"), saved(folder / "other", seed=1)
    shutil.copy(other / "model.safetensors", directory)
    return lc.load_prior(directory)


def changed(edit: Callable[[dict[str, Any]], None]) -> Callable[[Path], Any]:
    """Loads a prior whose calibration was edited."""

    def use(folder: Path) -> Any:
        path = saved(folder / "own") / "calibration.json"
        values = json.loads(path.read_text())
        edit(values)
        path.write_text(json.dumps(values))
        return lc.load_prior(path.parent)

    return use


def more_scores(values: dict[str, Any]) -> None:
    values["healthy"]["counts"][0] += 1000


def without_origin(values: dict[str, Any]) -> None:
    del values["prior"], values["fingerprint"]


@rows(
    "Calibrations",
    BadInput("another prior's calibration", with_anothers, ValueError, ("was made for another model",)),
    BadInput("other weights below a calibration", with_other_weights, ValueError, ("or the model was changed",)),
    BadInput("counts that were changed", changed(more_scores), ValueError, ("was changed after it was written",)),
    BadInput(
        "a weight that was changed",
        changed(lambda values: values.update(tv_weight=9.0)),
        ValueError,
        ("was changed after it was written", "lesioncore calibrate"),
    ),
    BadInput("a calibration of before origins", changed(without_origin), None, ("does not say which model",)),
    BadInput("other remarks", changed(lambda values: values.update(notes={"site": "A"})), None),
    BadInput("the same in another form", changed(lambda values: None), None),
)
def test_calibrations_belong_to_their_models(bad_input, tmp_path):
    bad_input.check(tmp_path)
