"""Draws the images of captcha_images/ with the package captcha.

    pip install captcha==0.7.1
    python -m benchmarks.shipped_images OUT

writes 1,040 images of four to six characters, named after their texts, into a new folder. The seed, and the
version of Pillow, determine the pixels. On purpose, `WRONG` of the names differ from the text in the image by
one character: wrong labels to find.
"""

import argparse
import random
import types
from pathlib import Path

from captcha import image as captcha

COUNT, WRONG, SEED = 1040, 8, 1
ALPHABET = "2345678bcdefgmnpwxyABDEFGHKLMNQRT"  # without characters that look like another one


def draw(folder):
    """Writes the images to a `Path`; returns a dictionary from the wrong names to the texts."""
    generator = random.Random(SEED)
    captcha.secrets = types.SimpleNamespace(  # instead of true randomness
        randbelow=generator.randrange, randbits=generator.getrandbits, choice=generator.choice
    )
    drawer, names, wrong = captcha.ImageCaptcha(width=200, height=50), set(), {}
    while len(names) < COUNT:
        text = name = "".join(generator.choices(ALPHABET, k=generator.randint(4, 6)))
        if len(wrong) < WRONG and generator.random() < 0.02:
            place = generator.randrange(len(text))
            name = text[:place] + generator.choice(ALPHABET.replace(text[place], "")) + text[place + 1 :]
        if name.lower() in names:  # some file systems ignore case
            continue
        names.add(name.lower())
        wrong |= {name: text} if name != text else {}
        drawer.generate_image(text).quantize(64).save(folder / f"{name}.png", optimize=True)
    return wrong


def main():
    parser = argparse.ArgumentParser(
        "python -m benchmarks.shipped_images", description=__doc__.split("\n")[0]
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="a new folder")
    folder = parser.parse_args().out
    folder.mkdir(parents=True)
    print("wrong labels:", ", ".join(f"{name} shows {text}" for name, text in draw(folder).items()))


if __name__ == "__main__":
    main()
