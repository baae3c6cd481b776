"""Draws the images of captcha_images/ with the package captcha.

    pip install captcha==0.7.1
    python -m benchmarks.shipped_images OUT

writes 1,040 images of four to six characters, named after their texts, into a new folder. The seed, and the
version of Pillow, determine the pixels. On purpose, `WRONG` of the names differ from the text in the image by
one character: wrong labels to find. With --all-characters, the images are others: 1,000 of five of the 62
letters and digits, with right names.
"""

import argparse
import random
import string
import types
from pathlib import Path

from captcha import image as captcha

COUNT, WRONG, SEED = 1040, 8, 1
ALPHABET = "2345678bcdefgmnpwxyABDEFGHKLMNQRT"  # without characters that look like another one


def draw(folder, count=COUNT, alphabet=ALPHABET, lengths=(4, 6), wrong_names=WRONG):
    """Writes the images to a `Path`; returns a dictionary from the wrong names to the texts."""
    generator = random.Random(SEED)
    captcha.secrets = types.SimpleNamespace(  # instead of true randomness
        randbelow=generator.randrange, randbits=generator.getrandbits, choice=generator.choice
    )
    drawer, names, wrong = captcha.ImageCaptcha(width=200, height=50), set(), {}
    while len(names) < count:
        text = name = "".join(generator.choices(alphabet, k=generator.randint(*lengths)))
        if len(wrong) < wrong_names and generator.random() < 0.02:
            place = generator.randrange(len(text))
            name = text[:place] + generator.choice(alphabet.replace(text[place], "")) + text[place + 1 :]
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
    parser.add_argument("--all-characters", action="store_true", help="1,000 images of all 62 characters")
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    all_characters = 1000, string.digits + string.ascii_letters, (5, 5), 0
    wrong = draw(options.out, *(all_characters if options.all_characters else ()))
    print("wrong labels:", ", ".join(f"{name} shows {text}" for name, text in wrong.items()) or "none")


if __name__ == "__main__":
    main()
