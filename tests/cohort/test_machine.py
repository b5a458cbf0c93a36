"""CPU cores and memory of control groups, version 1 and 2, of containers and of Slurm's jobs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lesioncore.cohort import machine


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Write a system's files, given by their paths."""

    def write(**contents: str) -> None:
        for name, text in contents.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    write(**{"proc/meminfo": "MemTotal: 64000000 kB\nMemAvailable: 40000000 kB\n"})
    return write


def test_without_control_groups_the_machine_counts(system):
    assert machine.cpu_cores() == 16
    assert machine.memory() == 40_000_000 * 1024


def test_version_2_counts_the_tightest_group_above(system):
    job = "sys/fs/cgroup/system.slice/job_7"
    system(
        **{
            "proc/self/cgroup": "0::/system.slice/job_7/step_0\n",
            f"{job}/step_0/cpu.max": "max 100000\n",
            f"{job}/cpu.max": "250000 100000\n",
            "sys/fs/cgroup/system.slice/cpu.max": "800000 100000\n",
            f"{job}/memory.max": "8000000000\n",
            f"{job}/memory.current": "3000000000\n",
            f"{job}/memory.stat": "anon 1\ninactive_file 1000000000\n",
            f"{job}/step_0/memory.max": "max\n",
            f"{job}/step_0/memory.current": "3000000000\n",
        }
    )
    assert machine.cpu_cores() == 3  # 2.5, rounded up
    assert machine.memory() == 6_000_000_000


def test_version_1_in_a_container_whose_path_is_outside(system):
    system(
        **{
            "proc/self/cgroup": "5:cpu,cpuacct:/docker/ab12\n4:memory:/docker/ab12\n0::/\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "150000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000000000\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1500000000\n",
            "sys/fs/cgroup/memory/memory.stat": "inactive_file 100\ntotal_inactive_file 300000000\n",
        }
    )
    assert machine.cpu_cores() == 2
    assert machine.memory() == 800_000_000


def test_version_1_without_limits(system):
    system(
        **{
            "proc/self/cgroup": "5:cpu:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        }
    )
    assert machine.cpu_cores() == 16


@pytest.mark.parametrize(("cores", "gigabytes", "scans"), [(16, 40, 4), (2, 40, 2), (16, 8, 2), (16, 1, 1), (1, 40, 1)])
def test_scans_at_once_fit_cores_and_memory(cores, gigabytes, scans):
    assert machine.scans_at_once(cores, gigabytes * 1e9) == scans


def test_libraries_start_no_more_threads_than_the_quota(tmp_path):
    for name, text in {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/cpu.max": "100000 100000\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    script = """
import os, sys
from pathlib import Path
from lesioncore.cohort import machine
machine.ROOT = Path(sys.argv[1])
os.sched_getaffinity = lambda pid: {0, 1}
machine.keep_to_quota()
import torch
print(torch.get_num_threads(), os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"])
"""

    def threads(**variables: str) -> str:
        environment = {name: value for name, value in os.environ.items() if name not in machine.THREADS}
        command = [sys.executable, "-c", script, str(tmp_path)]
        done = subprocess.run(
            command, env={**environment, **variables}, capture_output=True, text=True, check=True, cwd=Path.cwd()
        )
        return done.stdout.strip()

    assert threads() == "1 1"
    assert threads(OMP_NUM_THREADS="2") == "2 1"
