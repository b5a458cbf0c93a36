"""Generator of docs/bad-input.md, the table of what comes of wrong inputs, from the rows that the tests here check.

python tests/bad_input/page.py            # write it
python tests/bad_input/page.py --check    # write nothing, and fail if it is out of date
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
COMMANDS = HERE.parent / "cli"
OF_COMMANDS = ("test_cli_resume.py", "test_killed_runs.py")
"""Further modules with rows."""

PAGE = HERE.parents[1] / "docs" / "bad-input.md"
HEAD = """# What happens with a wrong input

`python tests/bad_input/page.py` writes this page from the rows that the tests check: {kinds} kinds of input, of which
{refused} are refused, {warned} are taken with a warning, and {taken} are taken as they are meant. A command says the
words on stderr, as an error or a warning, and Python raises or warns with them; dots stand for what varies.
An input that is refused leaves no result.

A stray voxel far outside the head is not noticed: see [Limits](limits.md#of-stray-voxels).
"""


def page() -> str:
    """The page's text."""
    for folder in (HERE, COMMANDS, HERE.parent):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    for path in (*sorted(HERE.glob("test_*.py")), *(COMMANDS / name for name in OF_COMMANDS)):
        if path.name != "test_page_of_bad_input.py":
            import_module(path.stem)
    from support.bad_input import REFUSED, TABLE, TAKEN, WARNED

    of = {
        outcome: sum(line.kinds for lines in TABLE.values() for line in lines.values() if line.outcome == outcome)
        for outcome in (REFUSED, WARNED, TAKEN)
    }
    text = HEAD.format(kinds=sum(of.values()), refused=of[REFUSED], warned=of[WARNED], taken=of[TAKEN])
    for title, lines in sorted(TABLE.items()):
        lines = {name: line._replace(words=tuple(map(_place, line.words))) for name, line in lines.items()}
        shared = set.intersection(*(set(line.words) for line in lines.values())) if len(lines) > 1 else set()
        text += f"\n## {title}\n\n"
        if shared:
            text += f"All say {_code(sorted(shared))}.\n\n"
        text += "| input | outcome | words |\n|---|---|---|\n"
        for line in sorted(lines.values(), key=_natural):
            name = line.name if line.kinds == 1 else f"{line.name} ({line.kinds} kinds)"
            words = _code(word for word in line.words if word not in shared)
            text += f"| {name} | {line.outcome} | {words} |\n".replace("|  |", "| |")
    return text


def _natural(line: Any) -> list[tuple[int, str]]:
    """A key by which lines are in the order of their names, numbers in theirs: whatever module was imported first."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"([0-9]+)", line.name)]


def _place(word: str) -> str:
    """The words without the file that the row's name tells."""
    return re.sub(r"^prior/[a-z.]+:\s*$", "", word)


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word.strip()}`" for word in words if word).replace("|", "\\|")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is out of date")
    options = parser.parse_args()
    text = page()
    if not options.check:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        print(f"{PAGE}: out of date; run python tests/bad_input/page.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
