"""Draws images of short texts, as photos and scans show them, with a `labels.csv`: to train on, or to practise."""

import argparse
import functools
import multiprocessing
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from snippet_ocr import files
from snippet_ocr.cli import parse_lengths
from snippet_ocr.terminal import escape, printable, progress
from tools.drawing import texts
from tools.drawing.fonts import draws, find_fonts
from tools.drawing.image import draw_image
from tools.drawing.styles import STYLES
from training.labels import LABELS_FILE

HEIGHTS = 24, 96  # pixels
HEIGHT_LIMITS = 12, 512
CHUNK = 50  # images that a process draws before it reports


class Drawing:
    """What is drawn: image `number` depends only on the arguments and on that number.

    Args:
        source: a function that returns a text, given a NumPy random generator; by default, the texts are the
            mix of each style.
        styles: names of styles, keys of `STYLES`.
        fonts: the folder of the fonts; by default, those of matplotlib and of the system are used.
        heights: a tuple of the minimum and the maximum height of an image, in pixels.
        seed: an integer, 0 or more.

    Raises:
        ValueError: if an argument is out of range, or if there are no fonts.
    """

    def __init__(self, source=None, styles=tuple(STYLES), fonts=None, heights=HEIGHTS, seed=0):
        if unknown := [name for name in styles if name not in STYLES] or not styles:
            raise ValueError(f"Expected styles among {', '.join(STYLES)}. Received: {unknown or 'none'}")
        if not HEIGHT_LIMITS[0] <= heights[0] <= heights[1] <= HEIGHT_LIMITS[1]:
            raise ValueError(
                f"Expected heights from {HEIGHT_LIMITS[0]} to {HEIGHT_LIMITS[1]} pixels. Received: {heights}"
            )
        if seed < 0:
            raise ValueError(f"Expected a seed of 0 or more. Received: {seed}")
        self.source, self.styles, self.heights, self.seed = source, styles, heights, seed
        self.fonts = tuple(find_fonts(fonts))

    def text(self, number):
        """Returns the text of an image, the name of its style, and the generator that draws the rest."""
        generator = np.random.default_rng((self.seed, number))
        style = texts.pick(generator, self.styles)
        text = self.source(generator) if self.source else texts.mixed_text(generator, STYLES[style].mix)
        return text, style, generator

    def image(self, number):
        """Returns the text and the image, a grey Pillow image."""
        text, style, generator = self.text(number)
        return text, draw_image(text, style, self.fonts, self.heights, generator)

    def check_characters(self, count):
        """Raises a `ValueError` if no font has a character of the first texts."""
        characters = sorted({*"".join(self.text(number)[0] for number in range(1, min(count, 1000) + 1))})
        missing = [one for one in characters if not any(draws(path, one) for path in self.fonts)]
        if missing:
            raise ValueError(
                f"Expected fonts with all characters of the texts. None of {len(self.fonts)} fonts has "
                f"{' '.join(missing)}. Install a font that does, or pass its folder with --fonts."
            )


