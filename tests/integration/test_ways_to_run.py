"""The notebook as users run it: every way, killed and resumed, with other parameters and other labels."""

import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time

import nbformat
import numpy as np
import pytest
from notebook_runs import BIN, SHOWN, TWO_EPOCHS, WAYS, run, start, without_colours
from PIL import Image

from benchmarks import scripts
from conftest import user_environment, weights_of
from snippet_ocr.reader import Reader
from tools.notebook import clean

SLOW_START = """
import sys, time
if "ipykernel_launcher" in sys.orig_argv:
    time.sleep(2.5)
"""


def test_jupyter_execute_stores_texts_and_figures_in_the_cells(project, image_folder):
    code, output = run("jupyter", project, project, **TWO_EPOCHS, OCR_DATA_DIR=str(image_folder))
    assert code == 0, output
    executed = nbformat.read(project / "ocr.ipynb", as_version=4)
    clean(executed)
    cells = [cell for cell in executed.cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= SHOWN
    (fit,) = [cell for cell in cells if "model.fit(" in cell.source]
    text = "".join(output.get("text", "") for output in fit.outputs)
    assert len(re.findall(r"(?m)^epoch", text)) == 2
    assert not any(output.get("name") == "stderr" for output in outputs)


def test_runipy_waits_for_a_kernel_that_starts_slowly(project, image_folder, tmp_path):
    folder = tmp_path / "slow"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SLOW_START)
    variables = TWO_EPOCHS | {"OCR_EPOCHS": "1", "OCR_DATA_DIR": str(image_folder)}
    code, output = run("runipy", project, project, **variables, PYTHONPATH=str(folder))
    assert code == 0, output
    assert (project / "runs" / "tiny run" / "metrics.json").exists()


@pytest.mark.parametrize("way", WAYS)
def test_error_in_a_cell_prints_its_message_and_exits_non_zero(way, project):
    code, output = run(way, project, project, OCR_EPOCH="2")
    assert code != 0
    assert "OCR_EPOCH is not a setting. Did you mean OCR_EPOCHS?" in without_colours(output), output


def test_missing_folder_is_named_in_full_relative_to_the_project(project, tmp_path):
    code, output = run("ipython", project, tmp_path, OCR_DATA_DIR="no/such folder")
    assert code != 0
    assert f"{project}/no/such folder" in without_colours(output)


def test_killed_run_resumes_and_ends_with_the_weights_of_an_unkilled_one(project, image_folder):
    variables = TWO_EPOCHS | {"OCR_EPOCHS": "8", "OCR_PATIENCE": "20", "OCR_DATA_DIR": str(image_folder)}
    code, output = run("ipython", project, project, **variables)
    assert code == 0, output
    whole = (project / "runs" / "tiny run").rename(project / "runs" / "whole")
    run_dir = project / "runs" / "tiny run"
    process = start("ipython", project, project, **variables)
    for line in process.stdout:
        if line.startswith("epoch   3/"):
            break
    time.sleep(random.random())
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (run_dir / "metrics.json").exists()
    rows = (run_dir / "history.csv").read_text().splitlines()[1:]
    code, output = run("ipython", project, project, **variables)
    assert code == 0, output
    assert f"resuming {run_dir}" in output
    epochs = [int(number) for number in re.findall(r"(?m)^epoch +(\d+)/8", output)]
    assert epochs == list(range(len(rows) + 1, 9)) or epochs == list(range(len(rows) + 2, 9))
    rows_in_the_end = (run_dir / "history.csv").read_text().splitlines()[1:]
    assert rows_in_the_end[: len(rows)] == rows
    assert [int(row.split(",")[0]) for row in rows_in_the_end] == list(range(1, 9))
    expected, found = weights_of(whole), weights_of(run_dir)
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(array, found[name], err_msg=name)
    scores, expected_scores = (
        json.loads((folder / "metrics.json").read_text())["scores"] for folder in (run_dir, whole)
    )
    assert scores == expected_scores


