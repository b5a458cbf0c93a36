"""One process of test_distributed.py's runs, started by torchrun: trains, and the first process saves the weights."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from support.models import ellipses

from lesioncore import VAE, VAEConfig
from lesioncore.training import TensorSlices, TrainingConfig, fit
from lesioncore.training.augment import Augmentation
from lesioncore.training.distributed import process_group
from lesioncore.training.elbo import ElboLearner

CONFIG = TrainingConfig(
    slices_seen=320, batch_size=16, validate_every=64, checkpoint_every=128, augmentation=Augmentation(rotation=5.0)
)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    learner = ElboLearner(VAE(VAEConfig((20, 18), (4, 6), 3)))
    with process_group("cpu") as group:
        outcome = fit(
            learner,
            TensorSlices(ellipses(64)),
            TensorSlices(ellipses(33, seed=1)),
            CONFIG,
            directory=folder,
            resume=True,
            group=group,
        )
        if group.first:
            state = {key: value.contiguous() for key, value in learner.state_dict().items()}
            save_file(state, folder / "weights.safetensors", metadata={"loss": repr(outcome.best_loss)})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
