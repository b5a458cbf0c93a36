"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest
import torch
from support.backends import EMULATED, Backend
from support.emulated import operators

from lesioncore.ops import library

pytest_plugins = ["support.evaluations"]

hypothesis.settings.register_profile("lesioncore", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.register_profile("sanitizers", parent=hypothesis.settings.get_profile("lesioncore"), max_examples=8)
hypothesis.settings.load_profile("lesioncore")


def _on_cuda(value: object) -> object:
    return pytest.param(value, marks=pytest.mark.needs_cuda, id="cuda")


@pytest.fixture(scope="session", params=["cpu", _on_cuda("cuda")])
def device(request: pytest.FixtureRequest) -> str:
    """Each device the operators run on."""
    return request.param


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(Backend("cpu", torch.float32), id="cpu-float32"),
        pytest.param(Backend("cpu", torch.float64), id="cpu-float64"),
        EMULATED,
        _on_cuda(Backend("cuda", torch.float32)),
    ],
)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each device and element type the operators exist for."""
    return request.param


@pytest.fixture
def keep_threads():
    """Restore torch's number of threads after a test that changes it."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Run what is given an emulated backend with the emulated operators."""
    callspec = getattr(item, "callspec", None)
    values = [] if callspec is None else callspec.params.values()
    if any(isinstance(value, Backend) and value.emulated for value in values):
        with operators():
            yield
    else:
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the file that takes longest, so that no process is left alone with it in the end."""
    items.sort(key=lambda item: item.path.name != "test_rendered.py")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("needs_cuda") is None:
        return
    if torch.cuda.is_available() and library.cuda_loaded:
        return
    reason = library.cuda_reason or "no CUDA device is visible to torch"
    if os.environ.get("LESIONCORE_REQUIRE_CUDA") == "1":
        pytest.fail(f"LESIONCORE_REQUIRE_CUDA=1, but {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def reports(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands write no reports, which take most of a small scan's time, but for tests that are marked for them."""
    if request.node.get_closest_marker("reports") is None:
        # The second one imports the name from the first, and must find it as it is.
        for module in ("lesioncore.bids_app.participant", "lesioncore.cli.restore"):
            monkeypatch.setattr(f"{module}.can_report", lambda output: False)
