"""Generator of the pages on the results: docs/benchmarks, blocks of README, and the index of the benchmarks.

    python bench/pages.py            # write them
    python bench/pages.py --check    # write nothing; say what is out of date, and fail if anything is

A page is a template in ``bench/templates``, filled with the figures and tables of the sections in ``bench/tables``,
which read ``bench/results``. In README what stands between ``<!-- benchmarks: speed -->`` (or ``quality``) and the next
``<!-- end -->`` is replaced.
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path

from common.results import ROOT
from tables import quality, readme, real, speed

BENCH, DOCS = ROOT / "bench", ROOT / "docs" / "benchmarks"
PAGES = {"speed": speed.SECTIONS, "quality": quality.SECTIONS, "real": real.SECTIONS}
INDEX = """# Benchmarks

Each script says with `--help` what it measures and how. Results and what follows from them:
[speed](../docs/benchmarks/speed.md), [simulated patients](../docs/benchmarks/quality.md),
[real scans](../docs/benchmarks/real.md), [questions that are answered](../docs/benchmarks/answered.md).
`bench/gpu_check.sh` builds, tests and measures on a machine with a CUDA device. `python bench/pages.py` writes this
page and those on speed, simulated patients and real scans.
"""
FOLDERS = {
    "speed": "Speed",
    "quality": "Detection and preprocessing",
    "robustness": "Nothing lost",
    "cluster": "Clusters",
    ".": "In this folder",
}
END = "<!-- end -->"


def page(name: str) -> str:
    template = (BENCH / "templates" / f"{name}.md").read_text()
    return template.format(**{section.__name__: section() for section in PAGES[name]})


def index() -> str:
    """Each benchmark by the first line of its docstring."""
    text = INDEX
    for folder, title in FOLDERS.items():
        text += f"\n## {title}\n\n| script | |\n|---|---|\n"
        for path in sorted((BENCH / folder).glob("*.py")):
            summary = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0].replace("``", "`")
            text += f"| `{path.relative_to(ROOT)}` | {summary} |\n"
    return text


def filled(text: str) -> str:
    """README with its blocks as the results have them."""
    for name, block in readme.BLOCKS.items():
        begin = f"<!-- benchmarks: {name} -->"
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(END)
        if not (found and ended):
            raise ValueError(f"README.md: no line {begin!r} with {END!r} behind it; put both where the block is to be")
        text = f"{before}{begin}\n\n{block()}\n\n{END}{after}"
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is out of date")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="the README whose blocks are filled")
    options = parser.parse_args()
    texts = {DOCS / f"{name}.md": page(name) for name in PAGES} | {BENCH / "README.md": index()}
    problems = []
    try:
        texts[options.readme] = filled(options.readme.read_text())
    except ValueError as error:
        problems.append(str(error))
    old = [path for path, text in texts.items() if not path.exists() or path.read_text() != text]
    # Versions of matplotlib draw differently, so a chart is judged by its figures in words.
    if not readme.CHART.exists() or readme.chart_in_words() not in readme.CHART.read_text():
        old.append(readme.CHART)
    for path in old:
        if options.check:
            problems.append(f"{path}: out of date; run python bench/pages.py")
        elif path == readme.CHART:
            readme.draw_chart()
        else:
            path.write_text(texts[path])
    for problem in problems:
        print(problem, file=sys.stderr)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
