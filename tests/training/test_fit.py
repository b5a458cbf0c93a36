"""The training run: it learns, repeats, goes on where it was stopped, and fails with a clear error."""

from __future__ import annotations

import csv
import os
import signal
import threading
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from support.models import ellipses

from lesioncore import VAE, VAEConfig
from lesioncore.training import TensorSlices, TrainingConfig, fit
from lesioncore.training.elbo import ElboLearner

ARCHITECTURE = VAEConfig((20, 18), (4, 6), 3)
SHORT = TrainingConfig(slices_seen=320, batch_size=16, seed=3, validate_every=64, checkpoint_every=128)


def learner(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ElboLearner(VAE(ARCHITECTURE))


def slices(seed=0, count=64):
    return TensorSlices(ellipses(count, seed=seed))


def weights(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_learns_and_reports():
    seen, elbos = [], []

    def report(count, figures):
        seen.append(count)
        elbos.append(figures["elbo"])

    trained = learner()
    config = TrainingConfig(slices_seen=4000, batch_size=16, learning_rate=5e-3)
    outcome = fit(trained, slices(), slices(1), config, report=report)
    assert seen[-1] == 4000
    assert elbos[-1] > elbos[0]
    assert outcome.updates == outcome.best_update == 250
    assert outcome.slices_per_second > 0
    assert 0 <= outcome.data_wait <= 1
    held_out = ellipses(64, seed=1)
    with torch.no_grad():
        error = (held_out - trained.model.reconstruct(held_out)).square().mean()
        assert outcome.best_loss == pytest.approx(-float(trained.model.elbo(held_out).mean()), rel=1e-4)
    assert error < 0.3 * held_out.var()
    assert not trained.training


def test_same_seed_same_weights():
    state = torch.random.get_rng_state()
    results = []
    for seed in (3, 3, 4):
        trained = learner()
        fit(trained, slices(), config=replace(SHORT, seed=seed))
        results.append(weights(trained))
    assert same(results[0], results[1])
    assert not same(results[0], results[2])
    assert torch.equal(state, torch.random.get_rng_state())


class Killed(Exception):
    pass


@pytest.mark.parametrize("killed_at", [3, 8, 17, 20])
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path, killed_at):
    whole = learner()
    expected = fit(whole, slices(), slices(1), SHORT, directory=tmp_path / "whole")

    def kill(seen, figures):
        if seen == killed_at * SHORT.batch_size:
            raise Killed

    first = learner()
    with pytest.raises(Killed):
        fit(first, slices(), slices(1), SHORT, directory=tmp_path / "run", report=kill)
    # What was in memory is lost: another process starts from other weights and finds the checkpoint.
    again = learner(seed=99) if killed_at > 8 else learner()
    outcome = fit(again, slices(), slices(1), SHORT, directory=tmp_path / "run", resume=True)
    assert same(weights(again), weights(whole))
    assert (outcome.best_loss, outcome.best_update) == (expected.best_loss, expected.best_update)
    texts = [(tmp_path / run / "metrics.csv").read_text() for run in ("whole", "run")]
    assert texts[0] == texts[1]


def test_the_best_weights_are_kept_through_a_stop(tmp_path):
    # A learning rate that soon does harm: the best weights are early ones.
    config = replace(SHORT, slices_seen=960, learning_rate=0.5, warmup=1.0, schedule="constant", patience=2)
    trained = learner()
    outcome = fit(trained, slices(), slices(1), config, directory=tmp_path)
    assert outcome.updates < config.updates
    assert outcome.best_update == outcome.updates - 2 * (config.validate_every // config.batch_size)
    with torch.no_grad():
        assert -float(trained.model.elbo(ellipses(64, seed=1)).mean()) == pytest.approx(outcome.best_loss, rel=1e-5)
    again = learner(seed=99)
    repeated = fit(again, slices(), slices(1), config, directory=tmp_path, resume=True)
    assert same(weights(trained.model), weights(again.model))
    assert repeated.updates == outcome.updates


def test_checkpoints_belong_to_their_configuration_and_data(tmp_path):
    fit(learner(), slices(), config=SHORT, directory=tmp_path)
    for data, config in ((slices(), replace(SHORT, seed=4)), (slices(5), SHORT)):
        with pytest.raises(ValueError, match="another configuration or other data"):
            fit(learner(), data, config=config, directory=tmp_path, resume=True)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match="damaged"):
        fit(learner(), slices(), config=SHORT, directory=tmp_path, resume=True)
    facts = '{"update": "7", "identity": ""}'
    save_file({"learner/x": torch.zeros(1)}, tmp_path / "checkpoint.safetensors", metadata={"progress": facts})
    with pytest.raises(
        ValueError, match=r"checkpoint\.safetensors: progress\.update: got '7', expected a whole number"
    ):
        fit(learner(), slices(), config=SHORT, directory=tmp_path, resume=True)


def test_metrics_hold_every_validation(tmp_path):
    fit(learner(), slices(), slices(1), SHORT, directory=tmp_path)
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["update"]) for row in rows] == list(range(1, 21))
    assert [bool(row["validation_loss"]) for row in rows] == [i % 4 == 0 for i in range(1, 21)]
    assert all(float(row["learning_rate"]) > 0 for row in rows)
    assert float(rows[-1]["elbo"]) == pytest.approx(float(rows[-1]["log_likelihood"]) - float(rows[-1]["kl"]), rel=1e-6)


