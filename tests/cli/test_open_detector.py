"""Detectors of ``lesioncore evaluate --methods``: names, models, methods and options in one text."""

from __future__ import annotations

import pytest
from support.models import tiny_vae
from support.scans import METADATA

import lesioncore as lc
from lesioncore.cli.methods import open_detector
from lesioncore.cli.output import CommandError, UsageError
from lesioncore.detectors import IntensityThreshold, MAPDetector, ProjectionDetector


@pytest.mark.parametrize(
    ("spec", "name", "kind", "attributes"),
    [
        ("CALIBRATED", "CALIBRATED", MAPDetector, {"sign": None}),
        ("a=CALIBRATED", "a", MAPDetector, {"sign": None}),
        ("a b=CALIBRATED:map:sign=-1", "a b", MAPDetector, {"sign": -1}),
        ("CALIBRATED:map:sign=1", "CALIBRATED:map:sign=1", MAPDetector, {"sign": 1}),
        ("a=PRIOR:projection", "a", ProjectionDetector, {"smoothing": 0.0}),
        ("a=PRIOR:projection: smoothing = 6, sign=1", "a", ProjectionDetector, {"smoothing": 6.0, "sign": 1}),
        ("a=PRIOR:intensity:sign=none", "a", IntensityThreshold, {"sign": None}),
        ("./x=1/model:projection", "./x=1/model:projection", ProjectionDetector, {}),
        ("a=./x=1/model:projection", "a", ProjectionDetector, {}),
    ],
)
def test_open_detector(spec, name, kind, attributes, evaluation_paths, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lc.save_model(tiny_vae(metadata=METADATA), tmp_path / "x=1" / "model", card="")
    for placeholder, path in evaluation_paths.items():
        spec, name = spec.replace(placeholder, path), name.replace(placeholder, path)
    opened_name, detector = open_detector(spec)
    assert opened_name == name
    assert type(detector) is kind
    assert {key: getattr(detector, key) for key in attributes} == attributes


def test_options_of_map_are_those_of_restoration(evaluation_paths):
    _, detector = open_detector(
        f"{evaluation_paths['PRIOR']}:map:solver=paper,tv_weight=2.5,tv=isotropic,sign=1,smoothing=3"
    )
    expected = lc.RestoreConfig("paper", tv_weight=2.5, tv="isotropic", smoothing=3, sign=1).for_prior(detector.prior)
    assert detector.config == expected
    assert (detector.sign, detector.tv_weight) == (1, 2.5)
    _, paper = open_detector(f"{evaluation_paths['PRIOR']}:map:protocol=paper,tv_weight=2.5")
    assert paper.config == lc.RestoreConfig(tv_weight=2.5, protocol="paper")


@pytest.mark.parametrize("method", ["map:tv_weight=1", "projection:smoothing=6", "intensity:sign=1"])
def test_every_method_takes_options_of_post_processing(method, evaluation_paths):
    _, detector = open_detector(f"{evaluation_paths['PRIOR']}:{method},erosion=4,median=2.5,min_volume=300")
    assert detector.postprocessing == lc.PostProcessing(erosion=4, median=2.5, min_volume=300)
    _, plain = open_detector(f"{evaluation_paths['PRIOR']}:{method}")
    assert plain.postprocessing == lc.PostProcessing()
    assert plain.settings() == detector.settings()


@pytest.mark.parametrize(
    ("spec", "error", "says"),
    [
        ("", UsageError, r"got '', expected \[NAME=\]MODEL"),
        ("=PRIOR", UsageError, r"expected \[NAME=\]MODEL"),
        ("a=", UsageError, r"got 'a=', expected \[NAME=\]MODEL"),
        ("PRIOR:projection:smoothing", UsageError, "got 'smoothing', expected OPTION=VALUE"),
        ("PRIOR:projection:smoothing=", UsageError, "expected OPTION=VALUE"),
        ("PRIOR:projection:smothing=1", UsageError, "got smothing, but 'projection' takes .*smoothing,.* median"),
        ("PRIOR:intensity:sign=bright", UsageError, "sign: got 'bright', expected a number, true, false or none"),
        (
            "PRIOR:map:medain=4",
            UsageError,
            "got medain, but 'map' takes solver,.* sign,.* protocol,.* median",
        ),
        ("PRIOR:map:solver=magic", UsageError, "solver: got 'magic'"),
        ("PRIOR:map:config=1", UsageError, "got config, but 'map' takes"),
        ("PRIOR:map:postprocessing=1", UsageError, "got postprocessing, but 'map' takes"),
        ("PRIOR:map:tv_weight=heavy", UsageError, "tv_weight: got 'heavy', expected a number"),
        ("PRIOR:map:erosion=much", UsageError, "erosion: got 'much', expected a number"),
        ("PRIOR:intensity:erosion=-1", UsageError, "erosion: got -1, expected a finite number >= 0"),
        ("PRIOR:map:protocol=paper,smoothing=3", UsageError, "smoothing: 3 contradicts protocol 'paper', which has 0"),
        ("PRIOR:map:protocol=pepper", UsageError, "protocol: got 'pepper', expected one of"),
        ("PRIOR", CommandError, "tv_weight: .* carries no calibration"),
        ("PRIOR:intensity:sign=2", CommandError, "sign: got 2"),
        ("PRIOR:unet", CommandError, "got 'unet', expected one that VAE offers"),
        ("nonesuch", CommandError, "nonesuch"),
    ],
)
def test_detectors_that_there_are_not(spec, error, says, evaluation_paths):
    with pytest.raises(error, match=rf"--methods: .*{says}"):
        open_detector(spec.replace("PRIOR", evaluation_paths["PRIOR"]))
