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
from PIL import Image, ImageDraw

from snippet_ocr import files
from snippet_ocr.cli import parse_lengths
from snippet_ocr.terminal import escape, printable, progress
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
        count: the number of images, 1 or more.
        drawing: a `Drawing`.
        processes: the number of processes; by default, one per core. The images do not depend on it.

    Raises:
        ValueError: if `count` is below 1, if `out` has files, or if no font has the characters of a text.
        OSError: if a file cannot be written.
    """
    if count < 1:
        raise ValueError(f"Expected a count of 1 or more. Received: {count}")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"Expected a new or empty folder at {out}. Found files. Choose another folder.")
    numbers = range(1, count + 1)
    for character in sorted({*"".join(drawing.text(number)[0] for number in numbers[:1000])}):
        choose_font(
            character, ".", drawing.fonts, np.random.default_rng(0)
        )  # raises before files are written
    out.mkdir(parents=True, exist_ok=True)
    # After a kill, the folder must not train with the numbers as labels.
    files.write_csv(out / LABELS_FILE, [], ["file", "text"])
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


def draw_contact_sheet(path, drawing, columns=6, width=150, height=44):
    """Writes a PNG file with a row of examples for each style of a `Drawing`."""
    sheet = Image.new("L", (columns * width + 90, len(drawing.styles) * height), 255)
    for row, style in enumerate(drawing.styles):
        ImageDraw.Draw(sheet).text((6, row * height + height / 2), style, 0, anchor="lm", font_size=14)
        for column in range(columns):
            _, image = drawing._replace(styles=(style,)).image(row * columns + column)
            image.thumbnail((width - 6, height - 4))
            sheet.paste(image, (90 + column * width, row * height + (height - image.height) // 2))
    with files.atomic_write(path) as unfinished:
        sheet.quantize(32).save(unfinished, optimize=True)


def _drawing(options):
    """Returns the `Drawing` that the options of the command describe."""
    styles, lengths = tuple(options.styles.split(",")), options.length or texts.LENGTHS
    if unknown := [style for style in styles if style not in STYLES]:
        raise ValueError(f"Expected styles among {', '.join(STYLES)}. Received: {', '.join(unknown)}")
    if not 1 <= lengths[0] <= lengths[1]:
        raise ValueError(f"Expected lengths of 1 or more, the shortest first. Received: {lengths}")
    if not HEIGHT_LIMITS[0] <= options.height[0] <= options.height[1] <= HEIGHT_LIMITS[1]:
        raise ValueError(
            "Expected heights from {} to {} pixels. Received: {}".format(*HEIGHT_LIMITS, options.height)
        )
    if options.seed < 0:
        raise ValueError(f"Expected a seed of 0 or more. Received: {options.seed}")
    source = None
    if options.pattern:
        source = functools.partial(texts.pattern_text, options.pattern)
    elif options.words:
        source = functools.partial(texts.pick, texts.texts_of(options.words))
    elif options.like:
        source = texts.Chain(texts.labels_of(options.like))
    elif options.alphabet or options.length:
        source = functools.partial(texts.random_text, options.alphabet or texts.ALPHANUMERIC, lengths)
    return Drawing(find_fonts(options.fonts), source, styles, options.height, options.seed)


def main(arguments=None):
    """Runs the command line and returns the exit code."""
    example = 'Example: python -m tools.draw_text meters --count 2000 --styles display --pattern "99999.9"'
    parser = argparse.ArgumentParser("python -m tools.draw_text", description=__doc__, epilog=example)
    option, either = parser.add_argument, parser.add_mutually_exclusive_group().add_argument
    lengths = {"metavar": "N|MIN-MAX", "type": parse_lengths}
    option("out", metavar="OUT", nargs="?", type=Path, help="the folder to write; new or empty")
    option("--count", type=int, default=1000, help="number of images (default: %(default)s)")
    option("--styles", default=",".join(STYLES), help="styles to draw from (default: all: %(default)s)")
    either("--alphabet", help="random texts of these characters (default: words, numbers, dates, prices, …)")
    either("--pattern", help="texts such as AA-9999: A, a are letters, 9 a digit, X, x either, \\A an A")
    either("--words", metavar="FILE", type=Path, help="texts from a file, one per line")
    either("--like", metavar="FOLDER", type=Path, help="texts similar to the labels of a folder of images")
    option("--length", **lengths, help="number of characters of random texts (default: 1-16)")
    option("--fonts", metavar="FOLDER", type=Path, help="use only the fonts below this folder")
    option(
        "--height", **lengths, default="24-96", help="height of the images in pixels (default: %(default)s)"
    )
    option("--seed", type=int, default=0, help="another seed draws other images (default: %(default)s)")
    option("--contact-sheet", metavar="FILE", type=Path, help="write a picture with examples of each style")
    options = parser.parse_args(arguments)
    if not (options.out or options.contact_sheet):
        parser.error("expected OUT, a folder, or --contact-sheet FILE")
    try:
        drawing = _drawing(options)
        if options.contact_sheet:
            draw_contact_sheet(options.contact_sheet, drawing)
        if options.out:
            draw(options.out, options.count, drawing)
            print(f"{options.count} images in {printable(options.out.absolute())}")
    except (OSError, ValueError) as error:
        print(escape(printable(str(error))), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