def test_training_on_shipped_images_lowers_the_loss(project, shipped, tmp_path):
    folder = tmp_path / "shipped"
    folder.mkdir()
    for path in shipped[::8]:
        shutil.copy(path, folder)
    variables = {"OCR_EPOCHS": "4", "OCR_RUN_NAME": "run", "OCR_DATA_DIR": str(folder)}
    code, output = run("ipython", project, project, **variables)
    assert code == 0, output
    losses = [float(loss) for loss in re.findall(r"(?m)^epoch .*? loss +([\d.]+)", output)]
    assert len(losses) == 4
    assert losses[-1] < 0.75 * losses[0]


def test_papermill_parameters_override_the_environment(project, tmp_path, image_folder):
    out = tmp_path / "out.ipynb"
    command = [BIN / "papermill", project / "ocr.ipynb", out, "--cwd", project, "-p", "epochs", "1"]
    environment = user_environment(**TWO_EPOCHS | {"OCR_EPOCHS": "3", "OCR_DATA_DIR": str(image_folder)})
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    result = json.loads((project / "runs" / "tiny run" / "metrics.json").read_text())["run"]
    assert result["epochs"] == 1
    assert "WARNING: no validation image was ever read correctly" in out.read_text(encoding="utf-8")


def test_notebook_trains_on_the_jax_backend(project, image_folder):
    variables = TWO_EPOCHS | {"KERAS_BACKEND": "jax", "OCR_DATA_DIR": str(image_folder)}
    code, output = run("ipython", project, project, **variables)
    assert code == 0, output
    run_dir = project / "runs" / "tiny run"
    assert json.loads((run_dir / "config.json").read_text())["environment"]["backend"] == "jax"
    assert len((run_dir / "history.csv").read_text().splitlines()) == 1 + 2
    assert "reader.onnx: same texts as Keras" in output


def test_run_can_start_from_a_base_reader_with_a_smaller_alphabet(project, image_folder):
    variables = TWO_EPOCHS | {"OCR_EPOCHS": "1", "OCR_DATA_DIR": str(image_folder), "OCR_BASE_READER": ""}
    code, output = run("ipython", project, project, **variables)
    assert code == 0, output
    first = project / "runs" / "tiny run" / "reader.keras"
    pixels = np.full((50, 200), 255, dtype="uint8")
    for shade in range(5):
        Image.fromarray(pixels - shade).save(image_folder / f"ÄZ_{shade}.png")
    variables |= {
        "OCR_BASE_READER": "runs/tiny run/reader.keras",
        "OCR_IMAGE_WIDTH": "0",
        "OCR_IMAGE_HEIGHT": "0",
    }
    code, output = run("ipython", project, project, **variables)
    assert code == 0, output
    assert "image size 200×50" in output
    assert re.search(r"base reader: \d+ characters keep their weights, 2 new: Z Ä", output)
    base, grown = Reader.load(first), Reader.load(project / "runs" / "tiny run-2" / "reader.keras")
    assert set(grown.alphabet.characters) == set(base.alphabet.characters) | set("ZÄ")


@pytest.mark.parametrize("script", ["Arabic", "Devanagari"])
def test_text_of_another_script_trains_and_reads_as_typed(script, project, tmp_path):
    """Noto draws the text with its own implementation of the Unicode Bidirectional Algorithm."""
    if not (scripts.FONTS / scripts.SCRIPTS[script][0]).exists() and not os.environ.get("CI"):
        pytest.skip("needs the Debian package fonts-noto-core")
    for name, count, seed in (("training", 500, 0), ("others", 100, 1)):
        (tmp_path / name).mkdir()
        scripts.draw(script, count, tmp_path / name, seed)
    variables = {"OCR_EPOCHS": "13", "OCR_DATA_DIR": str(tmp_path / "training"), "OCR_RUN_NAME": "run"}
    code, output = run("ipython", project, project, **variables)
    assert code == 0, output
    assert ("label order: logical" in output) == (script == "Arabic"), output
    reader = Reader.load(project / "runs" / "run" / "reader.keras")
    with (tmp_path / "others" / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    readings = reader.read([tmp_path / "others" / row["file"] for row in rows])
    assert np.mean([one.text == row["text"] for one, row in zip(readings, rows, strict=True)]) >= 0.9
