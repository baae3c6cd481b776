"""The notebook seen from outside: its model for tests and benchmarks, and its outputs for the repository.

    python -m tools.notebook

runs `ocr.ipynb` from top to bottom with the defaults, as `jupyter execute`
does, and stores the outputs in it, cleaned so that they can be committed.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat

PROJECT = Path(__file__).absolute().parent.parent
NOTEBOOK = PROJECT / "ocr.ipynb"
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
