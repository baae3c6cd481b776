"""A training that is killed twenty times ends like one that is not killed."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np

from conftest import TINY, user_environment, weights_of

EPOCHS = 24
VARIABLES = TINY | {"OCR_EPOCHS": str(EPOCHS), "OCR_PATIENCE": str(EPOCHS), "OCR_RUN_NAME": "killed"}
MOMENTS = ["start-up", "epoch", "epoch", "checkpoint"] * 4 + ["plotting", "saving"] * 2
"""When the twenty kills happen; the exact time is random."""

FILES = {
    "checkpoint": "checkpoint.unfinished.npz",
    "plotting": "images.png",
    "saving": "reader.unfinished.keras",
}
"""The files that appear at the later moments; all are deleted before each start."""


def start(project, images):
    """Starts the notebook in a copy of the project."""
    command = [sys.executable, "-m", "IPython", "ocr.ipynb"]
    environment = user_environment(
        **VARIABLES, OCR_DATA_DIR=str(images), IPYTHONDIR=str(project.parent / "ipython"), NO_COLOR="1"
    )
    return subprocess.Popen(
        command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process):
    """Waits until a process ends without an error."""
    output, _ = process.communicate()
    assert process.returncode == 0, output


def wait_for(process, run_dir, moment, rng):
    """Waits for the moment of a kill; returns whether it came before the process ended."""
    if moment == "start-up":
        time.sleep(rng.uniform(0.0, 12.0))
    elif moment == "epoch":
        next((line for line in process.stdout if line.startswith("epoch ")), None)
        time.sleep(rng.uniform(0.0, 1.5))
    else:
        while not (run_dir / FILES[moment]).exists() and process.poll() is None:
            time.sleep(0.0002)
        if moment == "plotting":
            time.sleep(rng.uniform(0.0, 1.5))
    return process.poll() is None


def history_without_seconds(run_dir):
    """Returns the rows of `history.csv` without their last column, the seconds."""
    return [row.rsplit(",", 1)[0] for row in (run_dir / "history.csv").read_text().splitlines()]


def test_twenty_kills_do_not_change_the_weights(project, image_folder, capsys):
    rng = random.Random(1)
    runs = project / "runs"
    killed, uninterrupted = runs / "killed", runs / "uninterrupted"
    finish(start(project, image_folder))
    os.rename(killed, uninterrupted)
    for number, moment in enumerate(MOMENTS, start=1):
        for name in FILES.values():
            (killed / name).unlink(missing_ok=True)
        process = start(project, image_folder)
        in_time = wait_for(process, killed, moment, rng)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with capsys.disabled():
            print(f"kill {number}: {moment}{'' if in_time else ', too late'}", flush=True)
        assert in_time
    finish(start(project, image_folder))
    assert sorted(path.name for path in runs.iterdir()) == ["killed", "uninterrupted"]
    expected, found = weights_of(uninterrupted), weights_of(killed)
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(array, found[name], err_msg=name)
    assert history_without_seconds(killed) == history_without_seconds(uninterrupted)
