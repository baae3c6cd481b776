"""The house keeps its shape: what imports what, and what importing does."""

import ast
import re
import subprocess
import sys

import pytest

from conftest import PROJECT

MODULES = sorted(path.stem for path in PROJECT.glob("*.py"))
WITHOUT_KERAS = [
    *("alphabet", "archive", "cache", "calibration", "cli", "constraints", "decoding"),
    *("files", "images", "reader", "results", "safety"),
]
FLOORS = [
    {"alphabet", "files", "images", "terminal", "configuration", "labels", "augmentation"},
    {"cache", "safety", "SquareRootScheduler"},
    {"archive", "decoding", "transfer", "image_size", "results", "CTCLayer"},
    {"calibration", "constraints", "distribution"},
    {"reader", "utils", "metrics", "plots", "callbacks"},
    {"checkpoint", "cli"},
]


def imports_of(module):
    """What a module imports when it is imported; what it runs as a command does not count."""
    tree = ast.parse((PROJECT / f"{module}.py").read_text(encoding="utf-8"))
    guard = 'if __name__ == "__main__":'
    tree.body = [node for node in tree.body if not ast.unparse(node).replace("'", '"').startswith(guard)]
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    return names


def test_root_holds_what_the_house_says():
    assert set(MODULES) == set.union(*FLOORS)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down_only(module):
    (floor,) = [number for number, floor in enumerate(FLOORS) if module in floor]
    below = set().union(*FLOORS[:floor])
    assert imports_of(module) & set(MODULES) <= below


@pytest.mark.parametrize("module", WITHOUT_KERAS)
def test_reading_modules_import_neither_keras_nor_tensorflow(module):
    script = f"import sys, {module}; sys.exit(bool({{'keras', 'tensorflow'}} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", script], cwd=PROJECT, check=True)


def test_nothing_imports_private_parts_of_keras():
    for path in [*PROJECT.glob("*.py"), PROJECT / "ocr.ipynb"]:
        assert not re.search(
            r"(import|from) keras\.src|keras\.src\.\w+\.\w+\(", path.read_text(encoding="utf-8")
        )