def draw(out, count, drawing, processes=None):
    """Writes `000001.png` and so on, and the texts as `labels.csv`, into a folder.

    Args:
        out: the path of the folder; it must be new or empty.
        count: the number of images, 1 or more.
        drawing: a `Drawing`.
        processes: the number of processes; by default, one per core. The images do not depend on it.

    Returns:
        The list of the texts.

    Raises:
        ValueError: if `count` is below 1, if `out` has files, or if no font has the characters of a text.
        OSError: if a file cannot be written.
    """
    out = Path(out)
    if count < 1:
        raise ValueError(f"Expected a count of 1 or more. Received: {count}")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"Expected a new or empty folder at {out}. Found files. Choose another folder.")
    drawing.check_characters(count)
    out.mkdir(parents=True, exist_ok=True)
    # After a kill, the folder must not train with the numbers as labels.
    files.write_csv(out / LABELS_FILE, [], ["file", "text"])
    work, numbers = functools.partial(_draw_file, out, drawing), range(1, count + 1)
    processes = min(processes or len(os.sched_getaffinity(0)), -(-count // CHUNK))
    if processes == 1:
        rows = list(progress(map(work, numbers), count, "images drawn"))
    else:
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            rows = list(progress(pool.imap(work, numbers, CHUNK), count, "images drawn"))
    files.write_csv(out / LABELS_FILE, rows)
    return [row["text"] for row in rows]


def _draw_file(out, drawing, number):
    text, image = drawing.image(number)
    name = f"{number:06}.png"
    image.save(out / name, compress_level=1)
    return {"file": name, "text": text}


def draw_contact_sheet(path, drawing, columns=6, width=150, height=44):
    """Writes a PNG file with a row of examples for each style of a `Drawing`."""
    sheet = Image.new("L", (columns * width + 90, len(drawing.styles) * height), 255)
    number = 0
    for row, style in enumerate(drawing.styles):
        ImageDraw.Draw(sheet).text((6, row * height + height / 2), style, 0, anchor="lm", font_size=14)
        for column in range(columns):
            number += 1
            while drawing.text(number)[1] != style:
                number += 1
            image = drawing.image(number)[1]
            image.thumbnail((width - 6, height - 4))
            sheet.paste(image, (90 + column * width, row * height + (height - image.height) // 2))
    with files.atomic_write(Path(path)) as unfinished:
        sheet.quantize(24).save(unfinished, optimize=True)


def _source(options):
    """Returns the function that draws the texts, or None for the mix."""
    if options.pattern:
        return functools.partial(texts.pattern_text, options.pattern)
    if options.words:
        return functools.partial(texts.word_text, texts.words_of(options.words))
    if options.like:
        return texts.Chain(texts.labels_of(options.like))
    if options.alphabet or options.length:
        if not 1 <= (options.length or (1, 16))[0] <= (options.length or (1, 16))[1]:
            raise ValueError(f"Expected lengths of 1 or more, the shortest first. Received: {options.length}")
        return functools.partial(
            texts.random_text, options.alphabet or texts.ALPHANUMERIC, options.length or (1, 16)
        )
    return None


def main(arguments=None):
    """Runs the command line and returns the exit code."""
    example = (
        'Example: python -m tools.draw_text meters --count 2000 --styles display,plate --pattern "99999.9"'
    )
    parser = argparse.ArgumentParser("python -m tools.draw_text", description=__doc__, epilog=example)
    option, group = parser.add_argument, parser.add_mutually_exclusive_group().add_argument
    option("out", metavar="OUT", nargs="?", type=Path, help="the folder to write; new or empty")
    option("--count", type=int, default=1000, help="number of images (default: %(default)s)")
    option(
        "--styles",
        default=",".join(STYLES),
        metavar="STYLE,…",
        help="styles to draw from (default: %(default)s)",
    )
    group("--alphabet", help="random texts of these characters (default: a mix of words, numbers, dates, …)")
    group(
        "--pattern",
        help="texts such as AA-9999: A, a: letter; 9: digit; X, x: either; \\A: the letter A itself",
    )
    group("--words", metavar="FILE", type=Path, help="texts from a file, one per line")
    group("--like", metavar="FOLDER", type=Path, help="texts that resemble the labels of a folder of images")
    option(
        "--length",
        metavar="N|MIN-MAX",
        type=parse_lengths,
        help="characters of a random text (default: 1-16)",
    )
    option("--fonts", metavar="FOLDER", type=Path, help="use only the fonts below this folder")
    heights = {"metavar": "N|MIN-MAX", "type": parse_lengths, "default": "{}-{}".format(*HEIGHTS)}
    option("--height", **heights, help="height of the images in pixels (default: %(default)s)")
    option("--seed", type=int, default=0, help="another seed draws other images (default: %(default)s)")
    option(
        "--contact-sheet",
        metavar="FILE",
        type=Path,
        help="draw a few examples of each style into one PNG file",
    )
    options = parser.parse_args(arguments)
    if not (options.out or options.contact_sheet):
        parser.error("expected OUT, a folder, or --contact-sheet FILE")
    try:
        styles = tuple(options.styles.split(","))
        drawing = Drawing(_source(options), styles, options.fonts, options.height, options.seed)
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
