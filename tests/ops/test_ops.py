"""The native operators against the float64 reference, on every backend."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from hypothesis import given, strategies as st
from support.emulated import operators

from lesioncore.ops import library, reference, tv

shapes = st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 9), st.integers(0, 40))
seeds = st.integers(0, 10_000)
depth_weights = st.sampled_from([0.0, 0.5, 3.0])
VARIANTS = [(isotropic, depth_weight) for isotropic in (False, True) for depth_weight in (0.0, 0.7)]


def draw(shape, backend, seed, count):
    """Random volumes on a grid of 1/16: differences are exact in float32, and many vanish (sign(0), flat regions)."""
    generator = torch.Generator().manual_seed(seed)
    volumes = [torch.randint(-40, 41, shape, generator=generator) / 16 for _ in range(count)]
    return [v.to(backend.device, backend.dtype) for v in volumes]


def draw_mask(shape, backend, seed, kind):
    keep = {"random": 0.6, "all": 2.0, "none": -1.0}[kind]
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(shape, generator=generator) < keep).to(backend.device)


def scalars(values, backend):
    return torch.tensor(values, dtype=backend.dtype, device=backend.device)


def exact(tensor):
    return tensor.detach().cpu().double()


def assert_near(actual, expected, tolerance):
    assert actual.shape == expected.shape
    error = (exact(actual) - expected).abs() / (1 + expected.abs())
    assert error.numel() == 0 or error.max().item() <= tolerance


# ---- Values against the reference ----------------------------------------------------------------------------------


@given(shape=shapes, seed=seeds, depth_weight=depth_weights, isotropic=st.booleans())
def test_tv_gradient(backend, shape, seed, depth_weight, isotropic):
    x, y = draw(shape, backend, seed, 2)
    kwargs = {"depth_weight": depth_weight, "isotropic": isotropic, "eps": 1e-2}
    expected = reference.tv_gradient(exact(x), exact(y), **kwargs)
    assert_near(tv.tv_gradient(x, y, **kwargs), expected, backend.tolerance)


@given(shape=shapes, seed=seeds, depth_weight=depth_weights, isotropic=st.booleans(), eps=st.sampled_from([0.0, 0.1]))
def test_tv_value(backend, shape, seed, depth_weight, isotropic, eps):
    x, y = draw(shape, backend, seed, 2)
    kwargs = {"depth_weight": depth_weight, "isotropic": isotropic, "eps": eps}
    expected = reference.tv_value(exact(x), exact(y), **kwargs)
    assert_near(tv.tv_value(x, y, **kwargs), expected, backend.tolerance)


@given(
    shape=shapes,
    seed=seeds,
    depth_weight=depth_weights,
    isotropic=st.booleans(),
    mask=st.sampled_from(["random", "all", "none"]),
    clip=st.sampled_from([float("inf"), 2.0, 0.0]),
    per_stack=st.booleans(),
)
def test_restore_step(backend, shape, seed, depth_weight, isotropic, mask, clip, per_stack):
    x, y, gradient = draw(shape, backend, seed, 3)
    inside = draw_mask(shape, backend, seed, mask)
    step_size = scalars([0.25], backend)
    tv_weight = scalars([0.5 + n for n in range(shape[0])] if per_stack else [1.5], backend)
    kwargs = {"clip": clip, "depth_weight": depth_weight, "isotropic": isotropic, "eps": 1e-2}
    expected = reference.restore_step(
        exact(x), exact(y), exact(gradient), inside.cpu(), exact(step_size), exact(tv_weight), **kwargs
    )
    untouched = x.clone()
    out = torch.full_like(x, float("nan"))
    returned = tv.restore_step_(x, y, gradient, inside, step_size, tv_weight, out=out, **kwargs)
    assert returned is out
    assert_near(out, expected, backend.tolerance)
    assert torch.equal(x, untouched)

    assert tv.restore_step_(x, y, gradient, inside, step_size, tv_weight, **kwargs) is x
    assert torch.equal(x, out)  # in place or not: the same bits
    assert torch.equal(x[~inside], untouched[~inside])


@given(
    shape=shapes,
    seed=seeds,
    depth_weight=depth_weights,
    isotropic=st.booleans(),
    mask=st.sampled_from(["random", "all", "none"]),
    iterations=st.integers(0, 6),
    warm=st.booleans(),
)
def test_tv_prox_follows_the_reference(backend, shape, seed, depth_weight, isotropic, mask, iterations, warm):
    (v,) = draw(shape, backend, seed, 1)
    inside = draw_mask(shape, backend, seed, mask)
    weight = scalars([0.5 * n for n in range(shape[0])], backend)  # the first is 0
    dual = tv.dual_like(v, depth_weight)
    kwargs = {"depth_weight": depth_weight, "isotropic": isotropic, "iterations": iterations}
    if warm:
        dual.copy_(torch.rand(dual.shape, generator=torch.Generator().manual_seed(seed)) - 0.5)
    start = exact(dual).clone()
    out = torch.full_like(v, float("nan"))
    tv.tv_prox_(v, inside, weight, dual, out=out, **kwargs)
    expected, expected_dual = reference.tv_prox(exact(v), inside.cpu(), exact(weight), dual=start, **kwargs)
    tolerance = backend.tolerance * 10  # errors of a step enter the next one
    assert_near(out, expected, tolerance)
    assert_near(dual, expected_dual, tolerance)


# ---- The prox is the minimiser --------------------------------------------------------------------------------------


def test_prox_against_an_independent_solver(backend):
    """The dual of the anisotropic prox is a box-constrained least squares problem: scipy solves it another way."""
    optimize = pytest.importorskip("scipy.optimize")
    shape, depth_weight = (1, 2, 4, 5), 0.7
    (v,) = draw(shape, backend, 3, 1)
    mask = draw_mask(shape, backend, 3, "random")
    size = v.numel()
    units = torch.eye(size, dtype=torch.float64).reshape(size, *shape[1:])
    k = reference.differences(units, depth_weight).permute(0, 2, 3, 4, 1).reshape(-1, size)
    masked = mask.cpu().flatten().double()
    # D = m (v - K^T u) with |u| <= weight minimises 1/2 |m (v - K^T u)|^2
    solution = optimize.lsq_linear(
        (masked[:, None] * k.T).numpy(), (masked * exact(v).flatten()).numpy(), bounds=(-0.6, 0.6), tol=1e-14
    )
    expected = masked * (exact(v).flatten() - k.T @ torch.from_numpy(solution.x))
    actual = tv.tv_prox_(
        v, mask, scalars([0.6], backend), tv.dual_like(v, depth_weight), depth_weight=depth_weight, iterations=3000
    )
    torch.testing.assert_close(exact(actual).flatten(), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("isotropic", "depth_weight"), VARIANTS)
def test_prox_closes_the_duality_gap(backend, isotropic, depth_weight):
    shape = (2, 3, 14, 19)
    (v,) = draw(shape, backend, 5, 1)
    mask = draw_mask(shape, backend, 5, "random")
    weight = scalars([0.3, 1.2], backend)
    kwargs = {"depth_weight": depth_weight, "isotropic": isotropic}
    gaps = []
    for iterations in (10, 100, 3000):
        dual = tv.dual_like(v, depth_weight)
        tv.tv_prox_(v, mask, weight, dual, iterations=iterations, **kwargs)
        magnitude = exact(dual).square().sum(0).sqrt() if isotropic else exact(dual).abs().amax(0)
        assert magnitude.max() <= 1 + 1e-6
        gaps.append(reference.duality_gap(exact(v), mask.cpu(), exact(weight), exact(dual), **kwargs))
    assert (gaps[1] < gaps[0] / 5).all()
    assert (gaps[2] < 1e-4 if backend.dtype == torch.float64 else gaps[2] < 1e-2).all()


def test_prox_keeps_a_constant_and_flattens_to_the_mean(backend):
    mask = torch.ones(1, 1, 6, 7, dtype=torch.bool, device=backend.device)
    constant = torch.full((1, 1, 6, 7), 1.25, dtype=backend.dtype, device=backend.device)
    kept = tv.tv_prox_(constant, mask, scalars([4.0], backend), tv.dual_like(constant))
    assert torch.equal(kept, constant)
    (v,) = draw((1, 1, 6, 7), backend, 0, 1)
    flat = tv.tv_prox_(v, mask, scalars([100.0], backend), tv.dual_like(v), iterations=3000)
    torch.testing.assert_close(flat, v.mean().expand_as(v), atol=1e-3, rtol=0)


def test_prox_starts_where_it_stopped(backend):
    shape = (2, 1, 40, 40)
    (v,) = draw(shape, backend, 7, 1)
    mask = draw_mask(shape, backend, 7, "all")
    weight = scalars([0.8], backend)

    def gap(dual):
        return reference.duality_gap(exact(v), mask.cpu(), 0.8, exact(dual)).max().item()

    warm, cold = tv.dual_like(v), tv.dual_like(v)
    tv.tv_prox_(v + 0.05 * torch.sin(v), mask, weight, warm, iterations=60)
    tv.tv_prox_(v, mask, weight, warm, iterations=5)
    tv.tv_prox_(v, mask, weight, cold, iterations=5)
    assert gap(warm) < gap(cold) / 3


def test_prox_uncoupled_slices_are_solved_alone(backend):
    (v,) = draw((2, 3, 8, 9), backend, 2, 1)
    mask = draw_mask(v.shape, backend, 2, "random")
    stacked = tv.tv_prox_(v, mask, scalars([0.7], backend), tv.dual_like(v))
    slices, mask_of_slices = v.reshape(6, 1, 8, 9), mask.reshape(6, 1, 8, 9)
    alone = tv.tv_prox_(slices, mask_of_slices, scalars([0.7], backend), tv.dual_like(slices))
    assert torch.equal(stacked.reshape(alone.shape), alone)


@pytest.mark.parametrize("weight", [1e-30, 1e30])
def test_prox_extreme_weights_stay_finite(backend, weight):
    (v,) = draw((1, 1, 8, 9), backend, 2, 1)
    mask = draw_mask(v.shape, backend, 2, "random")
    out = tv.tv_prox_(v, mask, scalars([weight], backend), tv.dual_like(v))
    assert out.isfinite().all()
    if weight < 1:
        torch.testing.assert_close(out, torch.where(mask, v, 0))


# ---- Bits: threads, levels, devices, what is not a number -----------------------------------------------------------


@pytest.mark.parametrize(("isotropic", "depth_weight"), VARIANTS)
@pytest.mark.parametrize("shape", [(1, 1, 300, 230), (1, 5, 131, 110), (3, 2, 70, 40)])
@pytest.mark.usefixtures("keep_threads")
def test_the_number_of_threads_changes_no_bit(shape, isotropic, depth_weight):
    generator = torch.Generator().manual_seed(0)
    x, y, gradient = (torch.randn(shape, generator=generator) for _ in range(3))
    mask = torch.rand(shape, generator=generator) > 0.3
    one = torch.ones(1)
    kwargs = {"depth_weight": depth_weight, "isotropic": isotropic}

    def results(threads):
        torch.set_num_threads(threads)
        dual = tv.dual_like(x, depth_weight)
        return [
            tv.tv_gradient(x, y, **kwargs),
            tv.tv_value(x, y, **kwargs),
            tv.restore_step_(x.clone(), y, gradient, mask, one, one, clip=3.0, **kwargs),
            tv.restore_step_(x, y, gradient, mask, one, one, clip=3.0, out=torch.empty_like(x), **kwargs),
            tv.tv_prox_(x, mask, one, dual, iterations=7, **kwargs),
            dual,
        ]

    alone = results(1)
    for threads in (2, 5):
        for ours, theirs in zip(alone, results(threads), strict=True):
            assert torch.equal(ours, theirs)
    assert torch.equal(alone[2], alone[3])


_HASH_OF_RESULTS = """
import hashlib, torch
from lesioncore.ops import tv
g = torch.Generator().manual_seed(0)
digest = hashlib.sha256()
for dtype in (torch.float32, torch.float64):
    x, y, e = (torch.randn(2, 3, 21, 53, generator=g, dtype=dtype) for _ in range(3))
    mask, one = torch.rand(x.shape, generator=g) > 0.3, torch.ones(1, dtype=dtype)
    for isotropic in (False, True):
        for depth_weight in (0.0, 0.7):
            k = dict(isotropic=isotropic, depth_weight=depth_weight)
            dual = tv.dual_like(x, depth_weight)
            prox = tv.tv_prox_(x, mask, one, dual, **k)
            step = tv.restore_step_(x.clone(), y, e, mask, one, one, clip=3.0, **k)
            for t in (tv.tv_gradient(x, y, **k), tv.tv_value(x, y, **k), step, prox, dual):
                digest.update(t.numpy().tobytes())
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_every_instruction_set_gives_the_same_bits(tmp_path):
    def digest(level):
        environment = {**os.environ, "LESIONCORE_CPU": level}
        command = [sys.executable, "-c", _HASH_OF_RESULTS]
        # Away from the checkout, or its source folder would stand in for the installed package.
        run = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
        return run.stdout

    assert len({digest(level) for level in ("baseline", "avx2", "avx512")}) == 1


