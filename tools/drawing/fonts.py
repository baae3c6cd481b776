"""Fonts: where they are, and which characters each of them draws as the label says."""

import functools
import importlib.util
import re
import string
from pathlib import Path

import numpy as np
from PIL import Image, ImageFont

MATPLOTLIB = Path(importlib.util.find_spec("matplotlib").origin).parent / "mpl-data" / "fonts" / "ttf"
FOLDERS = MATPLOTLIB, Path("/usr/share/fonts")
REFERENCES = [f"DejaVu{name}.ttf" for name in ("Sans", "Serif", "SansMono", "Sans-Bold", "Serif-Italic")]
LATIN = string.digits + string.ascii_letters
PUNCTUATION = string.punctuation
CASES = "abdefghijlmnqrty"  # letters whose two cases have different shapes
ALIKE = str.maketrans("oil", "011")
SYMBOLS = re.compile("symbol|dingbat|emoji|cm(ex|mi|sy)10|DSEG", re.IGNORECASE)  # in names of files
SLANTS = 0, 0.25, 0.5
MIN_LIKENESS = 0.45  # of punctuation: its correlation with that of an ordinary font
MIN_READABLE = 0.3  # the share of a font's letters and digits that resemble those of ordinary fonts
SIZE = 48  # pixels per em of the glyphs, before they are scaled
BASIC, RAQM = ImageFont.Layout.BASIC, ImageFont.Layout.RAQM


def find_fonts(folder=None):
    """Returns the paths of the font files below a folder; by default, of those of matplotlib and the system."""
    folders = [Path(folder)] if folder else FOLDERS
    found = {path.resolve() for one in folders for path in one.rglob("*.[ot]t[fc]")}
    found = {str(path) for path in found if not SYMBOLS.search(path.name)}
    if not found:
        raise ValueError(f"Expected fonts (.ttf, .otf, .ttc) in {folder}. Found none. Choose another folder.")
    return sorted(found)


@functools.lru_cache(maxsize=2000)
def load_font(path, layout=BASIC):
    """Returns a font at `SIZE` pixels per em. Scripts that join or stack their letters need the layout `RAQM`."""
    return ImageFont.truetype(path, SIZE, layout_engine=layout)


@functools.cache
def draws(path, character):
    """Returns whether a font draws a character so that the label is true.

    Fonts of symbols have pictures in place of letters, and some fonts have capitals in place of small letters
    or ornaments in place of punctuation. So glyphs are compared with those of ordinary fonts.
    """
    readable = _readable_latin(path)
    if readable is None or character in LATIN:
        return character in (readable or ())
    shape = _shape(path, character)
    if shape is None or character not in PUNCTUATION:
        return shape is not None or character == " "
    vectors, characters = _references(PUNCTUATION)
    return bool(np.max(vectors[[one == character for one in characters]] @ shape) > MIN_LIKENESS)


@functools.cache
def _readable_latin(path):
    """Returns the characters of `LATIN` that a font draws, or None for a font of symbols."""
    try:
        shapes = {character: shape for character in LATIN if (shape := _shape(path, character)) is not None}
    except OSError:  # not a font, or a damaged one
        return None
    if not shapes:
        return frozenset()
    vectors, characters = _references(LATIN)
    nearest = np.argmax(np.stack([*shapes.values()]) @ vectors.T, axis=1)
    guesses = {character: characters[number] for character, number in zip(shapes, nearest, strict=True)}
    right = [one.lower().translate(ALIKE) == two.lower().translate(ALIKE) for one, two in guesses.items()]
    if np.mean(right) < MIN_READABLE:
        return None
    for letters in (CASES, CASES.upper()):
        if np.mean([guesses.get(letter) == letter.swapcase() for letter in letters]) > 0.3:
            guesses = {
                c: guess for c, guess in guesses.items() if c.islower() != letters.islower() or c.isdigit()
            }
    return frozenset(guesses)


@functools.cache
def _references(characters):
    """Returns the shapes of characters in ordinary fonts, upright and slanted, and the character of each row."""
    rows = [(MATPLOTLIB / name, one, slant) for name in REFERENCES for one in characters for slant in SLANTS]
    return np.stack([_shape(str(path), *rest) for path, *rest in rows]), [one for _, one, _ in rows]


def _shape(path, character, slant=0):
    """Returns a glyph as a vector of 18×18 pixels and length 1, or None if the font does not have it."""
    mask = load_font(path).getmask(character)
    if not mask.getbbox() or bytes(mask) == _missing_glyph(path):
        return None
    image = Image.frombytes("L", mask.size, bytes(mask))
    if slant:
        size = image.width + round(slant * image.height), image.height
        image = image.transform(size, Image.Transform.AFFINE, (1, slant, -slant * image.height, 0, 1, 0))
    pixels = (
        np.pad(image.crop(image.getbbox()).resize((16, 16), Image.Resampling.BOX), 1)
        .astype("float32")
        .ravel()
    )
    pixels -= pixels.mean()  # the margin of one pixel keeps a full square from being 0
    return pixels / max(np.linalg.norm(pixels), 1e-6)


@functools.cache
def _missing_glyph(path):
    return bytes(load_font(path).getmask("\U0010fffd"))
