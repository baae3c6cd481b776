"""Draws labelled images of short random texts. Each image is named after its text."""

import argparse
import contextlib
import random
import re
import sys
from pathlib import Path

from captcha.image import ImageCaptcha

from snippet_ocr.cli import parse_lengths
from snippet_ocr.terminal import progress

ALPHABET = "2345678bcdefgmnpwxy"  # without letters and digits that are easily confused


MAX_SIZE = 4096, 1024  # width and height in pixels, as of the notebook's images


def draw_texts(count, lengths, alphabet, seed):
    """Draws random texts: a list of `count` strings. The other arguments are those of `make_captchas`."""
    generator = random.Random(seed)
    return ["".join(generator.choices(alphabet, k=generator.randint(*lengths))) for _ in range(count)]


def make_captchas(count, lengths=(5, 5), alphabet=ALPHABET, size=(200, 50), out="captcha_images", seed=0):
    """Draws labelled images into a folder, each named after its text.

    Existing images are never overwritten: a text that occurs again gets a copy
    number, as in `2b827_1.png`.

    Args:
        count: the number of images, 1 or more.
        lengths: a tuple of the minimum and maximum number of characters, both 1 or more.
        alphabet: a string of the characters to draw from.
        size: a tuple of the width and height of an image in pixels, from 20x20 to `MAX_SIZE`.
        out: the path of the folder, which is created if needed.
        seed: the seed of the texts, an integer. The pixels cannot be seeded: the
            `captcha` package draws them with the operating system's random numbers.

    Returns:
        A list of the `Path`s of the new images.

    Raises:
        ValueError: if an argument is out of range.
    """
    if count < 1:
        raise ValueError(f"Expected a count of 1 or more. Received: {count}")
    if not 1 <= lengths[0] <= lengths[1]:
        raise ValueError(f"Expected lengths of 1 or more, the shortest first. Received: {lengths}")
    if not alphabet or set(alphabet) & set("/\\\0_"):
        raise ValueError(f"Expected an alphabet without /, \\ and _, for file names. Received: {alphabet!r}")
    if min(size) < 20 or size[0] > MAX_SIZE[0] or size[1] > MAX_SIZE[1]:
        limits = f"20x20 to {MAX_SIZE[0]}x{MAX_SIZE[1]}"
        raise ValueError(f"Expected a size of {limits} pixels. Received: {size[0]}x{size[1]}")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    # The package's default font sizes suit images 60 pixels high; in lower images, letters are cut off.
    font_sizes = tuple(max(8, round(size[1] * share)) for share in (0.60, 0.68, 0.76))
    captcha = ImageCaptcha(*size, font_sizes=font_sizes)
    texts = draw_texts(count, lengths, alphabet, seed)
    return [_save(captcha.generate_image(text), out, text) for text in progress(texts, count, "images drawn")]


def _save(image, out, text):
    """Saves an image under the first free name for its text; returns the path."""
    copy_number = 0
    while True:
        path = out / (f"{text}_{copy_number}.png" if copy_number else f"{text}.png")
        with contextlib.suppress(FileExistsError), path.open("xb") as file:
            image.save(file, format="png", optimize=True)
            return path
        copy_number += 1


def _parse_size(text):
    match = re.fullmatch(r"(\d+)[x×](\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT such as 200x50, received {text!r}")
    return int(match[1]), int(match[2])


def main(arguments=None):
    """Runs the command line and returns the exit code."""
    example = "Example: python -m tools.make_captchas --count 500 --length 4-6 --out drawn"
    parser = argparse.ArgumentParser("python -m tools.make_captchas", description=__doc__, epilog=example)
    option = parser.add_argument
    option("--count", type=int, required=True, help="number of images to draw")
    lengths = {"dest": "lengths", "metavar": "N|MIN-MAX", "type": parse_lengths, "default": "5"}
    option("--length", **lengths, help="number of characters per text, or a range (default: %(default)s)")
    option("--alphabet", default=ALPHABET, help="characters to draw from (default: %(default)s)")
    size = {"metavar": "WIDTHxHEIGHT", "type": _parse_size, "default": "200x50"}
    option("--size", **size, help="size of each image in pixels (default: %(default)s)")
    option("--out", required=True, metavar="FOLDER", help="folder to write to; nothing in it is overwritten")
    option("--seed", type=int, default=0, help="seed of the texts, not of the pixels (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        paths = make_captchas(**vars(options))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{len(paths)} new images in {Path(options.out).absolute()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
