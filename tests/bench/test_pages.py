"""The pages on the results are those that bench/pages.py makes, and every benchmark starts."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "bench"
SCRIPTS = sorted(path for folder in (".", "speed", "quality", "robustness") for path in (BENCH / folder).glob("*.py"))
HELP_OF_ALL = """
import contextlib, io, os, runpy, sys
for script in sys.argv[1:]:
    sys.path[0] = os.path.dirname(script)
    sys.argv, text = [script, "--help"], io.StringIO()
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(text):
        runpy.run_path(script, run_name="__main__")
    print(script, "options:" in text.getvalue())
"""
"""Runs the scripts' --help in one process, so that torch is loaded once."""

pytestmark = pytest.mark.skipif(not (BENCH / "results").exists(), reason="a source distribution has no results")


def pages(*options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH / "pages.py"), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def readme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A README with empty blocks, which is then filled."""
    path = tmp_path_factory.mktemp("readme") / "README.md"
    path.write_text("# A\n<!-- benchmarks: speed -->\n<!-- end -->\nB\n<!-- benchmarks: quality -->\n<!-- end -->\nC\n")
    assert "out of date" in pages("--check", "--readme", path).stderr
    return path


def test_pages_are_up_to_date(readme: Path) -> None:
    found = pages("--check", "--readme", readme).stderr.splitlines()
    assert [line for line in found if str(readme) not in line] == []


def test_readme_is_filled_between_its_markers(readme: Path) -> None:
    done = pages("--readme", readme)
    assert (done.returncode, done.stderr) == (0, "")
    text = readme.read_text()
    places = [text.index(part) for part in ("# A\n", "speed.svg", "\nB\n", "| simulated gliomas, T2w |", "\nC\n")]
    assert places == sorted(places)
    assert pages("--check", "--readme", readme).returncode == 0


def test_missing_markers_are_named(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# A\n<!-- benchmarks: speed -->\n")
    done = pages("--check", "--readme", tmp_path / "README.md")
    assert done.returncode == 1
    assert "no line '<!-- benchmarks: speed -->' with '<!-- end -->' behind it" in done.stderr


def test_readme_is_up_to_date() -> None:
    assert pages("--check").stderr == ""


def test_every_script_shows_its_help(tmp_path: Path) -> None:
    scripts = [str(path) for path in SCRIPTS if path.name != "intensity_methods.py"]  # which is no script
    command = [sys.executable, "-c", HELP_OF_ALL, *scripts]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines() == [f"{script} True" for script in scripts]
