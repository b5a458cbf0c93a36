"""What README and the documentation show: code runs, or is marked and parses; links and names lead somewhere."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import nibabel as nib
import numpy as np
import pytest
import torch
import tyro
from support.bids import write_bids
from support.models import tiny_metadata, tiny_vae
from support.patients import HEAD, write, write_healthy, write_patients

import lesioncore as lc
from lesioncore import bids_app, cli, prior_names
from lesioncore.calibration.healthy import HealthyScores, merged
from lesioncore.solvers import SOLVERS

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *(page for folder in ("how-to", "benchmarks") for page in sorted((ROOT / "docs" / folder).glob("*.md"))),
]
MARK = re.compile(r"<!-- not run: (.+) -->")
PROGRAMS = {"lesioncore": cli.main, "lesioncore-bids": bids_app.main}
GENERATED = "docs/reference/"
"""Pages that the build writes."""


@dataclass(frozen=True)
class Block:
    """A block of code: where it starts, what it is, and why it is not run, if it is not."""

    page: Path
    line: int
    language: str
    code: str
    reason: str | None

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """The words of each line of a shell's block, its comments left out."""
        lines = re.sub(r"\\\n", " ", self.code).splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks_of(page: Path) -> list[Block]:
    found: list[Block] = []
    lines, start = page.read_text().splitlines(), None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if start is None:
            start = number
            continue
        mark = MARK.fullmatch(lines[start - 1]) if start else None
        code = "\n".join(lines[start + 1 : number]) + "\n"
        found.append(Block(page, start + 1, lines[start].removeprefix("```"), code, mark and mark[1]))
        start = None
    assert start is None, f"{page}: a block of code does not end"
    return found


BLOCKS = {page: blocks_of(page) for page in PAGES}
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """The files that the pages speak of, small, and small priors under the embedded ones' names."""
    folder = tmp_path_factory.mktemp("study")
    people = [HealthyScores.of(torch.arange(1, 101) * 0.01 * scale) for scale in range(1, 21)]
    settings = lc.RestoreConfig("em", tv_dimensions=3, standardize=True).settings()
    calibration = lc.Calibration(settings, 1.0, merged(people), 2.0)
    for name in prior_names.embedded_priors():
        contrast = {"t1": "T1w", "t2": "T2w", "flair": "FLAIR"}[name.split("-")[1]]
        metadata = tiny_metadata(calibration)
        metadata = lc.PriorMetadata(name, contrast, metadata.grid, metadata.intensity, calibration)
        lc.save_model(tiny_vae(metadata=metadata), folder / "priors" / name, card=f"# {name}\n")
    files = folder / "files"
    for name in ("healthy", "healthy_study", "my_study"):
        for path in write_healthy(files / name, range(4)).glob("*.nii"):
            nib.save(nib.load(path), path.with_suffix(".nii.gz"))
            path.unlink()
    write_patients(files / "patients", 2)
    write_bids(
        files / "my_bids", *(f"sub-{label}_ses-1_{suffix}" for label in ("01", "02") for suffix in ("T1w", "T2w"))
    )
    (files / "filter.json").write_text('{"t1w": {"session": ["1", "2"], "acquisition": null}, "t2w": {"run": null}}')
    (scan,) = (files / "my_study").glob("sub-h0*")
    for name in ("sub-01_T2w", "patient_T2w"):
        shutil.copy(scan, files / f"{name}.nii.gz")
    write(files / "sub-01_mask.nii.gz", HEAD.astype(np.uint8))
    return folder


