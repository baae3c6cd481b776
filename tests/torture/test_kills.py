"""A training that is killed again and again ends as one that never was: the real notebook, twenty kills."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from conftest import TINY, user_environment, weights_of

EPOCHS = 24
VARIABLES = TINY | {"OCR_EPOCHS": str(EPOCHS), "OCR_PATIENCE": str(EPOCHS), "OCR_RUN_NAME": "killed"}
MOMENTS = ["start-up", "epoch", "epoch", "checkpoint"] * 4 + ["plotting", "saving"] * 2
"""When the twenty kills come; each random within its kind."""

FILES = {
    "checkpoint": "checkpoint.unfinished.npz",
    "plotting": "images.png",
    "saving": "reader.unfinished.keras",
}
"""The files by which a moment is known; none is there at the start."""


def start(project, images):
    command = [sys.executable, "-m", "IPython", "ocr.ipynb"]
    environment = user_environment(
        **VARIABLES, OCR_DATA_DIR=str(images), IPYTHONDIR=str(project.parent / "ipython"), NO_COLOR="1"
    )
    return subprocess.Popen(
        command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(process, run_dir, moment, rng):
    """Waits until the moment of a kill has come; returns whether it came before the process ended."""
    if moment == "start-up":
        time.sleep(rng.uniform(0.0, 12.0))
    elif moment == "epoch":
        epochs = (line for line in process.stdout if line.startswith("epoch "))
        next(epochs, None)
        time.sleep(rng.uniform(0.0, 1.5))
    else:
        file = run_dir / FILES[moment]
        while not file.exists() and process.poll() is None:
            time.sleep(0.0002)
        if moment == "plotting":
            time.sleep(rng.uniform(0.0, 1.5))
    return process.poll() is None


@pytest.mark.parametrize("seed", [1])
def test_training_killed_twenty_times_ends_with_the_weights_of_one_that_never_was(
    project, image_folder, seed, capsys
):
    rng = random.Random(seed)
    whole = start(project, image_folder)
    output, _ = whole.communicate()
    assert whole.returncode == 0, output
    run_dir = project / "runs" / "killed"
    os.rename(run_dir, project / "runs" / "whole")
    for number, moment in enumerate(MOMENTS, start=1):
        for name in FILES.values():
            (run_dir / name).unlink(missing_ok=True)
        process = start(project, image_folder)
        came = wait_for(process, run_dir, moment, rng)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with capsys.disabled():
            print(f"kill {number}: {moment}{'' if came else ', too late'}", flush=True)
        assert came
    last = start(project, image_folder)
    output, _ = last.communicate()
    assert last.returncode == 0, output
    assert [path.name for path in run_dir.parent.iterdir() if path.name not in ("killed", "whole")] == []
    expected, found = weights_of(project / "runs" / "whole"), weights_of(run_dir)
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(array, found[name], err_msg=name)
    rows, expected_rows = (
        [row.rsplit(",", 1)[0] for row in (project / "runs" / name / "history.csv").read_text().splitlines()]
        for name in ("killed", "whole")
    )
    assert rows == expected_rows  # but for the seconds, which stand last
