"""Images of two rows, some without text: the model learns them, and the notebook trains on them in groups."""

import csv
import json

import keras
import numpy as np
from notebook_runs import TWO_EPOCHS, run
from PIL import Image, ImageDraw, ImageFont

from benchmarks.two_rows import drawn_plates
from snippet_ocr import Reader
from snippet_ocr.alphabet import Alphabet
from snippet_ocr.files import write_csv
from tools.notebook import load_build_model
from training import metrics
from training.fast_gru import speed_up

ALPHABET = Alphabet("\n0123456789")


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
    assert "up to 40 time steps" in output  # two rows of 80 pixels, four for each step
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


def draw_numbers(count, seed):
    """Returns images of two rows of digits, uint8 of shape `(count, 48, 48)`, and texts; a sixth is empty."""
    generator, font = np.random.default_rng(seed), ImageFont.load_default(18)
    images, texts = [], []
    for number in range(count):
        rows = ["".join(generator.choice([*"0123456789"], 2)) for _ in range(2)] if number % 6 else []
        image = Image.new("L", (48, 48), 220)
        for row, text in enumerate(rows):
            place = 8 + generator.integers(-4, 8), 2 + 24 * row + generator.integers(-1, 3)
            ImageDraw.Draw(image).text(place, text, 20, font)
        images.append(image + generator.normal(0, 8, (48, 48)))
        texts.append("\n".join(rows))
    return np.clip(images, 0, 255).astype("uint8"), texts


def test_model_learns_two_rows_and_empty_images():
    keras.utils.set_random_seed(0)
    model = load_build_model()(48, 5, ALPHABET.number_of_classes, 0.1, rows=2)
    model.compile(keras.optimizers.Adam(0.003, global_clipnorm=1.0))
    images, texts = draw_numbers(600, 0)
    labels = ALPHABET.encode_batch(texts, 5)
    speed_up(model).fit([images, labels], batch_size=16, epochs=7, verbose=0)
    reader = Reader(keras.Model(model.inputs[0], model.get_layer("logits").output), ALPHABET, [48])
    images, texts = draw_numbers(120, 1)
    readings = reader.read(list(images))
    score = metrics.score(texts, [reading.text for reading in readings], {*texts})
    assert score["right"] >= 108
    assert score["no_text"]["right"] >= 18
    assert np.median([one.confidence for one in readings if not one.text]) > 0.9