@pytest.mark.parametrize("where", ["emulated", pytest.param("cuda", marks=pytest.mark.needs_cuda)])
@pytest.mark.parametrize(("isotropic", "depth_weight"), VARIANTS)
def test_cuda_kernels_give_the_bits_of_the_cpu(where, isotropic, depth_weight):
    generator = torch.Generator().manual_seed(0)
    volumes = torch.randn(3, 3, 4, 37, 83, generator=generator)
    inside = torch.rand(volumes.shape[1:], generator=generator) > 0.3
    kwargs = {"depth_weight": depth_weight, "isotropic": isotropic}

    def results(device):
        x, y, gradient = volumes.to(device)
        mask, one, dual = inside.to(device), torch.full((1,), 0.3, device=device), tv.dual_like(x, depth_weight)
        found = [
            tv.tv_gradient(x, y, **kwargs),
            tv.restore_step_(x.clone(), y, gradient, mask, one, one, clip=3.0, **kwargs),
            tv.tv_prox_(x, mask, one, dual, iterations=8, **kwargs),
            dual,
        ]
        return [result.cpu() for result in found]

    with operators() if where == "emulated" else nullcontext():
        theirs = results("cpu" if where == "emulated" else where)
    for ours, their in zip(results("cpu"), theirs, strict=True):
        assert torch.equal(ours, their)


