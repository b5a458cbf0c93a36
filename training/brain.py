"""Train the network of brain extraction: ``python -m lesioncore.training.brain IXI_FOLDER -o weights.safetensors``.

The folder is a BIDS one with T1w heads and, under ``derivatives/muse``, closed brain masks and MUSE region numbers
(from MUSE itself or a network that imitates it, such as NiChart's DLMUSE). Every tenth person is held out.
"""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from safetensors.torch import load_file, save_file
from torch import Tensor

from lesioncore.data.files import replace_atomically
from lesioncore.data.nifti import load_image
from lesioncore.data.orientation import Orientation
from lesioncore.preprocess.brain_network import BrainNetwork, normalize
from lesioncore.training.head_scans import Draws, draw_anatomy, draw_scan
from lesioncore.training.heads import VOXEL_SIZE, Head, make_head

SHAPES = ((80, 96, 80), (80, 96, 80), (80, 96, 80), (96, 112, 96), (80, 112, 96), (80, 112, 112))
"""Fields of view of the training scans, in voxels; each is turned at random among the axes."""
_FRESH = 0.4
_POOL = 24


@dataclass(frozen=True)
class BrainTraining:
    """Train the network of brain extraction.

    Parameters
    ----------
    folder : Path
        BIDS folder of T1w heads of 2 mm with ``derivatives/muse``.
    output : Path
        The weights, safetensors, float16; replaced every `save_every` steps.
    steps : int
        Steps of one scan each.
    minutes : float, optional
        Wall-clock time after which the training ends if it has not yet; the learning rate falls with whichever of the
        two is nearer its end. With it, two runs differ.
    learning_rate : float
        Adam's, at its highest; it ends at 0.
    average : float
        Decay of the moving average of the weights, which is what is written.
    save_every : int
        Steps between two validations, after which the weights are written.
    seed : int
        Of everything random.
    cache : Path, optional
        Folder that keeps the prepared heads, for another run.
    start : Path, optional
        Weights to go on from.
    """

    folder: Annotated[Path, tyro.conf.Positional]
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    steps: int = 4000
    minutes: float | None = None
    learning_rate: float = 2e-3
    average: float = 0.995
    save_every: int = 250
    seed: int = 0
    cache: Path | None = None
    start: Path | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected at least 1")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate: got {self.learning_rate}, expected more than 0")
        if not 0 <= self.average < 1:
            raise ValueError(f"average: got {self.average}, expected 0 <= average < 1")


def load_heads(folder: Path, cache: Path | None = None) -> dict[str, Head]:
    """Read and take apart the heads of a BIDS folder, by person.

    Parameters
    ----------
    folder : Path
        With ``sub-*/anat/*_T1w.nii.gz`` and ``derivatives/muse/sub-*/anat/*_desc-brain_mask.nii.gz`` and
        ``*_desc-muse_dseg.nii.gz`` on the same grid.
    cache : Path, optional
        Where prepared heads are kept, one file for each person.

    Raises
    ------
    ValueError
        If there are no such people, or a scan is not of 2 mm.
    """
    heads = {}
    for scan in sorted(folder.glob("sub-*/anat/*_T1w.nii.gz")):
        person = scan.name.split("_")[0]
        kept = None if cache is None else cache / f"{person}.safetensors"
        if kept is not None and kept.exists():
            heads[person] = Head(**load_file(kept))
            continue
        labels = folder / "derivatives" / "muse" / person / "anat"
        files = [labels / f"{person}_desc-{kind}.nii.gz" for kind in ("brain_mask", "muse_dseg")]
        if not all(file.exists() for file in files):
            continue
        t1, mask, regions = (_read(file) for file in (scan, *files))
        heads[person] = make_head(t1, mask > 0, np.rint(regions).astype(np.int32))
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            with replace_atomically(kept) as temporary:
                save_file(heads[person].to_dict(), temporary)
    if not heads:
        raise ValueError(f"folder: {folder} has no T1w heads with masks and regions under derivatives/muse")
    return heads


def split(people: list[str]) -> tuple[list[str], list[str]]:
    """People to train on and, every tenth, people held out."""
    return [p for k, p in enumerate(people) if k % 10 != 9], people[9::10]


