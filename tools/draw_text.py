"""Draws images of short texts, as photos and scans show them, and their `labels.csv`."""

import argparse
import functools
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from snippet_ocr import files
from snippet_ocr.cli import parse_lengths
from snippet_ocr.terminal import escape, printable, progress
from tools.crop import create_folder
from tools.drawing import texts
from tools.drawing.fonts import find_fonts
from tools.drawing.image import choose_font, draw_image
from tools.drawing.styles import STYLES
from training.labels import LABELS_FILE

HEIGHTS = 24, 96  # pixels
HEIGHT_LIMITS = 12, 512
CHUNK = 50  # images that a process draws before it reports


class Drawing(NamedTuple):
    """What is drawn. An image depends only on these values and on its number."""

    fonts: tuple  # of paths, as `fonts.find_fonts` returns them
    source: object = None  # a function from a NumPy random generator to a text; None: the mix of each style
    styles: tuple = tuple(STYLES)
    heights: tuple = HEIGHTS  # minimum and maximum of the images, in pixels
    seed: int = 0

    def text(self, number):
        """Returns an image's text, the name of its style, and the generator for the rest of the image."""
        generator = np.random.default_rng((self.seed, number))
        style = texts.pick(self.styles, generator)
        source = self.source or functools.partial(texts.mixed_text, STYLES[style].mix)
        for _ in range(1000):
            if text := source(generator).strip():  # spaces at the ends cannot be seen
                return text, style, generator
        raise ValueError("Expected texts with characters. Received: only spaces")

    def image(self, number):
        """Returns an image's text and the grey Pillow image."""
        text, style, generator = self.text(number)
        return text, draw_image(text, style, self.fonts, self.heights, generator)


def draw(out, count, drawing, processes=None):
    """Writes `000001.png` and so on, and the texts as `labels.csv`, into a folder.

    Args:
        out: the `Path` of the folder; it must be new or empty.
        count, drawing: the number of images, 1 or more, and a `Drawing`.
        processes: the number of processes; by default, one per core. The images do not depend on it.

    Raises:
        ValueError: if `out` has files, or if no font has the characters of a text.
        OSError: if a file cannot be written.
    """
    numbers, any_generator = range(1, count + 1), np.random.default_rng(0)
    for character in sorted({*"".join(drawing.text(number)[0] for number in numbers[:1000])}):
        choose_font(character, ".", drawing.fonts, any_generator)  # raises before files are written
    create_folder(out)
    work = functools.partial(_draw_file, out, drawing)
    processes = min(processes or os.cpu_count(), -(-count // CHUNK))
    if processes == 1:
        rows = list(progress(map(work, numbers), count, "images drawn"))
    else:
        with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
            rows = list(progress(pool.map(work, numbers, chunksize=CHUNK), count, "images drawn"))
    files.write_csv(out / LABELS_FILE, rows)


def _draw_file(out, drawing, number):
    """Writes an image; returns its row of the label file."""
    text, image = drawing.image(number)
    image.save(out / f"{number:06}.png", compress_level=1)
    return {"file": f"{number:06}.png", "text": text}


def _drawing(options):
    """Returns the `Drawing` that the options of the command describe."""
    styles, lengths, height = (
        tuple(options.styles.split(",")),
        options.length or texts.LENGTHS,
        options.height,
    )
    given = next((name for name in ("pattern", "words", "like") if getattr(options, name)), "")
    (low, high), unknown = HEIGHT_LIMITS, [style for style in styles if style not in STYLES]
    for valid, expected, received in (
        (options.count >= 1, "a count of 1 or more", options.count),
        (not unknown, f"styles among {', '.join(STYLES)}", ", ".join(unknown)),
        (1 <= lengths[0] <= lengths[1], "lengths of 1 or more, the shortest first", lengths),
        (low <= height[0] <= height[1] <= high, f"heights from {low} to {high} pixels", height),
        (options.seed >= 0, "a seed of 0 or more", options.seed),
        (not (options.length and given), "--length only for random texts", f"--length and --{given}"),
    ):
        if not valid:
            raise ValueError(f"Expected {expected}. Received: {received}")
    source = None
    if options.pattern:
        source = functools.partial(texts.pattern_text, options.pattern)
    elif options.words:
        source = functools.partial(texts.pick, texts.texts_of(options.words))
    elif options.like:
        source = texts.Chain(texts.labels_of(options.like))
    elif options.alphabet or options.length:
        source = functools.partial(texts.random_text, options.alphabet or texts.ALPHANUMERIC, lengths)
    return Drawing(find_fonts(options.fonts), source, styles, height, options.seed)


def main(arguments=None):
    """Runs the command line and returns the exit code."""
    example = 'Example: python -m tools.draw_text meters --count 2000 --styles display --pattern "99999.9"'
    parser = argparse.ArgumentParser("python -m tools.draw_text", description=__doc__, epilog=example)
    option, either = parser.add_argument, parser.add_mutually_exclusive_group().add_argument
    lengths = {"metavar": "N|MIN-MAX", "type": parse_lengths}
    option("out", metavar="OUT", type=Path, help="the folder to write; new or empty")
    option("--count", type=int, default=1000, help="number of images (default: %(default)s)")
    option("--styles", default=",".join(STYLES), help="styles to draw from (default: all: %(default)s)")
    either("--alphabet", help="random texts of these characters (default: words, numbers, dates, prices, …)")
    either(
        "--pattern",
        help="texts such as AA-9999: A a capital, a a small letter, 9 a digit, X, x with digits, \\A an A",
    )
    either("--words", metavar="FILE", type=Path, help="texts from a file, one per line")
    either("--like", metavar="FOLDER", type=Path, help="texts similar to the labels of a folder of images")
    option("--length", **lengths, help="number of characters of random texts (default: 1-16)")
    option("--fonts", metavar="FOLDER", type=Path, help="use only the fonts below this folder")
    option("--height", **lengths, default="24-96", help="height of the images in pixels (default: 24-96)")
    option("--seed", type=int, default=0, help="another seed draws other images (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        draw(options.out, options.count, _drawing(options))
    except (OSError, ValueError) as error:
        print(escape(printable(str(error))), file=sys.stderr)
        return 2
    print(f"{options.count} images in {printable(options.out.absolute())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
