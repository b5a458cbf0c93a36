"""Batches: their size, and what happens when memory runs out."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from support.models import tiny_vae

from lesioncore.engine.batches import batch_size_for, computing, in_batches
from lesioncore.engine.gradient import ElboGradient


class Crowded:
    """A prior whose device has memory for a few slices."""

    def __init__(self, model, most):
        self.model, self.most, self.sizes = model, most, []
        self.noise_shape = model.noise_shape

    def elbo(self, x, *noise):
        self.sizes.append(len(x))
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.model.elbo(x, *noise)


@pytest.mark.parametrize("sampled", [False, True])
def test_running_out_of_memory_halves_the_batch_and_changes_nothing(sampled):
    # In float32 another batch's rounding may turn an activation's sign.
    model = tiny_vae().eval().double()
    x = torch.randn(11, 1, 24, 20, dtype=torch.float64)
    seeds = list(range(11)) if sampled else None
    prior = Crowded(model, most=3)
    crowded, roomy = (ElboGradient(one, batch_size=8, noise_seeds=seeds) for one in (prior, model))
    for _ in range(2):
        for a, b in zip(crowded(x), roomy(x), strict=True):
            assert torch.allclose(a, b, rtol=1e-9, atol=1e-10)
    assert prior.sizes[:3] == [8, 4, 2]
    assert max(prior.sizes[3:]) == 2  # remembered


def test_memory_for_no_slice_at_all_is_an_error():
    with pytest.raises(torch.OutOfMemoryError):
        ElboGradient(Crowded(tiny_vae(), most=0))(torch.zeros(3, 1, 24, 20))


def test_every_slice_once():
    seen = []
    assert in_batches(lambda batch: seen.extend(range(11)[batch]), 11, 4) == 4
    assert seen == list(range(11))
    assert in_batches(seen.append, 0, 4) == 4
    assert len(seen) == 11


@pytest.mark.parametrize(("size", "count"), [(10, 3200), (100, 32), (200, 8), (1000, 1)])
def test_size_on_a_cpu(size, count):
    assert batch_size_for(torch.empty(3, 1, size, size), torch.device("cpu")) == count


@pytest.mark.parametrize(("gigabytes", "count"), [(80, 250), (21, 250), (15, 125), (0.2, 1)])
def test_size_follows_the_free_memory_of_a_gpu(monkeypatch, gigabytes, count):
    kept = 1e9  # torch's own, free for it
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (int(gigabytes * 1e9 - 0.1 * kept), int(1e11)))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: int(kept))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: int(0.9 * kept))
    assert batch_size_for(torch.empty(3, 1, 200, 200), torch.device("cuda")) == count


def test_one_loop_at_a_time_on_a_device():
    device, inside, most = torch.device("cpu"), 0, 0

    def loop(_):
        nonlocal inside, most
        with computing(device), computing(device):  # a loop may start another
            inside += 1
            most = max(most, inside)
            torch.zeros(100_000).exp_()
            inside -= 1

    with ThreadPoolExecutor(4) as executor:
        list(executor.map(loop, range(40)))
    assert most == 1


def test_another_device_does_not_wait():
    entered = threading.Event()

    def loop():
        with computing(torch.device("meta")):
            entered.set()

    with computing(torch.device("cpu")):
        thread = threading.Thread(target=loop)
        thread.start()
        assert entered.wait(10)
    thread.join()
