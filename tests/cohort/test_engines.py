"""Engines: all jobs in their order, what fails fails alone, and what a lost worker had in work is done by another."""

from __future__ import annotations

import os
import subprocess
import warnings
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.jobs import Errand, Unopened

from lesioncore.cohort.engines import at_stop
from lesioncore.cohort.local import LocalEngine
from lesioncore.cohort.on_ray import RayEngine, Share

JOBS = ["plain", "warns", "fails", "fails oddly", "plain"]


def outcomes(results):
    """What each job gave: facts, or the error."""
    return [(job, outcome(result)) for job, result in results]


def outcome(result):
    """What a job gave."""
    try:
        return result()
    except Exception as error:
        return error


def sockets_of(pid: int) -> set[str]:
    """Inodes of a process's sockets."""
    with suppress(OSError):
        return {os.readlink(file).strip("socket:[]") for file in Path(f"/proc/{pid}/fd").iterdir()}
    return set()


def listening(name: str) -> set[str]:
    """Addresses on which this user's processes of a name wait for connections, as hexadecimal digits."""
    pids = subprocess.run(["pgrep", "-f", name], capture_output=True, text=True, check=False).stdout.split()
    sockets = set().union(*(sockets_of(int(pid)) for pid in pids))
    lines = [
        line.split() for kind in ("tcp", "tcp6") for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]
    ]
    return {words[1].split(":")[0] for words in lines if words[3] == "0A" and words[9] in sockets}


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def check_outcomes(found):
    """Check what JOBS give."""
    assert [job for job, _ in found] == JOBS
    assert found[0][1] == found[4][1] == {"job": "plain", "again": False}
    assert isinstance(found[2][1], ValueError)
    assert str(found[2][1]) == "got a bad scan"
    assert "odd: an error" in str(found[3][1])


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_the_local_engine_does_all_jobs_in_order(tmp_path, workers):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_outcomes(outcomes(LocalEngine(workers).run(JOBS, Errand(tmp_path / "notes"))))


@pytest.fixture
def ray_environment(monkeypatch):
    """Skip without Ray; its processes can import what tests share."""
    if find_spec("ray") is None:
        pytest.skip("ray is not installed")
    for name in ("RAY_ADDRESS", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=os.pathsep)


def test_on_ray_lost_jobs_are_done_again_and_nothing_outside_can_reach_it(tmp_path, ray_environment):
    jobs = [*JOBS, "kills its first worker", "always kills its worker", "plain"]
    results = RayEngine(cores=1, workers=1).run(jobs, Errand(tmp_path / "notes"))
    first, warning = next(results), next(results)
    addresses = listening("raylet") | listening("gcs_server") | listening("ray::Actor")
    assert addresses
    assert addresses <= LOOPBACK
    assert len(at_stop) == 1
    with pytest.warns(UserWarning, match="something is unusual"):
        warning[1]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [*outcomes([first, warning]), *outcomes(results)]
    check_outcomes(found[:5])
    assert found[5][1] == {"job": "kills its first worker", "again": True}
    assert str(found[6][1]).startswith("3 workers ended while they did it, each with 1 CPU cores, 0 GPUs and 4.3 GB")
    assert found[7][1] == {"job": "plain", "again": False}
    notes = (tmp_path / "notes").read_text().splitlines()
    assert (notes.count("kills its first worker"), notes.count("always kills its worker")) == (2, 3)
    assert not at_stop


def test_on_ray_a_prior_that_is_missing_elsewhere_ends_the_run(tmp_path, ray_environment):
    with pytest.raises(FileNotFoundError, match="--prior: is not there"):
        outcomes(RayEngine(cores=1).run(["plain"], Unopened(tmp_path / "notes")))


def test_a_cluster_that_is_not_there_is_named(tmp_path, ray_environment):
    with pytest.raises(ConnectionError, match=r"--ray-address: no cluster of Ray can be used at '127.0.0.1:1'"):
        outcomes(RayEngine("127.0.0.1:1").run(["plain"], Errand(tmp_path / "notes")))


def machine(cores: float, gpus: float = 0, gigabytes: float = 1000.0, alive: bool = True):
    """A machine as Ray describes it."""
    gpu = {"GPU": float(gpus)} if gpus else {}
    return {"Alive": alive, "Resources": {"CPU": float(cores), "memory": gigabytes * 1e9, **gpu}}


@pytest.mark.parametrize(
    ("machines", "cores", "workers", "share"),
    [
        ([machine(2)], 0, 0, Share(2, 0, 2, 1)),
        ([machine(16)], 0, 0, Share(4, 0, 4, 4)),
        ([machine(16)], 1, 0, Share(1, 0, 1, 16)),
        ([machine(16), machine(16, alive=False)], 8, 0, Share(8, 0, 4, 2)),
        ([machine(64, gpus=8)], 0, 0, Share(8, 1, 4, 8)),
        ([machine(64, gpus=8), machine(32)], 0, 2, Share(8, 1, 2, 8)),  # machines without a GPU are left out
        ([machine(64, gpus=8), machine(8, gpus=2)], 0, 0, Share(4, 1, 4, 10)),
        ([machine(16, gigabytes=30.0)], 0, 0, Share(4, 0, 4, 2)),
        ([machine(64, gpus=8, gigabytes=100.0)], 0, 0, Share(8, 1, 3, 8)),  # a GPU for each, and fewer scans
    ],
)
def test_actors_get_shares_of_machines(machines, cores, workers, share):
    assert Share.of(machines, cores, workers) == share


def test_actors_that_no_machine_has_room_for_are_refused():
    with pytest.raises(
        RuntimeError, match=r"no machine .* has 4 CPU cores, 0 GPUs .* only 2 cores, 0 GPUs, 1000\.0 GB"
    ):
        Share.of([machine(2)], 4, 0)
    with pytest.raises(RuntimeError, match="give fewer --workers"):
        Share.of([machine(4, gigabytes=3.0)], 0, 0)
    with pytest.raises(RuntimeError, match="only none"):
        Share.of([], 0, 0)
