"""What a restoration's network multiplies in: near float32, always stated, and without a trace in the process."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from support.models import (
    GaussianPrior,
    head,
    scan_values,
    tiny_calibration,
    tiny_gmvae,
    tiny_metadata,
    tiny_multiscale,
    tiny_vae,
)

import lesioncore as lc
from lesioncore.cli import main
from lesioncore.detectors import MAPDetector
from lesioncore.engine.gradient import ElboGradient
from lesioncore.engine.precision import multiplying_in
from lesioncore.evaluation import evaluate

SCAN = scan_values(head((22, 18, 11)))
SLICES = scan_values(head((24, 20, 6)), seed=3).permute(2, 0, 1)[:, None] / 200 - 2.0
SOLVERS = pytest.mark.parametrize("solver", ["em", "prox"])


def restored(prior, solver="em", **options):
    config = lc.RestoreConfig(solver, tv_weight=1.0, smoothing=0.0, normalized=True, **options)
    return lc.restore(SLICES, prior, config=config, device="cpu")


def lively(make=tiny_vae, seed=0):
    """A random prior of larger weights: its reconstructions differ from slice to slice, and so does their rounding."""
    prior = make(seed=seed)
    for module in prior.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data *= 2
    return prior


def relative(found, exact):
    return float((found - exact).norm() / exact.norm())


@pytest.mark.parametrize("make", [tiny_vae, tiny_multiscale, tiny_gmvae])
@pytest.mark.parametrize("held", [False, True])
def test_bfloat16_gives_the_gradient_to_its_eight_bits(make, held):
    """In the median of random networks: in each one rounding turns some signs of activations, more or fewer."""
    errors = []
    for seed in range(5):
        prior = lively(make, seed)
        value, gradient = ElboGradient(prior, fix_posterior=held)(SLICES)
        found_value, found = ElboGradient(prior, fix_posterior=held, dtype=torch.bfloat16)(SLICES)
        assert found.dtype == found_value.dtype == torch.float32
        errors.append((relative(found, gradient), relative(found_value, value)))
    of_gradient, of_value = (statistics.median(kind) for kind in zip(*errors, strict=True))
    assert 1e-3 < of_gradient < 5e-2
    assert of_value < 5e-2


@pytest.mark.parametrize("solver", ["em", lc.ProxSolver(steps=40, tolerance=0.0)], ids=["em", "prox"])
def test_bfloat16_restores_nearly_the_same(solver):
    """The prox solver's step sizes follow the curvature met, which rounding changes: ends agree, ways do not."""
    prior = lively()
    exact, found = (restored(prior, solver, precision=p).residual for p in ("float32", "bfloat16"))
    assert found.dtype == torch.float32
    assert 1e-5 < relative(found, exact) < 0.1


@SOLVERS
def test_a_run_in_bfloat16_leaves_the_prior_as_it_was(solver):
    prior = lively()
    before = restored(prior, solver).residual
    restored(prior, solver, precision="bfloat16")
    assert {parameter.dtype for parameter in prior.parameters()} == {torch.float32}
    assert torch.equal(restored(prior, solver).residual, before)


def test_batches_matter_no_more_than_rounding_does_in_bfloat16():
    one, whole = (restored(lively(), precision="bfloat16", batch_size=size).residual for size in (1, 6))
    assert relative(one, whole) < 1e-2


@pytest.mark.parametrize(("asked", "ran"), [("auto", "float32"), ("float32", "float32"), ("bfloat16", "bfloat16")])
def test_the_result_states_what_ran(asked, ran, tmp_path):
    prior = tiny_vae(metadata=tiny_metadata(tiny_calibration()))
    config = lc.RestoreConfig(precision=asked)
    result = lc.restore(SCAN, prior, config=config, device="cpu", affine=np.diag([4.0, 4, 4, 1]))
    assert result.record.precision == result.sidecar()["Precision"] == ran
    assert ran in repr(result)
    written = result.save(tmp_path, name="sub-01_T2w")
    assert json.loads(written["sidecar"].read_text())["Precision"] == ran
    assert result.record.calibration is not None  # thresholds are for every precision


def test_precision_is_no_part_of_what_a_calibration_belongs_to():
    assert lc.RestoreConfig("em", precision="bfloat16").settings() == lc.RestoreConfig("em").settings()


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision: got 'float16', expected one of"):
        lc.RestoreConfig(precision="float16")


def test_a_cpu_has_no_tf32():
    with pytest.raises(ValueError, match="precision: got 'tf32', which cpu does not have"):
        restored(tiny_vae(), precision="tf32")


def test_a_prior_of_another_kind_is_restored_in_float32():
    prior = GaussianPrior(torch.zeros(1, 1, 24, 20))
    assert restored(prior, "prox").record.precision == "float32"
    with pytest.raises(ValueError, match="precision: got 'bfloat16', but GaussianPrior has no fused blocks"):
        restored(prior, "prox", precision="bfloat16")


def test_an_engine_says_that_a_prior_has_no_fused_blocks():
    with pytest.raises(ValueError, match="GaussianPrior has no fused blocks"):
        ElboGradient(GaussianPrior(torch.zeros(1, 1, 24, 20)), dtype=torch.bfloat16)