def test_pictures_are_written(tmp_path):
    pytest.importorskip("matplotlib")
    fit(learner(), slices(), slices(1), SHORT, directory=tmp_path)
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == [f"{64 * i:09d}.png" for i in range(1, 6)]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (tmp_path / "pictures").iterdir())


def test_tensorboard_gets_the_same_figures(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit(learner(), slices(), slices(1), replace(SHORT, tensorboard=True), directory=tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    losses = [event.value for event in events.Scalars("validation_loss")]
    with (tmp_path / "metrics.csv").open() as file:
        expected = [float(row["validation_loss"]) for row in csv.DictReader(file) if row["validation_loss"]]
    assert losses == pytest.approx(expected, rel=1e-5)


def test_tensorboard_is_an_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("lesioncore.training.record.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"lesioncore\[tensorboard\]"):
        fit(learner(), slices(), config=replace(SHORT, tensorboard=True), directory=tmp_path)
    fit(learner(), slices(), slices(1), SHORT, directory=tmp_path)
    assert not (tmp_path / "pictures").exists()  # no matplotlib, no pictures, and no complaint


def test_a_stop_request_saves_and_ends(tmp_path):
    def ask(seen, figures):
        if seen == 5 * SHORT.batch_size:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match="80 slices"):
        fit(learner(), slices(), config=SHORT, directory=tmp_path, report=ask)
    assert signal.getsignal(signal.SIGTERM) is before
    again, whole = learner(seed=99), learner()
    fit(again, slices(), config=SHORT, directory=tmp_path, resume=True)
    fit(whole, slices(), config=SHORT)
    assert same(weights(again), weights(whole))


def test_runs_outside_the_main_thread():
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(fit(learner(), slices(), config=SHORT)))
    thread.start()
    thread.join()
    assert outcomes[0].updates == 20


def test_outliers_stop_with_a_word_and_keep_the_checkpoint(tmp_path):
    data = ellipses(64)
    broken = data.clone()
    broken[:8] = float("nan")
    for directory in (None, tmp_path):
        with pytest.raises(FloatingPointError, match="outliers"):
            fit(learner(), TensorSlices(broken), config=SHORT, directory=directory)
    with pytest.raises(FloatingPointError, match="validation loss"):
        fit(learner(), TensorSlices(data), TensorSlices(broken), SHORT, directory=tmp_path / "other")


def test_a_run_that_diverges_keeps_its_last_good_checkpoint(tmp_path):
    class Diverges(ElboLearner):
        def update(self, batch, context):
            if context.index == 11:
                with torch.no_grad():
                    self.model.output.bias.fill_(float("nan"))
            return super().update(batch, context)

    broken, mended, whole = Diverges(learner().model), Diverges(learner(seed=99).model), learner()
    with pytest.raises(FloatingPointError, match="176 slices"):
        fit(broken, slices(), config=SHORT, directory=tmp_path)
    mended.update = ElboLearner.update.__get__(mended)
    fit(mended, slices(), config=SHORT, directory=tmp_path, resume=True)
    fit(whole, slices(), config=SHORT)
    assert same(weights(mended), weights(whole))


@pytest.mark.parametrize(
    ("data", "message"), [(torch.zeros(3, 1, 20, 18), "at least one batch"), (torch.zeros(0, 1, 20, 18), "got 0")]
)
def test_too_few_slices_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        fit(learner(), TensorSlices(data), config=SHORT)


def test_slices_of_another_size_are_refused():
    with pytest.raises(ValueError, match="expected"):
        fit(learner(), TensorSlices(torch.zeros(64, 1, 9, 9)), config=SHORT)
    with pytest.raises(ValueError, match="floating point"):
        TensorSlices(torch.zeros(64, 1, 9, 9, dtype=torch.uint8))
    with pytest.raises(ValueError, match="uint8"):
        TensorSlices(torch.zeros(64, 1, 9, 9), torch.zeros(64, 1, 9, 9))


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 1},
        {"slices_seen": 0},
        {"learning_rate": 0.0},
        {"warmup": 2.0},
        {"gradient_clip": -1.0},
        {"patience": -1},
        {"checkpoint_every": 0},
    ],
)
def test_bad_options_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrainingConfig(**wrong)


def test_bfloat16_trains_close_to_float32():
    results = {}
    for precision in ("float32", "bfloat16"):
        trained = learner()
        config = TrainingConfig(slices_seen=1600, batch_size=16, learning_rate=5e-3, precision=precision)
        results[precision] = fit(trained, slices(), slices(1), config).best_loss
        assert all(p.dtype == torch.float32 for p in trained.parameters())
    assert results["bfloat16"] == pytest.approx(results["float32"], rel=0.1)
    assert results["bfloat16"] != results["float32"]
