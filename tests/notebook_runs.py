"""Runs of the real notebook with tiny parameters, as users start them."""

import re
import subprocess
import sys
from pathlib import Path

from conftest import TINY, user_environment

BIN = Path(sys.executable).parent
WAYS = {
    "runipy": [BIN / "runipy"],
    "ipython": [BIN / "ipython"],
    "jupyter": [BIN / "jupyter", "execute", "--inplace"],
}
FIGURES = {"images", "augmented", "learning_curves", "film", "test_readings", "reading"}  # of every run
SHOWN = len(FIGURES) + 4  # on paper, of the network, of the untrained model, and of the progress
TWO_EPOCHS = TINY | {"OCR_EPOCHS": "2", "OCR_RUN_NAME": "tiny run", "OCR_SEED": "7"}


def start(way, project, cwd, **variables):
    """Starts the notebook of a copy of the project; its output, of both kinds, is read from `stdout`."""
    variables |= {"IPYTHONDIR": str(project.parent / "ipython"), "NO_COLOR": "1"}
    # A session of its own, so that a kill ends the kernel too.
    return subprocess.Popen(
        [*WAYS[way], str(project / "ocr.ipynb")],
        cwd=cwd,
        env=user_environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(way, project, cwd, **variables):
    """Runs the notebook to its end; returns the exit code and the output."""
    process = start(way, project, cwd, **variables)
    output, _ = process.communicate(timeout=600)
    return process.returncode, output


def without_colours(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
