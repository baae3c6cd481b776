"""`make train` on the other Pythons that this machine has, with its installation."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from notebook_runs import TWO_EPOCHS

from conftest import PROJECT, user_environment


def interpreter(version):
    """The path of a Python of this version, or None."""
    names = [shutil.which(f"python{version}"), *Path.home().glob(f".pyenv/versions/{version}.*/bin/python")]
    for name in filter(None, names):
        command = [name, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        if subprocess.run(command, capture_output=True, text=True).stdout.strip() == version:
            return name
    return None


@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_make_train_installs_and_runs_on_other_pythons(version, project, image_folder):
    python = interpreter(version)
    if python is None or sys.version.startswith(version):
        pytest.skip(f"no other Python {version} on this machine")
    for name in ("Makefile", "requirements.txt", "constraints.txt"):
        shutil.copy(PROJECT / name, project)
    shutil.copytree(PROJECT / "tools", project / "tools")
    variables = TWO_EPOCHS | {"OCR_EPOCHS": "1", "OCR_DATA_DIR": str(image_folder)}
    environment = user_environment(**variables, VIRTUAL_ENV="")
    command = ["make", "train", f"PYTHON={python}"]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project / "runs" / "tiny run" / "reader.keras").exists()
    assert len(done.stdout.splitlines()) < 60 and "CUDA" not in done.stdout + done.stderr
    again = environment | {"OCR_RUN_NAME": "by runipy", "PATH": f"{project}/.venv/bin:{os.environ['PATH']}"}
    subprocess.run(["runipy", "ocr.ipynb"], cwd=project, env=again, capture_output=True, check=True)
    assert (project / "runs" / "by runipy" / "metrics.json").exists()
