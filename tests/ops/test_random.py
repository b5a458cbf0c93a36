"""Random streams against Philox and Box and Muller written again in plain Python."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st
from scipy import stats
from support.backends import EMULATED, Backend

from lesioncore.ops.random import normal, streams_of

MASK = 2**32 - 1
BACKENDS = [
    pytest.param(Backend("cpu", torch.float32), id="cpu"),
    EMULATED,
    pytest.param(Backend("cuda", torch.float32), id="cuda", marks=pytest.mark.needs_cuda),
]


@pytest.fixture(scope="module", params=BACKENDS)
def device(request):
    return request.param.device


def philox(key, counter):
    """Philox4x32-10 of a key of two words and a counter of four."""
    (first, second), (a, b, c, d) = key, counter
    for _ in range(10):
        left, right = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (right >> 32) ^ b ^ first, right & MASK, (left >> 32) ^ d ^ second, left & MASK
        first, second = (first + 0x9E3779B9) & MASK, (second + 0xBB67AE85) & MASK
    return a, b, c, d


def drawn(seed, call, count):
    """The numbers of a stream's call."""
    key, numbers = (seed & MASK, seed >> 32 & MASK), []
    while len(numbers) < count:
        a, b, c, d = philox(key, (len(numbers) // 4, 0, call & MASK, call >> 32))
        for first, second in ((a, b), (c, d)):
            radius, angle = math.sqrt(-2 * math.log((first + 0.5) / 2**32)), 2 * math.pi * second / 2**32
            numbers += [radius * math.cos(angle), radius * math.sin(angle)]
    return torch.tensor(numbers[:count], dtype=torch.float64)


def test_the_reference_gives_the_published_vectors():
    """Of the Random123 library, kat_vectors."""
    assert philox((0, 0), (0, 0, 0, 0)) == (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    assert philox((MASK,) * 2, (MASK,) * 4) == (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)
    pi = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    assert philox((0xA4093822, 0x299F31D0), pi) == (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)


@given(
    seeds=st.lists(st.integers(-(2**64), 2**65), min_size=1, max_size=4),
    call=st.integers(0, 2**40),
    count=st.integers(0, 11),
)
def test_numbers_are_those_of_the_reference(device, seeds, call, count):
    streams = streams_of(seeds)
    streams[:, 1] = call
    found = normal(streams.to(device), (count,)).cpu()
    for row, seed in zip(found, seeds, strict=True):
        assert torch.allclose(row.double(), drawn(seed, call, count), rtol=1e-7, atol=1e-14)


def test_a_stream_is_the_same_among_others(device):
    together = normal(streams_of(range(300)).to(device), (5, 3, 2))
    assert together.shape == (300, 5, 3, 2)
    for seed in (0, 7, 299):
        assert torch.equal(together[seed], normal(streams_of([seed]).to(device), (5, 3, 2))[0])


def test_streams_are_left_as_they_are_and_every_call_is_another(device):
    streams = streams_of([3, 3]).to(device)
    first = normal(streams, (9,))
    assert torch.equal(streams.cpu(), torch.tensor([[3, 0], [3, 0]]))
    assert torch.equal(first[0], first[1])
    streams[1, 1] += 1
    second = normal(streams, (9,))
    assert torch.equal(first[0], second[0])
    assert not torch.isclose(second[0], second[1]).any()


def test_numbers_are_standard_normal_and_independent(device):
    streams = streams_of(range(40)).to(device)
    calls = []
    for _ in range(2):
        calls.append(normal(streams, (2000,)).cpu().double())
        streams[:, 1] += 1
    numbers = torch.stack(calls)
    assert stats.kstest(numbers.flatten().numpy(), "norm").pvalue > 1e-3
    rows = numbers.flatten(0, 1)
    bound = 5 / math.sqrt(rows.shape[1])  # five standard errors of a correlation
    assert (torch.corrcoef(rows) - torch.eye(80)).abs().max() < bound  # of streams, and of one stream's calls
    for lag in (1, 2, 3, 4):
        neighbours = torch.stack([numbers[..., :-lag].flatten(), numbers[..., lag:].flatten()])
        assert torch.corrcoef(neighbours)[0, 1].abs() < 5 / math.sqrt(neighbours.shape[1])


def test_no_streams_give_no_numbers(device):
    assert normal(streams_of([]).to(device), (4,)).shape == (0, 4)


@pytest.mark.parametrize(
    ("streams", "out", "message"),
    [
        (torch.zeros(2, 2), torch.zeros(2, 3), "argument 'streams' has dtype float32, expected int64"),
        (torch.zeros(3, 2).long(), torch.zeros(2, 3), "argument 'streams' has shape [3, 2], expected [2, 2]: seed and"),
        (torch.zeros(2, 4).long()[:, ::2], torch.zeros(2, 3), "argument 'streams' is not contiguous"),
        (torch.zeros(2, 2).long(), torch.zeros(2, 3).double(), "argument 'out' has dtype float64, expected float32"),
        (torch.zeros(2, 2).long(), torch.zeros(3, 2).T, "argument 'out' is not contiguous"),
        (torch.zeros(2, 2).long(), torch.zeros(()), "argument 'out' has no dimensions, expected [N, ...]"),
    ],
)
def test_bad_arguments_are_named(streams, out, message):
    with pytest.raises(RuntimeError) as error:
        torch.ops.lesioncore.normal(streams, out)
    assert f"lesioncore::normal: {message}" in str(error.value)


def test_the_operator_passes_opcheck(device):
    arguments = (streams_of([1, 2]).to(device), torch.empty(2, 5, device=device))
    torch.library.opcheck(torch.ops.lesioncore.normal.default, arguments)