# ---- commands and detectors ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> str:
    prior = tiny_vae(metadata=tiny_metadata(tiny_calibration()))
    return str(lc.save_model(prior, tmp_path_factory.mktemp("priors") / "tiny", card="A random network for tests.\n"))


def test_restore_takes_a_precision_and_states_it(directory, folder, tmp_path, capsys):
    scan = next((folder / "patients").rglob("*_T2w.nii*"))
    words = ["restore", str(scan), "-o", str(tmp_path), "--prior", directory, "--device", "cpu", "--json"]
    assert main([*words, "--precision", "bfloat16"]) == 0
    assert json.loads(capsys.readouterr().out)["scans"][0]["precision"] == "bfloat16"
    assert main([*words, "--precision", "tf32", "--overwrite"]) == 1
    assert "precision: got 'tf32', which cpu does not have" in capsys.readouterr().err


def test_evaluate_takes_a_precision_as_an_option_of_map(directory, folder, tmp_path):
    methods = ["--methods", f"exact={directory}", f"rough={directory}:map:precision=bfloat16"]
    words = ["evaluate", str(folder / "patients"), "-o", str(tmp_path), "--no-figures", "--device", "cpu", *methods]
    assert main(words) == 0
    found = json.loads((tmp_path / "metrics.json").read_text())["methods"]
    assert [found[name]["detector"]["precision"] for name in ("exact", "rough")] == ["float32", "bfloat16"]


def test_a_stored_score_is_not_taken_for_another_precision(patients, tmp_path):
    prior = tiny_vae(metadata=tiny_metadata(tiny_calibration()))
    prior.metadata = lc.PriorMetadata(**{**vars(prior.metadata), "fingerprint": "0" * 64})
    for precision, files in (("float32", 1), ("auto", 1), ("bfloat16", 2)):
        detector = MAPDetector(prior, lc.RestoreConfig(precision=precision))
        evaluate({"a": detector}, patients[:1], store=tmp_path, device="cpu")
        assert len(list(tmp_path.iterdir())) == files


# ---- torch's settings ------------------------------------------------------------------------------------------------


def test_the_users_own_settings_come_back_exactly():
    """Whatever the user has set, with torch's new or legacy functions: after a run all is, and works, as without it."""
    script = Path(__file__).parents[1] / "support" / "precision_run.py"
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    rows = json.loads(ran.stdout)
    assert len(rows) > 100
    for row in rows:
        within = row["found"].pop("within")
        assert row["found"] == row["expected"], row
        device, precision = row["run"]
        names = ("conv", "matmul") if device == "cuda" else ("cpu conv", "cpu matmul")
        assert {within[name] for name in names} <= ({"tf32"} if precision == "tf32" else {"ieee", "none"}), row


def test_threads_share_what_they_agree_on_and_wait_for_each_other_where_they_do_not():
    device, order = torch.device("cuda"), []
    inside, leave = threading.Event(), threading.Event()

    def other(precision):
        with multiplying_in(precision, device):
            order.append(precision)
            if precision == "float32":
                inside.set()
                leave.wait(10)
                order.append(torch.backends.cudnn.conv.fp32_precision)

    first = threading.Thread(target=other, args=("float32",))
    second = threading.Thread(target=other, args=("tf32",))
    with multiplying_in("bfloat16", device):  # whose rest is float32 as well
        first.start()
        assert inside.wait(10)
        second.start()
    second.join(0.2)
    assert order == ["float32"]
    leave.set()
    for thread in (first, second):
        thread.join(10)
    assert order == ["float32", "ieee", "tf32"]


def test_settings_come_back_after_an_error():
    before = torch.backends.cuda.matmul.fp32_precision
    with pytest.raises(RuntimeError, match="of the test"), multiplying_in("tf32", torch.device("cuda")):
        raise RuntimeError("of the test")
    assert torch.backends.cuda.matmul.fp32_precision == before


@pytest.mark.needs_cuda
@pytest.mark.parametrize("solver", ["em", lc.ProxSolver(steps=40, tolerance=0.0)], ids=["em", "prox"])
def test_tf32_on_cuda(solver):
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("the device has no TF32")
    prior, before = lively(), torch.backends.cuda.matmul.fp32_precision
    exact = restored(prior, solver).residual

    def on_cuda(precision):
        config = lc.RestoreConfig(solver, tv_weight=1.0, smoothing=0.0, normalized=True, precision=precision)
        return lc.restore(SLICES, prior, config=config, device="cuda")

    found = {precision: on_cuda(precision) for precision in ("auto", "tf32", "float32", "bfloat16")}
    assert [result.record.precision for result in found.values()] == ["tf32", "tf32", "float32", "bfloat16"]
    errors = [relative(found[precision].residual, exact) for precision in ("float32", "tf32", "bfloat16")]
    if solver == "em":  # how prox steps depends on rounding, so there either of the coarser formats may end closer
        assert errors == sorted(errors)
    assert errors[0] < 1e-3
    assert errors[0] < errors[1] < 0.02
    assert errors[0] < errors[2] < 0.1
    assert torch.equal(found["auto"].residual, found["tf32"].residual)
    assert torch.backends.cuda.matmul.fp32_precision == before
