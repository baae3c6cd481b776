"""The notebook on images of two rows, some without text, whose groups are a column of the label file."""

import csv
import json

import numpy as np
from notebook_runs import TWO_EPOCHS, run
from PIL import Image

from benchmarks.two_rows import drawn_plates
from snippet_ocr import Reader
from snippet_ocr.files import write_csv


def draw_folder(folder, count=48):
    """Draws plates of eight cameras; every fourth image is empty."""
    rows = []
    for number, (image, text) in enumerate(drawn_plates(count, 0)):
        if number % 4 == 0:
            noise = np.random.default_rng(number).normal(200, 8, (image.height, image.width))
            image, text = Image.fromarray(noise.astype("uint8")), ""
        image.save(folder / f"{number}.png")
        rows.append({"file": f"{number}.png", "text": text, "Camera": f"camera {number % 8}"})
    write_csv(folder / "labels.csv", rows)
    return {row["file"]: row for row in rows}


def test_notebook_trains_on_two_rows_empty_labels_and_groups(project, tmp_path):
    folder = tmp_path / "plates"
    folder.mkdir()
    drawn = draw_folder(folder)
    changed = {"OCR_EPOCHS": "1", "OCR_IMAGE_HEIGHT": "48", "OCR_DATA_DIR": str(folder)}
    changed |= {"OCR_ALLOW_EMPTY": "true", "OCR_GROUP_BY": "camera", "OCR_TEST_SHARE": "0.2"}
    code, output = run("ipython", project, project, **TWO_EPOCHS | changed)
    assert code == 0, output
    assert "no text          12 images" in output
    assert "rows of text in an image: 2 (36 of 48 labels have line breaks)" in output
    assert "40 time steps at most" in output  # two rows of 80 pixels, four for each step
    assert "groups: training 5, validation 1, test 2; none is in two splits" in output

    run_dir = project / "runs" / "tiny run"
    with (run_dir / "test_readings.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == [drawn[row["file"]]["text"] for row in rows]
    cameras = {drawn[row["file"]]["Camera"] for row in rows}
    assert len(cameras) == 2 and len(rows) == 12
    scores = json.loads((run_dir / "metrics.json").read_text())["scores"]
    assert sum(score.get("no_text", {"images": 0})["images"] for score in scores.values()) == 12
    assert "unseen" not in scores["training"] and "unseen" in scores["test"]
    reader = Reader.load(run_dir / "reader.keras")
    assert "\n" in reader.alphabet.characters
    assert (reader.image_height, reader.time_steps) == (48, 40)
