"""Write README's section "Measured" and bench/results/README.md from the results: ``python bench/readme.py``."""

from __future__ import annotations

from collections.abc import Callable

from _bench import RESULTS, ROOT
from _sections_detection import (
    changes,
    demos,
    postprocessing,
    precision,
    quality,
    real_input,
    resolution,
    scores,
    weights,
)
from _sections_models import longer, models, recipes, solvers, table_3
from _sections_real import real
from _sections_robustness import robustness
from _sections_speed import (
    limits,
    limits_on_gpu,
    maps_on_gpu,
    operators,
    restoring,
    restoring_on_gpu,
    scaling,
    training_speed,
)

BEGIN, END = "<!-- measured: python bench/readme.py writes this -->", "<!-- end of measured -->"
MAIN = (quality, real, restoring, restoring_on_gpu, demos)
REST = (
    models,
    longer,
    table_3,
    scores,
    robustness,
    weights,
    changes,
    resolution,
    recipes,
    solvers,
    postprocessing,
    precision,
    real_input,
    operators,
    maps_on_gpu,
    limits,
    limits_on_gpu,
    scaling,
    training_speed,
)
MORE = "More, with the paper's tables laid beside: [bench/results](bench/results/README.md)."
INTRODUCTION = """# Results

What README leaves out, from the JSON files in this folder. `python bench/readme.py` writes this page."""


def markdown(sections: tuple[Callable[[], list[str]], ...]) -> str:
    return "\n\n".join("\n".join(section()) for section in sections)


def main() -> None:
    path = ROOT / "README.md"
    before, rest = path.read_text().split(BEGIN)
    after = rest.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n\n{markdown(MAIN)}\n\n{MORE}\n\n{END}{after}")
    (RESULTS / "README.md").write_text(f"{INTRODUCTION}\n\n{markdown(REST)}\n")


if __name__ == "__main__":
    main()
