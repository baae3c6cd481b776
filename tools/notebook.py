"""Runs ocr.ipynb with the default settings and stores its cleaned outputs in it, ready to commit."""

import argparse
import ast
import hashlib
import os
import re
import subprocess
import sys

from training import PROJECT
from training.parameters import NOTEBOOK

TRAINING_MODULES = [  # which affect a training's outcome
    *("snippet_ocr/alphabet", "snippet_ocr/images", "training/augmentation", "training/callbacks"),
    *("training/devices", "training/fast_gru", "training/image_size", "training/label_order"),
    *("training/labels", "training/metrics", "training/pixels", "training/tables", "training/transfer"),
    *("CTCLayer", "SquareRootScheduler", "utils"),
]
TENSORFLOW_LOG = re.compile(r"(?m)^([IWEF]\d{4} \d\d:\d\d:.*|WARNING: All log messages before absl::.*)\n")


def _read_notebook():
    import nbformat

    return nbformat.read(NOTEBOOK, as_version=4)


def load_build_model():
    """Returns the function `build_model` from the notebook's cell tagged `model`."""
    import keras
    from keras import layers

    from CTCLayer import CTCLayer

    (cell,) = [cell for cell in _read_notebook().cells if "model" in cell.metadata.get("tags", [])]
    names = {"keras": keras, "layers": layers, "CTCLayer": CTCLayer}
    exec(compile(cell.source, f"{NOTEBOOK.name}, cell tagged model", "exec"), names)
    return names["build_model"]


def code_version():
    """Hashes the code that affects a training: the notebook up to `fit`, and `TRAINING_MODULES`.

    Comments, docstrings, imports and layout do not change the hash, which has 8 hexadecimal digits.
    """
    cells = [cell.source for cell in _read_notebook().cells if cell.cell_type == "code"]
    (last,) = [number for number, source in enumerate(cells) if "model.fit(" in source]
    sources = ["\n".join(cells[: last + 1])]
    sources += [(PROJECT / f"{name}.py").read_text(encoding="utf-8") for name in TRAINING_MODULES]
    trees = [ast.parse(source) for source in sources]
    for tree in trees:
        tree.body = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                node.value.value = ""  # a docstring
    return hashlib.sha256("\n".join(map(ast.dump, trees)).encode()).hexdigest()[:8]


def run_notebook(settings, changes=()):
    """Runs the notebook with papermill, without changing the file; returns the `Path` of the run's folder.

    Args:
        settings: a dictionary of the notebook's settings, with a `run_name` that is not in use.
            Settings that are missing follow the `OCR_…` variables.
        changes: pairs of strings: code that occurs exactly once in the notebook, and its replacement.

    Raises:
        ValueError: if the code to replace does not occur exactly once.
        papermill.PapermillExecutionError: if a cell fails.
    """
    import papermill

    notebook = _read_notebook()
    for before, after in changes:
        cells = [cell for cell in notebook.cells if before in cell.source and cell.cell_type == "code"]
        if sum(cell.source.count(before) for cell in cells) != 1:
            raise ValueError(f"Expected to find this exactly once in the notebook's code: {before}")
        cells[0].source = cells[0].source.replace(before, after)
    papermill.execute_notebook(notebook, None, settings, cwd=PROJECT, progress_bar=False)
    return PROJECT / "runs" / settings["run_name"]


def clean(notebook):
    """Removes in place, from an executed notebook, what differs between runs and machines.

    This is the metadata of editor and kernel, the log lines of TensorFlow's C++ code, and the path of
    the project's folder. Adjacent outputs of the same stream are joined.
    """
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags"}
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            if output.output_type == "stream":
                output.text = TENSORFLOW_LOG.sub("", output.text).replace(f"{PROJECT}{os.sep}", "")
            elif "metadata" in output:
                texts = {kind: one["alt"] for kind, one in output.metadata.items() if "alt" in one}
                output.metadata = {kind: {"alt": text} for kind, text in texts.items()}
        cell.outputs = [output for output in cell.outputs if output.get("text", "a figure").strip()]
        CoalesceStreamsPreprocessor().preprocess_cell(cell, {}, 0)


def main(arguments=None):
    """Runs the command line and returns the exit code."""
    argparse.ArgumentParser("python -m tools.notebook", description=__doc__).parse_args(arguments)
    import nbformat

    environment = {name: value for name, value in os.environ.items() if not name.startswith("OCR_")}
    command = [sys.executable, "-m", "jupyter", "execute", "--inplace", "--timeout=-1", str(NOTEBOOK)]
    subprocess.run(command, cwd=PROJECT, env=environment, check=True)
    notebook = _read_notebook()
    clean(notebook)
    nbformat.validate(notebook)
    nbformat.write(notebook, NOTEBOOK)
    return 0


if __name__ == "__main__":
    sys.exit(main())
