"""Two processes that share every batch train the same model as one process does."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from lesioncore.training.distributed import ProcessGroup

TESTS = Path(__file__).parents[1]


def run(folder: Path, processes: int) -> tuple[dict[str, torch.Tensor], float]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, str(TESTS / "support" / "ddp_run.py"), str(folder)]
    if processes > 1:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = launcher + command[1:]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    with safe_open(folder / "weights.safetensors", framework="pt") as file:
        loss = float(file.metadata()["loss"])
    return load_file(folder / "weights.safetensors"), loss


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed package")
def test_two_processes_train_as_one(tmp_path):
    alone, loss_alone = run(tmp_path / "one", 1)
    shared, loss_shared = run(tmp_path / "two", 2)
    assert alone.keys() == shared.keys()
    for key, value in alone.items():
        # Adam divides by the gradient's size, which lets rounding grow over the 20 updates.
        torch.testing.assert_close(shared[key].double(), value.double(), rtol=2e-3, atol=2e-4, msg=key)
    assert loss_shared == pytest.approx(loss_alone, rel=1e-4)
    metrics = [(tmp_path / name / "metrics.csv").read_text().splitlines() for name in ("one", "two")]
    assert len(metrics[0]) == len(metrics[1]) == 21
    # The same files, taken up by another number of processes.
    again, _ = run(tmp_path / "two", 1)
    assert all(torch.equal(again[key], shared[key]) for key in shared)


def test_shares_are_whole_and_apart():
    for size in (1, 2, 3, 4):
        groups = [ProcessGroup(torch.device("cpu"), rank, size) for rank in range(size)]
        for count in (0, 1, 7, 12):
            parts = [list(range(count))[group.share(count)] for group in groups]
            assert list(chain(*parts)) == list(range(count))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