@pytest.mark.needs_cuda
def test_a_captured_graph_follows_its_step_size():
    generator = torch.Generator().manual_seed(0)
    x, y, gradient = (torch.randn(2, 1, 30, 41, generator=generator).cuda() for _ in range(3))
    mask = torch.ones_like(x, dtype=torch.bool)
    step_size, tv_weight = torch.zeros(1, device="cuda"), torch.zeros(2, device="cuda")
    out, dual, prox = torch.empty_like(x), tv.dual_like(x), torch.empty_like(x)

    def work():
        tv.restore_step_(x, y, gradient, mask, step_size, tv_weight, out=out)
        tv.tv_prox_(out, mask, tv_weight, dual, out=prox, iterations=4)

    stream = torch.cuda.Stream()  # libraries and caches are made ready before the capture
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    for value in (0.1, 0.7):
        step_size.fill_(value)
        tv_weight.copy_(torch.tensor([value, 1 + value]))
        dual.zero_()
        graph.replay()
        expected = tv.restore_step_(x, y, gradient, mask, step_size, tv_weight, out=torch.empty_like(x))
        assert torch.equal(out, expected)
        assert torch.equal(prox, tv.tv_prox_(expected, mask, tv_weight, tv.dual_like(x), iterations=4))


@pytest.mark.parametrize("isotropic", [False, True])
def test_pixels_outside_the_mask_keep_their_bits_beside_nan(backend, isotropic):
    x, y, gradient = draw((1, 1, 9, 33), backend, 0, 3)
    mask = draw_mask(x.shape, backend, 0, "random")
    gradient[~mask] = float("nan")
    x[0, 0, 0, 0] = float("nan")
    mask[0, 0, 0, 0] = False
    before = x.clone()
    tv.restore_step_(x, y, gradient, mask, scalars([0.1], backend), scalars([1.0], backend), isotropic=isotropic)
    bits = torch.int64 if backend.dtype == torch.float64 else torch.int32
    assert torch.equal(x.view(bits)[~mask], before.view(bits)[~mask])