def segmentation_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy plus one minus soft Dice, mean over brain and core."""
    logits = logits.float()
    share = logits.sigmoid()
    overlap = (share * labels).sum((2, 3, 4))
    dice = (2 * overlap + 1) / (share.sum((2, 3, 4)) + labels.sum((2, 3, 4)) + 1)
    return F.binary_cross_entropy_with_logits(logits, labels) + (1 - dice).mean()


def train(options: BrainTraining) -> BrainNetwork:
    """Train, validate and write the network; a line for each validation goes to stderr.

    Raises
    ------
    FloatingPointError
        If the loss is no longer a number. The weights on disk are then those of the last validation.
    """
    torch.manual_seed(options.seed)
    heads = load_heads(options.folder, options.cache)
    learning, held_out = split(list(heads))
    network = BrainNetwork()
    if options.start is not None:
        network.load_state_dict({name: value.float() for name, value in load_file(options.start).items()})
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload] # twice as fast in bfloat16
    mean = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(options.average)
    )
    averaged = mean.module
    assert isinstance(averaged, BrainNetwork)
    optimizer = torch.optim.AdamW(network.parameters(), lr=options.learning_rate, weight_decay=1e-4)
    pool: list[Tensor] = []
    losses, began = [], time.time()
    for step in range(options.steps):
        done = (step + 1) / options.steps
        if options.minutes is not None:
            done = max(done, (time.time() - began) / (60 * options.minutes))
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * _rate(step, done)
        draws = Draws(options.seed * 10_000_000 + step)
        # Placing a head takes as long as learning from it, so each is used more than once, differently acquired.
        if len(pool) < 2 or draws.chance(_FRESH):
            head = heads[learning[draws.integer(0, len(learning))]]
            pool = [*pool, draw_anatomy(head, _shape(draws), draws)][-_POOL:]
            anatomy = pool[-1]
        else:
            anatomy = pool[draws.integer(0, len(pool))]
        scan, labels = draw_scan(anatomy, draws)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(normalize(scan)[None])
        loss = segmentation_loss(logits, labels[None])
        if not loss.isfinite():
            raise FloatingPointError(
                f"loss: got {float(loss.detach())} at step {step + 1}, expected a finite number; "
                "lower learning_rate, or start from the weights that were written last"
            )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        mean.update_parameters(network)
        losses.append(float(loss.detach()))
        if (step + 1) % options.save_every == 0 or done >= 1:
            figures = validate(averaged, [heads[person] for person in held_out[::3]])
            _save(averaged, options.output)
            line = {"step": step + 1, "loss": float(np.mean(losses)), "seconds": time.time() - began, **figures}
            print(json.dumps({name: round(value, 4) for name, value in line.items()}), file=sys.stderr, flush=True)
            losses = []
        if done >= 1:
            break
    offsets = balance(averaged, [heads[person] for person in learning[::12]])
    _save(averaged, options.output)
    record = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items()}
    print(
        json.dumps({"learning": len(learning), "held_out": held_out, "offsets": offsets, "options": record}), flush=True
    )
    return averaged


@torch.no_grad()
def validate(network: BrainNetwork, heads: list[Head], seed: int = 1) -> dict[str, float]:
    """Mean Dice of brain and core: the real T1w scans upright, and one random scan of each person."""
    dice: dict[str, list[Tensor]] = {"upright": [], "random": []}
    shape = SHAPES[3]
    for number, head in enumerate(heads):
        drawn = draw_scan(draw_anatomy(head, shape, Draws(seed + number)), Draws(seed + number))
        labels = torch.stack([head.brain, head.core]).float()
        padded = [-length % network.multiple for length in head.t1.shape]
        margins = [side for missing in reversed(padded) for side in (0, missing)]
        upright = F.pad(normalize(head.t1.float()), margins)[None], F.pad(labels, margins)
        for kind, (scan, truth) in (("upright", upright), ("random", (normalize(drawn[0]), drawn[1]))):
            with torch.autocast("cpu", torch.bfloat16):
                mask = network(scan[None])[0] > 0
            overlap = (mask * truth).sum((1, 2, 3))
            dice[kind].append((2 * overlap + 1) / (mask.sum((1, 2, 3)) + truth.sum((1, 2, 3)) + 1))
    return {
        f"{kind}_{part}": float(value)
        for kind, values in dice.items()
        for part, value in zip(("brain", "core"), torch.stack(values).mean(0), strict=True)
    }


@torch.no_grad()
def balance(network: BrainNetwork, heads: list[Head]) -> tuple[float, float]:
    """Move the logits of brain and core so that the Dice overlap at a probability of one half is highest.

    The losses' optimum on hard scans is too cautious; measured on three random scans of each head.

    Returns
    -------
    tuple of float
        What was added to the two logits.
    """
    offsets = torch.linspace(-1, 3, 17)
    dice = torch.zeros(2, len(offsets))
    for number, head in enumerate(heads):
        for turn in range(3):
            draws = Draws(3 * number + turn)
            scan, labels = draw_scan(draw_anatomy(head, SHAPES[0], draws), draws)
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(normalize(scan)[None])[0].float()
            for k, offset in enumerate(offsets):
                mask = logits + offset > 0
                overlap = 2 * (mask * labels).sum((1, 2, 3)) + 1
                dice[:, k] += overlap / (mask.sum((1, 2, 3)) + labels.sum((1, 2, 3)) + 1)
    best = offsets[dice.argmax(1)]
    bias = network.last[-1].bias
    assert isinstance(bias, Tensor)
    bias += best.to(bias)
    return float(best[0]), float(best[1])


def _shape(draws: Draws) -> tuple[int, int, int]:
    shape = SHAPES[draws.integer(0, len(SHAPES))]
    order = torch.randperm(3, generator=draws.generator).tolist() if draws.chance(0.2) else [0, 1, 2]
    return shape[order[0]], shape[order[1]], shape[order[2]]


def _rate(step: int, done: float) -> float:
    """Linear warm-up over 100 steps, then a cosine to 0 with the part that is done."""
    return min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _read(path: Path) -> np.ndarray:
    image = load_image(path)
    orientation = Orientation.from_affine(image.affine, image.shape)
    if max(abs(size - VOXEL_SIZE) for size in orientation.voxel_size) > 0.01 * VOXEL_SIZE:
        raise ValueError(
            f"{path}: got voxels of {orientation.voxel_size} mm, expected {VOXEL_SIZE:g}; resample it first"
        )
    return orientation.to_ras(image.get_fdata(dtype=np.float32))


def _save(network: BrainNetwork, path: Path) -> None:
    weights = {name: value.detach().half().contiguous() for name, value in network.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_atomically(path) as temporary:
        save_file(weights, temporary)


def main() -> None:
    """Command line."""
    train(tyro.cli(BrainTraining, description=__doc__))


if __name__ == "__main__":
    main()
