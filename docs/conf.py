"""Build the documentation: ``sphinx-build -W docs docs/_build``. Pages of ``docs/reference`` are made from the code."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import os
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

import lesioncore

DOCS = Path(__file__).parent
REFERENCE = DOCS / "reference"

project = "lesioncore"
release = version = lesioncore.__version__
copyright = "the lesioncore authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"lesioncore {release}"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
suppress_warnings = [
    "ref.python",  # words of a type, such as "volume", that several classes have as an attribute
]
default_role = "code"
autodoc_typehints = "none"  # the docstrings say them
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_preprocess_types = False

COMMANDS = (
    "restore",
    "report",
    "calibrate",
    "evaluate",
    "train",
    "preprocess",
    "phantom",
    "import",
    "reproduce",
    "push",
    "info",
    "demo",
)
MODELS = ("vae", "multiscale-vae", "embedded", "gmvae", "aae", "anogan", "unet")
ROOMS = {
    "prior_names": "Names of priors",
    "ops": "Native operators",
    "data": "Files, grids and stacks of slices",
    "preprocess": "Preprocessing",
    "metrics": "Metrics",
    "scoring": "From a residual to a score",
    "calibration": "What healthy people tell",
    "models": "Priors and other networks",
    "engine": "The gradient of a prior's ELBO",
    "solvers": "Solvers",
    "restoration": "Restoring and calibrating",
    "report": "Candidates and regions",
    "detectors": "Detectors",
    "phantom": "Simulated people",
    "datasets": "Public data sets",
    "subjects": "What a user names as data",
    "evaluation": "Comparing detectors",
    "demo": "The demo",
    "training": "Training",
    "reproduction": "The paper's tables and figures",
}
"""Rooms of the package in the order of their layers, and what they are for."""

PLAIN = re.compile(r":\w+:`~?([^`]+)`|``([^`]+)``")
"""Roles and code of reStructuredText."""


def help_of(main: Callable[[list[str]], int], arguments: list[str]) -> str:
    """What a program prints with ``--help``."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        main([*arguments, "--help"])
    return "\n".join(line.rstrip() for line in printed.getvalue().strip().splitlines())


def command_line() -> str:
    """The page of all commands."""
    from lesioncore import bids_app, cli

    parts = ["# Command line", "What each command prints with `--help`. [Exit codes](../how-to/restore.md#exit-codes)."]
    for arguments in [[], *([name] for name in COMMANDS), *(["train", model] for model in MODELS)]:
        parts += [f"## {' '.join(['lesioncore', *arguments])}", f"```text\n{help_of(cli.main, arguments)}\n```"]
    parts += ["## lesioncore-bids", f"```text\n{help_of(bids_app.main, [])}\n```"]
    return "\n\n".join(parts) + "\n"


def directive(kind: str, name: str, *options: str) -> str:
    """A directive of autodoc in Markdown."""
    body = "\n".join([f".. {kind}:: {name}", *(f"   {option}" for option in options)])
    return f"```{{eval-rst}}\n{body}\n```"


def public_names() -> str:
    """The page of what ``import lesioncore`` offers."""
    rows = ["| name | is |", "|---|---|"]
    for name in sorted(set(lesioncore.__all__) - {"__version__"}, key=str.lower):
        first = (inspect.getdoc(getattr(lesioncore, name)) or "").splitlines()[0]
        rows.append(f"| `lesioncore.{name}` | {PLAIN.sub(lambda found: f'`{found[1] or found[2]}`', first)} |")
    return "# lesioncore\n\nWhat `import lesioncore as lc` offers.\n\n" + "\n".join(rows) + "\n"


def room(name: str, title: str) -> str:
    """The page of a room, with all its modules."""
    package = importlib.import_module(f"lesioncore.{name}")
    modules = sorted(module.name for module in pkgutil.iter_modules(getattr(package, "__path__", ())))
    parts = [f"# {name}", title + "."]
    # A package offers names of its modules, which are described there.
    parts.append(directive("automodule", f"lesioncore.{name}", *([] if modules else [":members:"])))
    for module in modules:
        if module != "__main__":
            full = f"lesioncore.{name}.{module}"
            parts += [f"## {full}", directive("automodule", full, ":members:")]
    return "\n\n".join(parts) + "\n"


def benchmarks() -> str:
    """The page that lists those which ``bench/`` writes."""
    found = sorted(path.stem for path in (DOCS / "benchmarks").glob("*.md"))
    parts = ["# Benchmarks", "Scripts in `bench/` measure and write these pages; each names its command and machine."]
    if found:
        parts.append("\n".join(["```{toctree}", *(f"../benchmarks/{name}" for name in found), "```"]))
    return "\n\n".join(parts) + "\n"


def write_reference(_: Sphinx | None = None) -> None:
    """Write the pages that the code is the source of; unchanged ones are left, so that they are not built again."""
    os.environ["COLUMNS"] = "100"  # the width of the help
    REFERENCE.mkdir(exist_ok=True)
    pages = {"commands": command_line(), "lesioncore": public_names(), "benchmarks": benchmarks()}
    pages |= {name: room(name, title) for name, title in ROOMS.items()}
    for path in REFERENCE.glob("*.md"):
        if path.stem not in pages:  # of a room that is no more
            path.unlink()
    for name, text in pages.items():
        path = REFERENCE / f"{name}.md"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def described(name: str) -> str | None:
    """Where the reference describes what a full name is, which may be another package's name of it."""
    package, _, last = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(package), last)
        return f"{found.__module__}.{found.__qualname__}"
    except (ImportError, AttributeError, ValueError):
        return None


def unlink_sources(_: Sphinx, __: str, source: list[str]) -> None:
    """Make text of links to what lies beside the documentation, which the built pages do not have."""
    source[0] = re.sub(r"\[([^\]]+)\]\((?:\.\./)+bench/[^)]*\)", r"\1", source[0])


class LinkNames(SphinxPostTransform):
    """Link full names in code, such as `lesioncore.restore`, to where the reference has them."""

    default_priority = 5

    def run(self, **_: Any) -> None:
        objects = self.env.domains.python_domain.objects
        for node in list(self.document.findall(nodes.literal)):
            name = node.astext().removesuffix("()")
            if not name.startswith("lesioncore.") or isinstance(node.parent, nodes.reference):
                continue
            found = objects.get(name) or objects.get(described(name))
            if found is not None:
                place = self.env.docname, found.docname, found.node_id
                node.replace_self(make_refnode(self.app.builder, *place, node.deepcopy(), name))


def link_other_name(app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.Node) -> nodes.Node | None:
    """Link what a docstring calls by its package's name, such as ``lesioncore.restore``."""
    found = env.domains.python_domain.objects.get(described(node.get("reftarget", "")))
    return found and make_refnode(app.builder, node["refdoc"], found.docname, found.node_id, text)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", write_reference)
    app.connect("source-read", unlink_sources)
    app.connect("missing-reference", link_other_name)
    app.add_post_transform(LinkNames)
