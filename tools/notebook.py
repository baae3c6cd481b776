"""The notebook seen from outside: its model for tests and benchmarks, and its outputs for the repository.

    python -m tools.notebook

runs `ocr.ipynb` from top to bottom with the defaults, as `jupyter execute`
does, and stores the outputs in it, cleaned so that they can be committed.
"""

import ast
import hashlib
import os
import re
import subprocess
import sys

import nbformat
import papermill

from training import PROJECT
from training.parameters import NOTEBOOK

TRAINING_MODULES = (
    *("snippet_ocr/alphabet", "snippet_ocr/images", "training/augmentation", "training/callbacks"),
    *("training/devices", "training/image_size", "training/labels", "training/metrics", "training/pixels"),
    *("CTCLayer", "SquareRootScheduler", "utils"),
)
"""The modules that a training's outcome depends on."""

TENSORFLOW_LOG = re.compile(r"(?m)^([IWEF]\d{4} \d\d:\d\d:.*|WARNING: All log messages before absl::.*)\n")


def load_build_model():
    """Takes `build_model` out of the notebook, with the imports it needs.

    Returns:
        The very function of the notebook's cell that is tagged `model`.
    """
    import keras
    from keras import layers

    from CTCLayer import CTCLayer

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (cell,) = [cell for cell in notebook.cells if "model" in cell.metadata.get("tags", [])]
    names = {"keras": keras, "layers": layers, "CTCLayer": CTCLayer}
    exec(compile(cell.source, f"{NOTEBOOK.name}, the cell tagged model", "exec"), names)
    return names["build_model"]


def code_version():
    """A short name for the code that trains: the notebook's, up to `fit`, and that of `TRAINING_MODULES`.

    Comments, docstrings, imports and layout do not count.

    Returns:
        8 hexadecimal digits.
    """
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    cells = [cell.source for cell in cells if cell.cell_type == "code"]
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


def run_notebook(parameters, changes=()):
    """Runs the notebook through papermill.

    Args:
        parameters: a dictionary of the notebook's parameters; `OCR_…` variables
            set those that are not in it. It holds a `run_name` that is not taken.
        changes: pairs of strings: each first one, which must stand exactly
            once in the notebook's code, is replaced by the second.

    Returns:
        The `Path` of the run's folder.

    Raises:
        ValueError: if a change does not fit the notebook.
        papermill.PapermillExecutionError: if a cell fails.
    """
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for before, after in changes:
        cells = [cell for cell in notebook.cells if before in cell.source and cell.cell_type == "code"]
        if sum(cell.source.count(before) for cell in cells) != 1:
            raise ValueError(f"Expected to find this exactly once in the notebook's code: {before}")
        cells[0].source = cells[0].source.replace(before, after)
    papermill.execute_notebook(notebook, None, parameters, cwd=PROJECT, progress_bar=False)
    return PROJECT / "runs" / parameters["run_name"]


def clean(notebook):
    """Takes out of a notebook what differs from run to run and machine to machine.

    Metadata of the editor, the kernel and the clock go; so do the log lines of
    TensorFlow's C++ part, which bear clock and process number, and the path of
    the project's folder, which leaves relative paths. Neighbouring texts of one
    stream become one output.

    Args:
        notebook: an executed notebook, as `nbformat.read` gives it; it is changed.
    """
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags"}
        if cell.cell_type == "code":
            cell.outputs = _clean_outputs(cell.outputs)


def _clean_outputs(outputs):
    cleaned = []
    for output in outputs:
        if output.output_type == "stream":
            output.text = TENSORFLOW_LOG.sub("", output.text).replace(f"{PROJECT}{os.sep}", "")
            if not output.text.strip():
                continue
            if cleaned and cleaned[-1].get("name") == output.name:
                cleaned[-1].text += output.text
                continue
        elif "metadata" in output:
            output.metadata = {}
        cleaned.append(output)
    return cleaned


def main():
    """Runs the notebook, cleans its outputs, and returns the exit code."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OCR_")}
    command = [sys.executable, "-m", "jupyter", "execute", "--inplace", "--timeout=-1", str(NOTEBOOK)]
    subprocess.run(command, cwd=PROJECT, env=environment, check=True)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    clean(notebook)
    nbformat.validate(notebook)
    nbformat.write(notebook, NOTEBOOK)
    return 0


if __name__ == "__main__":
    sys.exit(main())
