"""Files are data: no module unpickles, evaluates or unpacks what it reads."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import lesioncore

PACKAGE = Path(lesioncore.__file__).parent
TRAINING = PACKAGE / "training"
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml", "tarfile", "zipfile"}
CALLS = {"torch.load", "torch.save", "torch.jit.load", "np.load", "numpy.load", "shutil.unpack_archive", "eval", "exec"}


def unsafe(code: str) -> list[str]:
    """Imports and calls in a module by which a file could be code, or could be unpacked to anywhere."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.partition(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module] if (node.module or "").partition(".")[0] in MODULES else []
        elif isinstance(node, ast.Call):
            found += [ast.unparse(node.func)] if ast.unparse(node.func) in CALLS else []
            found += [word.arg for word in node.keywords if word.arg == "allow_pickle"]
    return found


def test_no_module_makes_code_of_a_file():
    files = [*PACKAGE.rglob("*.py"), *TRAINING.rglob("*.py")]
    assert len(files) > 200
    assert [(path.name, name) for path in files for name in unsafe(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    "code",
    ["import pickle", "from joblib import load", "torch.load(x)", "np.load(x, allow_pickle=True)", "eval(x)"],
)
def test_the_search_finds_it(code):
    assert unsafe(code)
