"""The structure of the project: what may import what, and what an import may load."""

import ast
import json
import re
import subprocess
import sys

from conftest import PROJECT

ROOT = {"utils", "CTCLayer", "SquareRootScheduler"}
READING = {"numpy", "PIL", "onnxruntime", "snippet_ocr"}
OWN = {"snippet_ocr", "training", "tools", "benchmarks", *ROOT}


def sources(folder):
    """Yields each Python file of a folder with its name and its syntax tree."""
    for path in sorted((PROJECT / folder).glob("*.py")):
        yield path.relative_to(PROJECT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def imports(tree, everywhere=True):
    """The top-level names that a module imports; with `everywhere`, inside functions too."""
    names = set()
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    return names


def module_imports(tree):
    """The modules of the project that a module imports, as `package.module`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in OWN:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def test_root_holds_three_modules_and_the_notebook():
    assert {path.stem for path in PROJECT.glob("*.py")} == ROOT
    assert [path.name for path in PROJECT.glob("*.ipynb")] == ["ocr.ipynb"]


def test_snippet_ocr_imports_only_what_reading_needs():
    for name, tree in sources("snippet_ocr"):
        assert imports(tree) & OWN <= {"snippet_ocr"}, name
        outside = imports(tree, everywhere=False) - READING - set(sys.stdlib_module_names)
        assert not outside, f"{name} imports {outside} when it is imported"


def test_root_layers_import_only_keras_and_snippet_ocr():
    for name, tree in sources("."):
        if name != "utils.py":
            assert imports(tree) & OWN <= {"snippet_ocr"}, name


def test_training_imports_nothing_above_it():
    for name, tree in sources("training"):
        assert not imports(tree) & {"utils", "tools", "benchmarks"}, name


def test_utils_imports_neither_tools_nor_benchmarks():
    trees = dict(sources("."))
    assert not imports(trees["utils.py"]) & {"tools", "benchmarks"}


def test_modules_import_each_other_without_a_circle():
    graph = {}
    for folder in (".", "snippet_ocr", "training", "tools"):
        for name, tree in sources(folder):
            graph[name.removesuffix(".py").replace("/", ".")] = module_imports(tree)
    graph = {name: needed & set(graph) - {name} for name, needed in graph.items()}
    while graph:
        free = [name for name, needed in graph.items() if not needed & set(graph)]
        assert free, f"a circle of imports among {sorted(graph)}"
        graph = {name: needed for name, needed in graph.items() if name not in free}


def test_reading_loads_neither_keras_nor_tensorflow():
    script = "import json, sys, snippet_ocr, snippet_ocr.cli; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, check=True)
    assert not set(json.loads(done.stdout)) & {
        "keras",
        "tensorflow",
        "scipy",
        "matplotlib",
        "h5py",
        "training",
    }


def test_nothing_imports_private_parts_of_keras():
    paths = [*PROJECT.glob("*.py"), *PROJECT.glob("[st]*/*.py"), PROJECT / "ocr.ipynb"]
    assert len(paths) > 40
    for path in paths:
        if path.parent.name != "tests":
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"(import|from) keras\.src|keras\.src\.\w+\.\w+\(", text), path