@pytest.mark.parametrize(("isotropic", "depth_weight"), VARIANTS)
def test_nan_in_the_mask_is_not_hidden(backend, isotropic, depth_weight):
    v, y, gradient = draw((1, 2, 12, 35), backend, 0, 3)
    mask = draw_mask(v.shape, backend, 0, "all")
    gradient[0, 1, 5, 5] = float("nan")
    one = scalars([1.0], backend)
    stepped = tv.restore_step_(v.clone(), y, gradient, mask, one, one, clip=2.0)
    assert stepped.isnan().nonzero().tolist() == [[0, 1, 5, 5]]
    v[0, 1, 5, 5] = float("nan")
    dual = tv.dual_like(v, depth_weight)
    out = tv.tv_prox_(v, mask, one, dual, iterations=3, depth_weight=depth_weight, isotropic=isotropic)
    assert out[0, 1, 5, 5].isnan()


# ---- Registration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given_out", [False, True])
def test_opcheck(device, given_out):
    generator = torch.Generator().manual_seed(0)
    x, y, gradient = (torch.randn(2, 3, 5, 6, generator=generator).to(device) for _ in range(3))
    mask, one = torch.ones_like(x, dtype=torch.bool), torch.ones(1, device=device)
    ops, out = torch.ops.lesioncore, torch.empty_like(x)
    torch.library.opcheck(ops.tv_gradient.default, (x, y, 0.5, True, 1e-3, out))
    torch.library.opcheck(ops.tv_value.default, (x, y, 0.5, False, 1e-3, x.new_empty(2)))
    step = (x, y, gradient, mask, one, one, out if given_out else None, 5.0, 0.5, False, 1e-3)
    torch.library.opcheck(ops.restore_step_.default, step)
    torch.library.opcheck(ops.tv_prox_.default, (x, mask, one, tv.dual_like(x, 0.5), out, 0.5, False, 3))


def test_sources_without_the_compiled_part_say_so(tmp_path):
    """As where Python runs in a checkout whose package is installed elsewhere."""
    source = Path(library.__file__).parents[1]
    shutil.copytree(source, tmp_path / "lesioncore", ignore=shutil.ignore_patterns("*.so", "embedded", "__pycache__"))
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import lesioncore; lesioncore.restore"
    # -S: no site-packages, whose editable installs would find the compiled part; torch comes by its path.
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, env={"PYTHONPATH": paths})
    assert done.returncode == 1
    assert "lesioncore's compiled part is not beside its sources" in done.stderr.splitlines()[-1]
