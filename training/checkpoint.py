"""State of a run as one safetensors file: weights, optimisers, and where it stood. No pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lesioncore.data.files import replace_atomically
from lesioncore.data.json_form import check_form


@dataclass
class Progress:
    """Progress of a run.

    Attributes
    ----------
    update : int
        Updates done.
    best_loss : float or None
        Lowest validation loss so far, and the update after which it was found.
    best_update : int
        See `best_loss`.
    stale : int
        Validations since then.
    seconds : float
        Time spent so far.
    identity : str
        Hash of the configuration and the data: a run goes on with its own alone.
    """

    update: int = 0
    best_loss: float | None = None
    best_update: int = 0
    stale: int = 0
    seconds: float = 0.0
    identity: str = ""


def save_checkpoint(
    path: Path,
    learner: nn.Module,
    optimizers: Mapping[str, torch.optim.Optimizer],
    progress: Progress,
    best: Mapping[str, Tensor],
) -> None:
    """Write a checkpoint; an older one of the same name stays whole until the new one is."""
    tensors = {f"learner/{key}": value for key, value in learner.state_dict().items()}
    tensors |= {f"best/{key}": value for key, value in best.items()}
    for name, optimizer in optimizers.items():
        for index, (_, state) in enumerate(_states(optimizer)):
            tensors |= {f"optimizer/{name}/{index}/{key}": value for key, value in state.items()}
    # A copy of its own for each: safetensors refuses shared memory and other memory formats.
    plain = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
    with replace_atomically(path) as temporary:
        save_file(plain, temporary, metadata={"progress": json.dumps(asdict(progress))})


def load_checkpoint(
    path: Path, learner: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer], identity: str
) -> tuple[Progress, dict[str, Tensor]]:
    """Bring a run back to where a checkpoint left it; gives its progress and the best weights so far.

    Raises
    ------
    ValueError
        If the file is damaged, or belongs to another configuration or other data.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["progress"])
            check_form(facts, Progress, f"{path}: progress")
            progress = Progress(**facts)
            if progress.identity != identity:
                raise ValueError(
                    f"{path}: belongs to another configuration or other data; go on with the ones it was made with, or"
                    " start anew in another folder"
                )
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: is no checkpoint or damaged: {error}") from error
    learner.load_state_dict(_part(tensors, "learner/"))
    for name, optimizer in optimizers.items():
        for index, (parameter, state) in enumerate(_states(optimizer)):
            for key, value in _part(tensors, f"optimizer/{name}/{index}/").items():
                # The memory format of the parameter, as the optimiser would have made it.
                like = torch.empty_like(parameter) if value.shape == parameter.shape else torch.empty_like(value)
                state[key] = like.copy_(value)
    return progress, _part(tensors, "best/")


def _states(optimizer: torch.optim.Optimizer) -> list[tuple[nn.Parameter, dict[str, Tensor]]]:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return [(parameter, optimizer.state[parameter]) for parameter in parameters]


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
