"""The notebook as a text, and one run of it from top to bottom."""

import csv
import json
import re

import nbformat
from notebook_runs import FIGURES, SHOWN, TWO_EPOCHS, run
from PIL import Image

from snippet_ocr.reader import Reader
from tools.notebook import clean
from training.parameters import NOTEBOOK


def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells():
    return [cell for cell in notebook().cells if cell.cell_type == "code"]


def test_runipy_runs_the_notebook_from_another_folder(project, tmp_path, image_folder):
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    code, output = run("runipy", project, elsewhere, **TWO_EPOCHS, OCR_DATA_DIR=str(image_folder))
    assert code == 0, output
    run_dir = project / "runs" / "tiny run"
    for epoch in (1, 2):  # once on the terminal, and before the cell has ended
        lines = re.findall(rf"(?m)^epoch +{epoch}/2 .*loss.*exact match.*min left$", output)
        assert len(lines) == 1
    assert output.index("epoch   2/2") < output.index(
        "Running cell", output.index("= train(training, run_dir, message)")
    )
    assert output.count("training 24, validation 3, test 3 images") == 1
    assert len(re.findall(r"(?m)^test  +3 ", output)) == 1
    check_results(run_dir, image_folder)


def check_results(run_dir, image_folder):
    """Checks the files that a run of two epochs leaves."""
    for figure in FIGURES:
        with Image.open(run_dir / f"{figure}.png") as image:
            assert image.format == "PNG"
    metrics = json.loads((run_dir / "metrics.json").read_text())
    images = {split: score["images"] for split, score in metrics["scores"].items()}
    assert images == {"training": 24, "validation": 3, "test": 3}
    assert (metrics["run"]["seed"], metrics["run"]["epochs"]) == (7, 2)
    assert (metrics["calibration"]["readings"], metrics["calibration"]["threshold"]) == (3, None)
    assert 0 <= metrics["calibration"]["test"]["calibration_error"] <= 1
    config = json.loads((run_dir / "config.json").read_text())
    assert config["identity"]["parameter image_width"] == 80
    with (run_dir / "test_readings.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["right"]) for row in rows) == metrics["scores"]["test"]["right"]
    assert all((image_folder / row["file"]).exists() and row["label"] in row["file"] for row in rows)
    assert (run_dir / "reader.keras").is_file()
    reader = Reader.load(run_dir / "reader.onnx")
    assert (reader.widths, reader.image_height) == ([80], 20)
    assert len(reader.read(sorted(image_folder.iterdir()))) == 30


def test_notebook_stays_a_text_of_a_quarter_of_an_hour():
    lines = [line.strip() for cell in code_cells() for line in cell.source.splitlines()]
    assert len(code_cells()) <= 25
    assert sum(bool(line) and not line.startswith("#") for line in lines) <= 260


def test_sections_come_in_order():
    text = "\n".join(cell.source for cell in notebook().cells if cell.cell_type == "markdown")
    assert re.findall(r"(?m)^## (.*)", text) == [
        "Setup",
        "Configuration",
        "Data",
        "CTC on paper",
        "Model",
        "Train",
        "Results",
        "Confidence",
        "Read new images",
        "Conclusion",
        "Exercises",
    ]


def test_committed_outputs_are_one_clean_complete_run():
    cells = code_cells()
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [one for one in outputs if one.output_type == "error" or one.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= SHOWN
    cleaned = notebook()
    clean(cleaned)
    assert cleaned == notebook()
    assert not re.findall(r"/(home|root|work|tmp|Users)/", json.dumps(notebook()))


def test_committed_outputs_are_of_the_shipped_images(shipped):
    text = json.dumps(notebook())
    assert f"images           {len(shipped)}" in text
    assert "new run: runs/captcha_images-" in text
    assert "epoch   1/" in text
    assert "settings other than the defaults: none" in text
