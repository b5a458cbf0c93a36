"""Numbers that no computation can follow: each is refused at once, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.bad_input import REFUSED, TAKEN, BadInput, listed, rows
from support.models import tiny_vae
from support.scans import HEALTHY, METADATA

import lesioncore as lc
from lesioncore.cli import main
from lesioncore.scoring.options import Scoring
from lesioncore.training.config import TrainingConfig

SMOOTHING = "smoothing: got .*, expected a (finite number >= 0|standard deviation of 0 to 100 mm)"
SEED = "seed: got -?[0-9]*, expected a whole number of at least 0 and less than 2\\^63"


def calibrate(**options: Any) -> lc.Calibration:
    return lc.calibrate(tiny_vae(metadata=METADATA), HEALTHY, **options)


@rows(
    "Numbers",
    *(
        BadInput(f"{name} {value:g}", lambda _, make=make, value=value: make(value), ValueError, (SMOOTHING,), name)
        for value in (-1.0, 100.1, 1e8, 1e9, float("inf"), float("nan"))
        for name, make in (
            ("smoothing of a configuration beyond 0 to 100 mm", lambda value: lc.RestoreConfig(smoothing=value)),
            ("smoothing of a score beyond 0 to 100 mm", lambda value: Scoring(smoothing=value)),
        )
    ),
    *(
        BadInput(f"{name} {seed}", lambda _, make=make, seed=seed: make(seed), ValueError, (SEED,), name)
        for seed in (-1, 2**63, 2**64, 10**30)
        for name, make in (
            ("seed of a calibration below 0 or beyond 2^63", lambda seed: calibrate(seed=seed)),
            ("seed of a training below 0 or beyond 2^63", lambda seed: TrainingConfig(seed=seed)),
        )
    ),
    *(
        BadInput(
            f"weights {weights}",
            lambda _, weights=weights: calibrate(tv_weights=weights),
            ValueError,
            ("tv_weights: got",),
        )
        for weights in ([], [float("nan")], [1.0, float("nan")], [1.0, float("inf")], [2.0, 1.0], [-1.0])
    ),
)
def test_numbers_out_of_range_are_named(bad_input, tmp_path):
    bad_input.check(tmp_path)


@listed("Numbers", "--seed below 0 or of 2^64", REFUSED, "seed: got", kinds=6)
@pytest.mark.parametrize("seed", ["-1", str(2**64)])
@pytest.mark.parametrize(
    "line",
    [
        "restore scan.nii -o out --prior prior",
        "calibrate phantom:T2w:1 --prior prior -o out",
        "train vae phantom:T2w:2 --output out",
    ],
    ids=lambda line: line.split()[0],
)
def test_commands_refuse_such_a_seed(line, seed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lc.save_model(tiny_vae(metadata=METADATA), "prior", card="")
    Path("scan.nii").touch()
    assert main([*line.split(), "--seed", seed]) == 2
    assert f"seed: got {seed}, expected a whole number of at least 0" in capsys.readouterr().err


@listed("Numbers", "the largest seed and smoothing", TAKEN)
def test_the_largest_seed_and_smoothing_are_taken():
    assert calibrate(config=lc.RestoreConfig("em", tv_weight=1.0, smoothing=100.0), seed=2**63 - 1).smoothing == 100.0
