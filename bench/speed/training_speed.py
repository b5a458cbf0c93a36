"""Training throughput at the paper's full size (200 x 200, six blocks of 16 to 512 filters), slices per second.

    python bench/speed/training_speed.py                          # CPU, some minutes
    python bench/speed/training_speed.py --device cuda --batch-size 64 --updates 100

Random slices: what is learnt does not matter here. Configurations take turns, each in a few rounds.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for bench/common
from common.machine import environment
from common.options import parser
from common.results import write_json

from lesioncore.training import TensorSlices, TrainingConfig, fit
from lesioncore.training.recipes import GMVAERecipe, MultiscaleVAERecipe, VAERecipe

RECIPES = {"vae": VAERecipe(), "gmvae, c = 9": GMVAERecipe(), "multiscale-vae": MultiscaleVAERecipe()}


def main() -> None:
    arguments = parser(__doc__, writes="training_speed_DEVICE.json", device="cpu")
    arguments.add_argument("--batch-size", type=int, default=16)
    arguments.add_argument("--updates", type=int, default=5, help="in each round")
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    generator = torch.Generator().manual_seed(0)
    data = TensorSlices(torch.randn(4 * options.batch_size, 1, 200, 200, generator=generator))
    rates: dict[str, list[float]] = {}
    for _ in range(options.rounds + 1):  # the first is a warm-up
        for name, recipe in RECIPES.items():
            for precision in ("float32", "bfloat16"):
                for channels_last in (True, False):
                    learner = recipe.build(0).to(options.device)
                    config = TrainingConfig(
                        slices_seen=options.updates * options.batch_size,
                        batch_size=options.batch_size,
                        precision=precision,
                        channels_last=channels_last,
                    )
                    layout = "channels last" if channels_last else "channels first"
                    rates.setdefault(f"{name}, {precision}, {layout}", []).append(
                        fit(learner, data, config=config).slices_per_second
                    )
    rows = {
        name: {"median": round(statistics.median(r[1:]), 2), "low": round(min(r[1:]), 2), "high": round(max(r[1:]), 2)}
        for name, r in rates.items()
    }
    for name, row in rows.items():
        print(f"{name:40s} {row['median']:8.2f} slices/s [{row['low']:.2f}, {row['high']:.2f}]")
    found = {
        **environment(options.device),
        "batch_size": options.batch_size,
        "updates": options.updates,
        "rounds": options.rounds,
        "slices_per_second": rows,
    }
    write_json(options.out / f"training_speed_{options.device}.json", found)


if __name__ == "__main__":
    main()
