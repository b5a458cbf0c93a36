"""What this process may use of its machine: CPU cores and memory, as far as a control group or a scheduler limits them.

Containers, Slurm and systemd limit a process by its control group (cgroup). Neither version 1 nor 2 is seen by
``os.cpu_count`` or by libraries that start a thread for each core: with a quota of two cores on a machine of 64 they
start 64 threads, which take turns and are slower than two.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

MEMORY_PER_SCAN = 3.4e9
"""Bytes that a scan of 40 million voxels, a head at .67 mm, takes while it is in work (docs/how-to/cluster.md)."""

MEMORY_OF_PROCESS = 0.9e9
"""Bytes that a process takes beside its scans: libraries and priors."""

MOST_SCANS = 4
"""Scans in work at the same time in one process that are worth their memory."""

ROOT = Path("/")
"""Where the system's folders ``proc`` and ``sys`` are."""

THREADS = ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")


def cpu_cores() -> int:
    """CPU cores that this process may use: its affinity, and its control group's quota where that is less."""
    return max(1, math.ceil(min(len(os.sched_getaffinity(0)), _cpu_quota())))


def memory() -> float:
    """Bytes of memory that are free for this process: of the machine, and of its control groups where that is less."""
    return max(0.0, min([_free_on_machine(), *_free_in_groups()]))


def scans_at_once(cores: int, free: float) -> int:
    """Scans that a process of so many cores and so much memory (bytes) has in work at the same time, at least one."""
    return max(1, min(MOST_SCANS, cores, int((free - MEMORY_OF_PROCESS) // MEMORY_PER_SCAN)))


def keep_to_quota() -> None:
    """Have libraries that are imported later start no more threads than the control group's quota has cores.

    Variables that are set already stay, and without a quota nothing is set. Torch, once imported, is left alone.
    """
    quota = _cpu_quota()
    if "torch" not in sys.modules and quota < len(os.sched_getaffinity(0)):
        for name in THREADS:
            os.environ.setdefault(name, str(max(1, math.ceil(quota))))


def _cpu_quota() -> float:
    """Cores of the tightest CPU quota above this process; infinite without one."""
    quotas = [math.inf]
    for folder in _groups("cpu"):
        words = _read(folder / "cpu.max").split()
        words = words or [_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")]
        quota, period = map(_number, words)
        if 0 < quota < math.inf:  # -1 is none
            quotas.append(quota / period)
    return min(quotas)


def _free_in_groups() -> list[float]:
    """What each memory limit above this process leaves, bytes; the file cache, which gives way, counts as free."""
    free = []
    for folder in _groups("memory"):
        limit = _number(_read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes"))
        used = _number(_read(folder / "memory.current") or _read(folder / "memory.usage_in_bytes"))
        cache = [line.split()[1] for line in _read(folder / "memory.stat").splitlines() if "inactive_file" in line]
        if limit < math.inf and used < math.inf:
            free.append(limit - used + max(map(_number, cache), default=0.0))
    return free


def _free_on_machine() -> float:
    for line in (ROOT / "proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return 1024.0 * float(line.split()[1])
    return math.inf


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # a group without this limit, or one that is not to be read
        return ""


def _number(text: str) -> float:
    """A number in a file of a control group; infinite for ``max`` and where there is none."""
    try:
        return float(text)
    except ValueError:
        return math.inf


def _groups(controller: str) -> Iterator[Path]:
    """The folders of this process's control group of a controller and of the groups above it, version 1 and 2.

    A container sees its own group as the topmost one, so that a path may not exist there: the topmost is always given.
    """
    try:
        lines = (ROOT / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mounts = [f"sys/fs/cgroup/{controllers}", f"sys/fs/cgroup/{controller}"] if controllers else ["sys/fs/cgroup"]
        top = next((ROOT / mount for mount in mounts if (ROOT / mount).is_dir()), None)
        if top is None:
            continue
        group = top / path.lstrip("/")
        while group != top:
            if group.is_dir():
                yield group
            group = group.parent
        yield top
