"""Training throughput at the paper's full size (200 x 200, six blocks of 16 to 512 filters), slices per second.

    python bench/training_speed.py                          # CPU, some minutes
    python bench/training_speed.py --device cuda --batch-size 64 --updates 100

Random slices: what is learnt does not matter here. Configurations take turns, each in a few rounds.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch
from _bench import RESULTS, environment, write_json

from lesioncore.training import TensorSlices, TrainingConfig, fit
from lesioncore.training.recipes import GMVAERecipe, MultiscaleVAERecipe, VAERecipe

RECIPES = {"vae": VAERecipe(), "gmvae, c = 9": GMVAERecipe(), "multiscale-vae": MultiscaleVAERecipe()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--updates", type=int, default=5, help="in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
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
    write_json(options.out / f"training_speed_{torch.device(options.device).type}.json", found)


if __name__ == "__main__":
    main()
