"""CUDA graphs: replays give what the function gives, on the CPU by a tape and on CUDA devices by their graphs."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest
import torch
from support.models import tiny_gmvae, tiny_multiscale, tiny_vae
from support.tape import Tape

import lesioncore as lc
from lesioncore.engine import cuda_graphs, evaluator
from lesioncore.engine.cuda_graphs import GRAPHS, CudaGraphs
from lesioncore.engine.gradient import ElboGradient


@pytest.fixture
def taped(monkeypatch):
    """Capture on the CPU."""
    monkeypatch.setattr(Tape, "made", 0)
    monkeypatch.setitem(GRAPHS, "cpu", Tape)
    yield Tape
    lc.release_graphs()


def slices(count, seed=0):
    return torch.randn(count, 1, 24, 20, generator=torch.Generator().manual_seed(seed))


def uncaptured(prior, x, **options):
    return evaluator.Evaluator(prior, **options, capture=False)(x)


@pytest.mark.parametrize("make", [tiny_vae, tiny_gmvae, tiny_multiscale])
@pytest.mark.parametrize("options", [{}, {"fix_posterior": True}, {"kl_weight": 0.5}])
def test_replays_compute_on_what_is_given_to_them(taped, make, options):
    prior = make().eval()
    elbo = ElboGradient(prior, batch_size=8, **options)
    for call in range(6):
        x = slices(11 if call < 5 else 9, seed=call)
        for found, expected in zip(elbo(x), uncaptured(prior, x, **options), strict=True):
            assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert taped.made == 1  # 8 and 3 slices, 8 and 1: all in one graph of 8
    assert elbo.backend == "captured"


def test_samples_are_the_same_captured_or_not(taped):
    prior = tiny_vae().eval()
    x, seeds = slices(5), [3, 1, 4, 1, 5]
    elbo, plain = (ElboGradient(prior, noise_seeds=seeds) for _ in range(2))
    plain._evaluator = evaluator.Evaluator(prior, capture=False)
    for _ in range(5):
        for found, expected in zip(elbo(x), plain(x), strict=True):
            assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert (elbo.backend, plain.backend) == ("captured", "fused")


def test_graphs_serve_the_next_scan_until_the_weights_change(taped):
    prior, x = tiny_vae().eval(), slices(4)
    for _ in range(3):
        elbo = ElboGradient(prior)
        elbo(x), elbo(x)
    assert taped.made == 1
    assert elbo.backend == "captured"
    with torch.no_grad():
        prior.output.bias.data += 1.0  # leaves no trace but the values
    changed = ElboGradient(prior)
    for _ in range(4):
        found = changed(x)
    assert taped.made == 2
    assert torch.allclose(found[1], uncaptured(prior, x)[1], rtol=1e-5, atol=1e-5)


def test_a_scan_that_used_no_graph_does_not_claim_one(taped):
    prior = tiny_vae().eval()
    warm = ElboGradient(prior)
    for _ in range(4):
        warm(slices(4))
    other = ElboGradient(prior)
    other(slices(20))
    assert (warm.backend, other.backend) == ("captured", "fused")


def test_graphs_go_with_their_prior_and_on_demand(taped):
    prior = tiny_vae().eval()
    for _ in range(3):
        ElboGradient(prior)(slices(4))
    assert len(evaluator._cache) == 1
    lc.release_graphs()
    assert len(evaluator._cache) == 0
    ElboGradient(prior)
    assert len(evaluator._cache) == 1
    del prior
    gc.collect()
    assert len(evaluator._cache) == 0


def test_few_graphs_are_kept(taped):
    doubled = CudaGraphs(lambda x: (2 * x,))
    for rows in (8, 16, 24, 32, 40, 48, 8):
        for _ in range(4):
            x = torch.randn(rows, 2)
            assert torch.equal(doubled(x)[0], 2 * x)
    assert taped.made == 6 + 1
    assert len(doubled._graphs) == cuda_graphs._KEPT


def test_a_function_that_waits_for_the_host_runs_as_it_is(taped):
    reading = CudaGraphs(lambda x: (x * float(x.sum()),))
    x = torch.randn(8, 3)
    for _ in range(cuda_graphs._EAGER_CALLS):
        reading(x)
    with pytest.warns(UserWarning, match="capturing failed: a value is read"):
        reading(x)
    assert torch.equal(reading(x)[0], x * float(x.sum()))
    assert reading.replays == 0


def test_memory_that_graphs_hold_is_given_up_for_a_batch(taped):
    def crowded(x):
        if len(x) > 8 and graphs._graphs:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return (x + 1,)

    graphs = CudaGraphs(crowded)
    for rows in (8, 8, 8, 8, 12):
        x = torch.randn(rows, 1)
        assert torch.equal(graphs(x)[0], x + 1)
    assert not graphs._graphs


def test_too_little_memory_for_a_graph_is_no_error(monkeypatch):
    def full(function, device):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setitem(GRAPHS, "cpu", full)
    graphs = CudaGraphs(lambda x: (x + 1,))
    for _ in range(5):
        assert torch.equal(graphs(torch.ones(4, 1))[0], torch.full((4, 1), 2.0))


def test_a_result_says_that_its_loop_was_captured(taped):
    prior = tiny_vae().eval()
    y = slices(3)
    for solver, backend in (("em", "captured"), (lc.PaperSolver(steps=1), "fused")):
        lc.release_graphs()
        result = lc.restore(y, prior, config=lc.RestoreConfig(tv_weight=1.0, solver=solver, normalized=True))
        assert result.record.backend == backend


@pytest.mark.needs_cuda
class TestOnCuda:
    """The same with real graphs."""

    @pytest.fixture(autouse=True)
    def _released(self):
        yield
        lc.release_graphs()

    @pytest.mark.parametrize("make", [tiny_vae, tiny_gmvae, tiny_multiscale])
    @pytest.mark.parametrize("options", [{}, {"fix_posterior": True}])
    def test_replays_compute_on_what_is_given_to_them(self, make, options):
        prior = make().eval()
        elbo = ElboGradient(make().eval().cuda(), batch_size=8, **options)
        for call in range(6):
            x = slices(11, seed=call)
            value, gradient = uncaptured(prior, x, **options)
            found_value, found = elbo(x.cuda())
            assert torch.allclose(found_value.cpu(), value, rtol=1e-4)
            assert (found.cpu() - gradient).norm() <= 1e-3 * gradient.norm()
        assert elbo.backend == "captured"

    @pytest.mark.parametrize("solver", ["em", "prox", "paper"])
    def test_a_captured_restoration_is_that_of_the_cpu(self, solver):
        config = lc.RestoreConfig(
            tv_weight=1.0, solver=lc.PaperSolver(steps=20) if solver == "paper" else solver, normalized=True
        )
        y = slices(9)
        expected = lc.restore(y, tiny_vae(), config=config, device="cpu")
        prior = tiny_vae()
        for _ in range(2):  # cold and warm
            found = lc.restore(y, prior, config=config, device="cuda")
            assert found.record.backend == "captured"
            assert torch.allclose(found.restored.cpu(), expected.restored, atol=2e-3)

    def test_in_a_stream_of_the_caller_beside_another_thread(self):
        prior, y = tiny_vae(), slices(9)
        config = lc.RestoreConfig(tv_weight=1.0, solver=lc.PaperSolver(steps=20), normalized=True)
        expected = lc.restore(y, tiny_vae(), config=config, device="cpu").restored
        stop = threading.Event()

        def busy():
            while not stop.is_set():
                (torch.ones(200, 200, device="cuda") @ torch.randn(200, 200).cuda()).sum().item()

        other = threading.Thread(target=busy)
        other.start()
        try:
            for stream in (torch.cuda.Stream(), torch.cuda.Stream()):
                with torch.cuda.stream(stream):
                    found = lc.restore(y, prior, config=config, device="cuda").restored
                assert np.allclose(found.cpu(), expected, atol=2e-3)
        finally:
            stop.set()
            other.join()

    def test_warm_volumes_take_no_more_memory(self):
        prior = tiny_vae()
        config = lc.RestoreConfig(tv_weight=1.0, solver=lc.PaperSolver(steps=5), normalized=True)
        used = []
        for _ in range(4):
            lc.restore(slices(9), prior, config=config, device="cuda")
            used.append(torch.cuda.memory_allocated())
        assert used[1] == used[2] == used[3]


def test_calls_before_a_graph_have_as_many_rows():
    """So that the libraries choose the same kernels for them, and the first scan gives the bits of the next."""
    rows = []

    def function(x):
        rows.append(len(x))
        return (x + 1,)

    x = torch.arange(12.0).view(6, 2)
    (found,) = CudaGraphs(function)(x)
    assert rows == [8]
    assert torch.equal(found, x + 1)
