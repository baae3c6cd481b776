"""Can a reader read two rows of text? Drawn plates, and pairs of real images one above the other.

    python -m benchmarks.two_rows [FOLDER …] [--images 1000] [--epochs 40]

draws plates of two rows, and stacks pairs of the labelled images of each folder. The notebook is trained on
them and scored on 300 other plates, or on pairs of a fifth of the folder's images, which are in no pair of
the training. The rows are appended to benchmarks/results/two_rows.jsonl.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

import utils
from benchmarks.study import SEED, measure_held_out, rows_table
from snippet_ocr import files
from snippet_ocr.images import load_image
from tools.drawing.fonts import MATPLOTLIB, find_fonts, load_font
from tools.drawing.image import choose_font
from tools.drawing.texts import pattern_text, pick

HELD_OUT = 300  # drawn plates
PATTERNS = "AA-99\n9999", "AAA\n999", "A 999\nAA 99", "99-AA\n999.99", "9999-99-99\n99:99"
COLUMNS = {
    "images": "{two rows}",
    "labels": "{labels}",
    "training images": "{training images}",
    "exact match (95% interval)": (
        "{test[right]} of {test[images]}, {test[exact_match]:.1%} "
        "({test[interval][0]:.1%}–{test[interval][1]:.1%})"
    ),
    "character error rate": "{test[character_error_rate]:.2%}",
    "seconds": "{seconds:.0f}",
}
"""The table's columns, as in `study.rows_table`."""


def draw_plate(text, fonts, generator):
    """Draws a text of two rows in one font, each row in its own size; returns a grey Pillow image."""
    uniform, path = generator.uniform, choose_font(text.replace("\n", ""), ".", fonts, generator)
    ink, paper = uniform(0, 80), uniform(160, 255)
    rows = [(row, load_font(path, size=int(uniform(26, 40)))) for row in text.split("\n")]
    boxes = [font.getbbox(row) for row, font in rows]
    width = max(right - left for left, _, right, _ in boxes) + int(uniform(10, 30))
    gaps = uniform(4, 12, len(rows) + 1).astype(int)
    image = Image.new("L", (width, sum(bottom - top for _, top, _, bottom in boxes) + gaps.sum()), int(paper))
    y = 0
    for (row, font), (left, top, right, bottom), gap in zip(rows, boxes, gaps, strict=False):
        x = uniform(0.3, 0.7) * (width - (right - left))  # about centred
        ImageDraw.Draw(image).text((x - left, y + gap - top), row, int(ink), font)
        y += gap + bottom - top
    image = image.rotate(uniform(-3, 3), Image.Resampling.BICUBIC, fillcolor=int(paper))
    image = image.filter(ImageFilter.GaussianBlur(uniform(0, 1)))
    pixels = np.asarray(image) + generator.normal(0, 8, (image.height, image.width))
    return Image.fromarray(pixels.clip(0, 255).astype("uint8"))


def stack(above, below):
    """Puts an image above another one of the same width; both are uint8 arrays of shape `(height, width)`."""
    size = above.shape[1], round(below.shape[0] * above.shape[1] / below.shape[1])
    return Image.fromarray(np.vstack([above, np.asarray(Image.fromarray(below).resize(size))]))


def save(folder, pairs):
    """Saves pairs of an image and its text in a new folder, with a `labels.csv`; returns the `Sample`s."""
    folder.mkdir()
    rows = []
    for number, (image, text) in enumerate(pairs):
        image.save(folder / f"{number:05}.png")
        rows.append({"file": f"{number:05}.png", "text": text})
    files.write_csv(folder / "labels.csv", rows)
    return utils.find_images(folder)[0]


def drawn_plates(count, seed):
    """Yields pairs of the image and the text of a plate."""
    fonts = find_fonts(MATPLOTLIB)
    for number in range(count):
        generator = np.random.default_rng((seed, number))
        text = pattern_text(pick(PATTERNS, generator), generator)
        yield draw_plate(text, fonts, generator), text


def stacked_pairs(samples, seed):
    """Yields pairs of a stacked image and its text; each sample is once above and once below another one."""
    order = np.random.default_rng(seed).permutation(len(samples))
    for one, other in zip(order, np.roll(order, 1), strict=True):
        above, below = samples[one], samples[other]
        yield stack(load_image(above.path), load_image(below.path)), f"{above.label}\n{below.label}"


def train(name, given, held_out, **settings):
    """Trains with line breaks in the labels, and with texts that run on; returns the recorded rows."""
    recorded = []
    for labels, separator, rows in (("line breaks", "\n", {}), ("run on", "", {"rows": 2})):
        splits = (
            [sample._replace(label=sample.label.replace("\n", separator)) for sample in split]
            for split in (given, held_out)
        )
        case = {"two rows": name, "labels": labels}
        recorded.append(measure_held_out("two_rows", case, *splits, name, **rows, **settings))
    return recorded


def main(arguments=None):
    """Runs the benchmark and returns the exit code."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.two_rows", description="Trains readers of two rows."
    )
    parser.add_argument("folders", nargs="*", metavar="FOLDER", type=Path, help="labelled images to stack")
    parser.add_argument("--images", type=int, default=1000, help="drawn plates to train on (default: 1000)")
    parser.add_argument("--held-out", type=int, default=HELD_OUT, help="and to score (default: 300)")
    parser.add_argument("--epochs", type=int, default=40, help="of each training (default: 40)")
    options = parser.parse_args(arguments)
    rows = []
    with tempfile.TemporaryDirectory() as parent:
        counts = options.images, options.held_out
        splits = [
            save(Path(parent, str(seed)), drawn_plates(count, seed)) for seed, count in enumerate(counts)
        ]
        rows += train("drawn plates", *splits, epochs=options.epochs)
        for number, folder in enumerate(options.folders):
            training, validation, test = utils.split_data(utils.find_images(folder)[0], SEED, test_share=0.2)
            splits = [
                save(Path(parent, f"{folder.name} {number} {seed}"), stacked_pairs(samples, seed))
                for seed, samples in enumerate((training + validation, test))
            ]
            rows += train(f"pairs of {folder.name}", *splits, epochs=options.epochs)
    print(rows_table(COLUMNS, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
