"""The notebook seen from outside: its model for tests and benchmarks, and its outputs for the repository.

    python -m tools.notebook

runs `ocr.ipynb` from top to bottom with the defaults, as `jupyter execute`
does, and stores the outputs in it, cleaned so that they can be committed.
"""

import os
import subprocess
import sys
from pathlib import Path

import nbformat

PROJECT = Path(__file__).absolute().parent.parent
NOTEBOOK = PROJECT / "ocr.ipynb"


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

    Metadata of the editor, the kernel and the clock go; so does the path of
    the project's folder, which leaves relative paths. Neighbouring lines of
    one stream become one output.

    Args:
        notebook: an executed notebook, as `nbformat.read` gives it; it is changed.
    """
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags"}
        merged = []
        for output in cell.get("outputs", []):
            output.pop("metadata", None)
            if "data" in output:
                output["metadata"] = {}
            if "text" in output:
                output.text = output.text.replace(f"{PROJECT}{os.sep}", "")
            if merged and "text" in output and merged[-1].get("name") == output.name:
                merged[-1].text += output.text
            else:
                merged.append(output)
        if "outputs" in cell:
            cell.outputs = merged


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
