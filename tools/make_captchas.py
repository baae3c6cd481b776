"""Draws labelled images of short texts.

    python -m tools.make_captchas --count 1040 --length 5 --alphabet 2345678bcdefgmnpwxy --out captcha_images

The texts follow from the seed. The pixels do not: the `captcha` package draws
them from the operating system's randomness, which cannot be seeded.
"""

import argparse
import random
import re
import sys
from pathlib import Path

from captcha.image import ImageCaptcha
from tqdm import tqdm

from snippet_ocr.cli import parse_lengths

ALPHABET = "2345678bcdefgmnpwxy"
"""Small letters and digits without those that are easily taken for one another."""


def draw_texts(count, lengths, alphabet, seed):
    """Draws the texts.

    Args:
        count: how many.
        lengths: a tuple of the shortest and the longest length.
        alphabet: a string of the characters to draw from.
        seed: an integer; the same seed gives the same texts.

    Returns:
        A list of strings.
    """
    generator = random.Random(seed)
    return ["".join(generator.choices(alphabet, k=generator.randint(*lengths))) for _ in range(count)]


def make_captchas(count, lengths=(5, 5), alphabet=ALPHABET, size=(200, 50), out="captcha_images", seed=0):
    """Draws labelled images into a folder, each named after its text.

    An image that is there already is never overwritten: a text that occurs
    again gets a copy number, as in `2b827_1.png`.

    Args:
        count: how many images.
        lengths: a tuple of the shortest and the longest text.
        alphabet: a string of the characters to draw from.
        size: the width and the height of an image, in pixels.
        out: the folder, which is made if it is not there.
        seed: the seed of the texts; the pixels cannot be seeded.

    Returns:
        A list of the `Path`s of the new images.

    Raises:
        ValueError: if an argument is out of its range.
    """
    _check(count, lengths, alphabet, size)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    height = size[1]
    # The package's own sizes are made for images 60 pixels high and are cut off below that.
    font_sizes = tuple(max(8, round(height * share)) for share in (0.60, 0.68, 0.76))
    draw = ImageCaptcha(*size, font_sizes=font_sizes)
    paths = []
    for text in tqdm(draw_texts(count, lengths, alphabet, seed), unit="image", file=sys.stderr):
        image = draw.generate_image(text)
        paths.append(_write_new(image, out, text))
    return paths


def _check(count, lengths, alphabet, size):
    if count < 1:
        raise ValueError(f"Expected a count of 1 or more. Received: {count}")
    if not 1 <= lengths[0] <= lengths[1]:
        raise ValueError(f"Expected lengths of 1 or more, the shortest first. Received: {lengths}")
    if not alphabet or set(alphabet) & set("/\\\0"):
        raise ValueError(f"Expected characters that a file name can hold. Received: {alphabet!r}")
    if size[0] < 20 or size[1] < 20:
        raise ValueError(f"Expected at least 20×20 pixels. Received: {size[0]}×{size[1]}")


def _write_new(image, out, text):
    """Writes an image under the first free name of its text."""
    number = 0
    while True:
        path = out / (f"{text}_{number}.png" if number else f"{text}.png")
        try:
            with open(path, "xb") as file:
                image.save(file, format="png", optimize=True)
            return path
        except FileExistsError:
            number += 1


def _size(text):
    match = re.fullmatch(r"(\d+)[x×](\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT such as 200x50, received {text!r}")
    return int(match[1]), int(match[2])


def main(arguments=None):
    """Runs the command line and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.make_captchas", description="Draws labelled images."
    )
    parser.add_argument("--count", type=int, required=True, help="how many images")
    parser.add_argument(
        "--length", type=parse_lengths, default=(5, 5), help="characters, a number or a range: 5 or 3-8"
    )
    parser.add_argument("--alphabet", default=ALPHABET, help=f"characters to draw from (default {ALPHABET})")
    parser.add_argument("--size", type=_size, default=(200, 50), help="pixels, WIDTHxHEIGHT (default 200x50)")
    parser.add_argument("--out", required=True, help="the folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="seed of the texts (the pixels cannot be seeded)")
    options = parser.parse_args(arguments)
    try:
        paths = make_captchas(
            options.count, options.length, options.alphabet, options.size, options.out, options.seed
        )
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{len(paths)} new images in {Path(options.out).absolute()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