@pytest.fixture
def place(study, tmp_path, monkeypatch) -> Path:
    """A folder with the files, as the current one."""
    shutil.copytree(study / "files", tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(prior_names, "EMBEDDED", study / "priors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def with_code(language: str) -> list:
    """Pages with a block in a language that is run."""
    return [
        pytest.param(page, id=name)
        for page, name in zip(PAGES, NAMES, strict=True)
        if any(block.language == language and block.reason is None for block in BLOCKS[page])
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", with_code("sh"))
def test_commands_run(page, place, capsys):
    for block in BLOCKS[page]:
        if block.language != "sh" or block.reason is not None:
            continue
        for words in block.commands:
            assert words[0] in PROGRAMS, f"{block.place}: {words[0]} is not run by a test; mark the block"
            assert PROGRAMS[words[0]](words[1:]) == 0, f"{block.place}: {shlex.join(words)}: {capsys.readouterr().err}"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", with_code("python"))
def test_python_runs(page, place, monkeypatch):
    names: dict[str, object] = {"__name__": "page"}
    monkeypatch.setitem(sys.modules, "page", ModuleType("page"))  # dataclasses look their module up
    with mock.patch.dict(SOLVERS):
        for block in BLOCKS[page]:
            if block.language == "python" and block.reason is None:
                exec(compile("\n" * block.line + block.code, block.place, "exec"), names)


def test_blocks_have_a_language():
    assert {block.language for blocks in BLOCKS.values() for block in blocks} <= {
        *("sh", "python", "text", "toml", "cpp", "bibtex"),
        *("{toctree}", "{include} ../CHANGELOG.md", "{include} ../CONTRIBUTING.md", "{include} ../SECURITY.md"),
    }


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_blocks_that_are_not_run_parse(page, capsys):
    for block in BLOCKS[page]:
        if block.language == "python":
            compile(block.code, block.place, "exec")
        if block.language != "sh":
            continue
        checked = subprocess.run(["bash", "-n"], input=block.code, text=True, capture_output=True)
        assert checked.returncode == 0, f"{block.place}: {checked.stderr}"
        for words in block.commands:
            while "&&" in words:  # commands one after the other
                words = words[words.index("&&") + 1 :]
            if words[:1] == ["lesioncore-bids"]:
                bids_app.parse(words[1:])
            if words[:1] == ["lesioncore"] and "--help" not in words:
                try:
                    tyro.cli(cli.commands(words[1]), args=words[1:], config=(tyro.conf.FlagCreatePairsOff,))
                except SystemExit:
                    pytest.fail(f"{block.place}: {shlex.join(words)}: {capsys.readouterr().err}")


def anchors_of(page: Path) -> set[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "http://")):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.is_relative_to(ROOT), target
        if str(path.relative_to(ROOT)).startswith(GENERATED):
            continue
        assert path.exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors_of(path), f"{page}: {target}"


def resolves(name: str) -> bool:
    """Whether a full name is that of a module, or of something in one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_names_are_those_of_the_package(page):
    if page.name == "CHANGELOG.md":
        pytest.skip("says what was called how at its time")
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    names = set(re.findall(r"`(lesioncore(?:\.\w+)+)(?:\(\))?`", text))
    assert [name for name in sorted(names) if not resolves(name)] == []


def constant(name: str) -> Any:
    """A constant of docs/conf.py."""
    tree = ast.parse((ROOT / "docs" / "conf.py").read_text())
    (value,) = [node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == name]
    return ast.literal_eval(value)


def test_the_reference_has_all_rooms():
    package = Path(lc.__file__).parent
    parts = {path.stem for path in package.iterdir() if path.suffix == ".py" or any(path.glob("*.py"))}
    assert set(constant("ROOMS")) == (parts | {"training"}) - {
        "__init__",
        "__main__",
        "about",
        "choices",
        "command_options",
        "torch_modes",
        "words",
        "cohort",
        "cli",
        "bids_app",
    }


def test_the_reference_has_all_commands(capsys):
    for arguments, name in (([], "COMMANDS"), (["train"], "MODELS")):
        cli.main([*arguments, "--help"])
        (listed,) = re.findall(r"\{([\w,-]+)\}", capsys.readouterr().out.split("\n\n")[0])
        assert set(constant(name)) == set(listed.split(","))


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.slow
def test_documentation_builds(tmp_path):
    pytest.importorskip("sphinx")
    pytest.importorskip("myst_parser")
    pytest.importorskip("furo")
    # All is read and resolved; .ci/run docs writes it, too.
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "dummy", ROOT / "docs", tmp_path]
    built = subprocess.run(command, text=True, capture_output=True, cwd=tmp_path)
    assert built.returncode == 0, built.stderr
