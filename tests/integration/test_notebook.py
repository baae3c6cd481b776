"""The notebook as users run it: the three ways, with tiny parameters, from another folder."""

import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import papermill
import pytest
from PIL import Image

from conftest import TINY, user_environment, weights_of
from snippet_ocr.reader import Reader
from tools.notebook import clean
from training.parameters import NOTEBOOK, PARAMETERS

BIN = Path(sys.executable).parent
WAYS = {
    "runipy": [BIN / "runipy"],
    "ipython": [BIN / "ipython"],
    "jupyter": [BIN / "jupyter", "execute", "--inplace"],
}
FIGURES = {
    *("images", "augmented", "schedule", "learning_curves"),
    *("test_readings", "confusions", "reliability", "character_positions"),
}
TWO_EPOCHS = TINY | {"OCR_EPOCHS": "2", "OCR_RUN_NAME": "tiny run", "OCR_SEED": "7"}

pytestmark = pytest.mark.filterwarnings("ignore")
needs_runipy = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="runipy does not install on Python 3.12"
)
every_way = pytest.mark.parametrize(
    "way", [pytest.param(way, marks=needs_runipy if way == "runipy" else []) for way in WAYS]
)


@pytest.fixture
def elsewhere(tmp_path):
    """A folder to run from that is not the project's."""
    folder = tmp_path / "else where"
    folder.mkdir()
    return folder


