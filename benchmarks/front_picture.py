"""Draws the picture of the front page, docs/reading.png: a meter, its heat map and its text.

    python -m benchmarks.front_picture

draws 400 meter displays, trains the notebook on them for 12 epochs, and reads one more display.
"""

import tempfile
import time
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from snippet_ocr import Reader
from tools.notebook import run_notebook
from training import PROJECT, ctc_plots, plots

FONT = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf")
CELL, HEIGHT, MARGIN = 34, 50, 8


def draw_meter(text, generator):
    """Draws a mechanical meter: a drum for each digit, the last one red as a decimal place.

    Args:
        text: the digits.
        generator: a `numpy.random.Generator`, for position, brightness, blur and noise.

    Returns:
        A grey uint8 array of shape `(50, 34 * len(text) + 16)`.
    """
    image = Image.new("L", (CELL * len(text) + 2 * MARGIN, HEIGHT), int(generator.integers(95, 150)))
    draw = ImageDraw.Draw(image)
    font = ImageFont.truetype(str(FONT), 30)
    for place, digit in enumerate(text):
        left = MARGIN + CELL * place
        draw.rectangle((left + 2, 4, left + CELL - 3, HEIGHT - 5), fill=25 if place < len(text) - 1 else 70)
        middle = left + CELL / 2 + generator.normal(0, 0.8), HEIGHT / 2 + generator.normal(0, 3)
        draw.text(middle, digit, font=font, fill=235, anchor="mm")
    image = image.rotate(generator.normal(0, 1), Image.Resampling.BILINEAR, fillcolor=120)
    image = image.filter(ImageFilter.GaussianBlur(generator.uniform(0.4, 1.2)))
    return np.clip(np.asarray(image) + generator.normal(0, 9, image.size[::-1]), 0, 255).astype("uint8")


def main():
    """Draws the meters, trains, and writes the picture."""
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for text in sorted({"".join(map(str, generator.integers(0, 10, 5))) for _ in range(400)}):
            Image.fromarray(draw_meter(text, generator)).save(Path(folder, f"{text}.png"))
        name = f"front-picture-{time.time():.0f}"
        run_dir = run_notebook({"data_dir": folder, "run_name": name, "epochs": 12})
    reader = Reader.load(run_dir / "reader.keras")
    (image,) = reader.prepare([draw_meter("04187", np.random.default_rng(1))])
    plots.save_all(PROJECT / "docs", reading=ctc_plots.reading(reader, image))


if __name__ == "__main__":
    main()