def start(way, project, cwd, **variables):
    variables |= {"IPYTHONDIR": str(project.parent / "ipython"), "NO_COLOR": "1"}
    command = [*WAYS[way], str(project / "ocr.ipynb")]
    # A session of its own, so that a kill takes the kernel along.
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=user_environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(way, project, cwd, **variables):
    process = start(way, project, cwd, **variables)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def without_colours(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@every_way
def test_notebook_runs_to_its_end_from_another_folder(way, project, elsewhere, image_folder):
    code, output = run(way, project, elsewhere, **TWO_EPOCHS, OCR_DATA_DIR=str(image_folder))
    assert code == 0, output
    run_dir = project / "runs" / "tiny run"
    for epoch in (1, 2):  # once on the terminal, and before the cell has ended
        lines = re.findall(rf"(?m)^epoch +{epoch}/2 .*loss.*exact match.*min left$", output)
        assert len(lines) == 1
    assert output.count("training 24, validation 3, test 3 images") == 1
    if way == "runipy":
        assert output.index("epoch   2/2") < output.index("Cell returned", output.index("model.fit("))
    assert len(re.findall(r"(?m)^test: \d of 3 texts right", output)) == 1
    assert len(re.findall(r"(?m)^test  +3 ", output)) == 1
    for figure in FIGURES:
        with Image.open(run_dir / f"{figure}.png") as image:
            assert image.format == "PNG"
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert {split: score["images"] for split, score in metrics["scores"].items()} == {
        "training": 24,
        "validation": 3,
        "test": 3,
    }
    assert (metrics["run"]["seed"], metrics["run"]["epochs"]) == (7, 2)
    assert (metrics["calibration"]["readings"], metrics["calibration"]["threshold"]) == (3, None)
    assert set(metrics["calibration"]["test"]["calibration_error"]) == {"before", "after"}
    config = json.loads((run_dir / "config.json").read_text())
    assert config["identity"]["parameter image_width"] == 80
    with (run_dir / "test_readings.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["right"]) for row in rows) == metrics["scores"]["test"]["right"]
    assert all((image_folder / row["file"]).exists() and row["label"] in row["file"] for row in rows)
    assert "an epoch is 15 batches, 5 × all training images" in output
    loaded = Reader.load(run_dir / "reader.keras")
    assert (loaded.image_width, loaded.image_height) == (80, 20)
    assert loaded.temperature == metrics["calibration"]["temperature"]
    assert len(loaded.read(sorted(image_folder.iterdir()))) == 30
    if way == "jupyter":
        check_cell_outputs(project / "ocr.ipynb")


def check_cell_outputs(path):
    executed = nbformat.read(path, as_version=4)
    clean(executed)
    cells = [cell for cell in executed.cells if cell.cell_type == "code"]
    pngs = [output for cell in cells for output in cell.outputs if "image/png" in output.get("data", {})]
    assert len(pngs) == len(FIGURES)
    (fit,) = [cell for cell in cells if "model.fit(" in cell.source]
    text = "".join(output.get("text", "") for output in fit.outputs)
    assert len(re.findall(r"(?m)^epoch", text)) == 2
    assert not any(output.get("name") == "stderr" for cell in cells for output in cell.outputs)


@every_way
def test_error_in_a_cell_gives_its_message_and_a_non_zero_exit(way, project, elsewhere):
    code, output = run(way, project, elsewhere, OCR_EPOCH="2")
    assert code != 0
    assert "OCR_EPOCH is not a parameter. Did you mean OCR_EPOCHS?" in without_colours(output), output


def test_missing_folder_is_named_in_full_relative_to_the_project(project, elsewhere):
    code, output = run("ipython", project, elsewhere, OCR_DATA_DIR="no/such folder")
    assert code != 0
    assert f"Expected a folder of images at {project}/no/such folder" in without_colours(output)


def test_one_epoch_is_enough_to_finish_with_a_warning(project, image_folder):
    code, output = run(
        "ipython", project, project, **TWO_EPOCHS | {"OCR_EPOCHS": "1"}, OCR_DATA_DIR=str(image_folder)
    )
    assert code == 0, output
    assert "WARNING: not one validation image was ever read" in output
    assert (project / "runs" / "tiny run" / "reader.keras").exists()


def test_killed_run_goes_on_and_ends_with_the_weights_of_one_that_never_was_killed(project, image_folder):
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
    assert "goes on with the unfinished run" in output
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


def test_training_on_shipped_images_lowers_the_loss_and_saves_what_it_reads(project, shipped, tmp_path):
    folder = tmp_path / "shipped"
    folder.mkdir()
    for path in shipped[::4]:
        shutil.copy(path, folder)
    variables = {
        "OCR_EPOCHS": "5",
        "OCR_BATCH_SIZE": "16",
        "OCR_RUN_NAME": "run",
        "OCR_DATA_DIR": str(folder),
    }
    code, output = run("ipython", project, project, **variables)
    assert code == 0, output
    losses = [float(loss) for loss in re.findall(r"(?m)^epoch .*? loss +([\d.]+)", output)]
    assert len(losses) == 5
    assert losses[-1] < 0.75 * losses[0]
    assert "reads every test image as the model in memory does" in output


def test_papermill_sets_parameters_and_wins_over_the_environment(project, elsewhere, image_folder):
    out = elsewhere / "out.ipynb"
    command = [BIN / "papermill", project / "ocr.ipynb", out, "--cwd", project, "-p", "epochs", "1"]
    environment = user_environment(**TWO_EPOCHS | {"OCR_EPOCHS": "3", "OCR_DATA_DIR": str(image_folder)})
    subprocess.run(command, cwd=elsewhere, env=environment, check=True, capture_output=True)
    run = json.loads((project / "runs" / "tiny run" / "metrics.json").read_text())["run"]
    assert run["epochs"] == 1


def test_papermill_knows_every_parameter():
    assert list(papermill.inspect_notebook(str(NOTEBOOK))) == list(PARAMETERS)


def test_notebook_trains_on_the_jax_backend(project, image_folder):
    variables = TWO_EPOCHS | {"KERAS_BACKEND": "jax", "OCR_DATA_DIR": str(image_folder)}
    code, output = run("ipython", project, project, **variables)
    assert code == 0, output
    run_dir = project / "runs" / "tiny run"
    assert json.loads((run_dir / "config.json").read_text())["environment"]["backend"] == "jax"
    assert len((run_dir / "history.csv").read_text().splitlines()) == 1 + 2
    assert "as the model in memory does" in output


def test_new_run_can_start_from_a_reader_with_a_grown_alphabet(project, image_folder):
    variables = TWO_EPOCHS | {"OCR_DATA_DIR": str(image_folder)}
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
    assert "image size 80×20: that of the reader to start from" in output
    assert re.search(r"starts from a reader: \d+ characters keep their weights, 2 new: Z Ä", output)
    known, grown = Reader.load(first), Reader.load(project / "runs" / "tiny run-2" / "reader.keras")
    assert set(grown.alphabet.characters) == set(known.alphabet.characters) | set("ZÄ")


def test_labels_in_any_script_train_and_read_back(project, tmp_path):
    folder = tmp_path / "scripts"
    folder.mkdir()
    labels = [
        "\u0645\u0631\u062d",
        "日本語",
        "ẹ\u0301x",
    ]  # Arabic; Chinese characters; a mark that stays apart
    rng = np.random.default_rng(0)
    patterns = {character: rng.integers(0, 2, size=(20, 6)) for character in "".join(labels)}
    for label in labels:
        for number in range(16):
            drawn = np.hstack([np.pad(patterns[c], ((0, 0), (4, 4))) for c in label]).repeat(2, axis=1)
            pixels = np.clip(240 - 200 * drawn + rng.normal(0, 8, size=drawn.shape), 0, 255).astype("uint8")
            Image.fromarray(pixels).save(folder / f"{label}_{number}.png")
    variables = {"OCR_EPOCHS": "40", "OCR_BATCH_SIZE": "4", "OCR_AUGMENTATION": "0", "OCR_DROPOUT": "0"}
    code, output = run("ipython", project, project, **variables, OCR_RUN_NAME="run", OCR_DATA_DIR=str(folder))
    assert code == 0, output
    reader = Reader.load(project / "runs" / "run" / "reader.keras")
    paths = sorted(folder.iterdir())
    read = [reading.text for reading in reader.read(paths)]
    assert np.mean([text == path.stem.split("_")[0] for text, path in zip(read, paths, strict=True)]) > 0.9


def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells():
    return [cell for cell in notebook().cells if cell.cell_type == "code"]


def test_notebook_stays_a_text_of_a_quarter_of_an_hour():
    assert len(code_cells()) <= 27
    assert sum(len(cell.source.splitlines()) for cell in code_cells()) <= 230


def test_sections_come_in_order():
    headings = re.findall(
        r"(?m)^## (.*)", "\n".join(c.source for c in notebook().cells if c.cell_type == "markdown")
    )
    assert headings == [
        "Setup",
        "Configuration",
        "Load the data",
        "Look at the data",
        "Build the model",
        "Train",
        "Results",
        "Read new images",
        "Conclusion",
    ]


def test_committed_outputs_are_of_one_clean_complete_run_in_order():
    cells = code_cells()
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [
        output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"
    ]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == len(FIGURES)
    cleaned = notebook()
    clean(cleaned)
    assert cleaned == notebook()
    assert not re.findall(r"/(home|root|work|tmp|Users)/", json.dumps(notebook()))


def test_committed_outputs_are_of_the_shipped_images(shipped):
    text = json.dumps(notebook())
    assert f"images: {len(shipped)}" in text
    assert "new run: runs/captcha_images-" in text
    assert "epoch   1/" in text
    assert "data_dir = 'captcha_images'" in text
