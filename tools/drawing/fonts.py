"""Fonts: where they are, and which characters each of them draws as the label says."""

import functools
import importlib.util
import re
import string
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

MATPLOTLIB = Path(importlib.util.find_spec("matplotlib").origin).parent / "mpl-data" / "fonts" / "ttf"
REFERENCES = [f"DejaVu{name}.ttf" for name in ("Sans", "Serif", "SansMono", "Sans-Bold", "Serif-Italic")]
UNSUITABLE = re.compile(r"symbol|dingbat|emoji|lastresort|cm(ex|mi|sy)10|DSEG|hairline|thin", re.IGNORECASE)
CASES = "abdefghijlmnqrty"  # letters whose two cases have different shapes
ASCII = string.digits + string.ascii_letters + string.punctuation
MIN_LIKENESS = 0.3  # correlation with the same character of an ordinary font
SIZE = 48  # pixels per em of the glyphs, before they are scaled
BASIC, RAQM = ImageFont.Layout.BASIC, ImageFont.Layout.RAQM


def find_fonts(folder=None):
    """Returns the font files below a folder; by default, those of matplotlib and below /usr/share/fonts."""
    folders = [Path(folder)] if folder else [MATPLOTLIB, Path("/usr/share/fonts")]
    found = {path.resolve() for one in folders for path in one.rglob("*.[ot]t[fc]")}
    found = sorted(str(path) for path in found if not UNSUITABLE.search(path.name))
    if not found:
        raise ValueError(f"Expected fonts (.ttf, .otf, .ttc) in {folder}. Found none. Choose another folder.")
    return tuple(found)


@functools.lru_cache(maxsize=2000)
def load_font(path, layout=BASIC, size=SIZE):
    """Returns a font at `size` pixels per em. Scripts that join or stack letters need the layout `RAQM`."""
    if layout == RAQM and not features.check("raqm"):  # otherwise, Pillow draws letters apart, left to right
        raise ValueError("Expected Pillow with Raqm, to draw this script. Install libraqm0 and libfribidi0.")
    return ImageFont.truetype(path, size, layout_engine=layout)


@functools.cache
def draws(path, character):
    """Returns whether a font draws a character so that the label is true.

    Some fonts have pictures in place of letters, or capitals in place of small letters. So each glyph is
    compared with that of ordinary fonts.
    """
    shape = _shape(path, character)
    if shape is None or character not in ASCII:
        return shape is not None or character == " "
    likeness = np.max(_references(character) @ shape)
    other = np.max(_references(character.swapcase()) @ shape) if character.lower() in CASES else 0
    return bool(likeness > max(MIN_LIKENESS, other - 0.02))


@functools.cache
def _references(character):
    """Returns the shapes of a character in ordinary fonts, upright and slanted: an array (15, 324)."""
    slants = [(str(MATPLOTLIB / name), slant) for name in REFERENCES for slant in (0, 0.25, 0.5)]
    return np.stack([_shape(path, character, slant) for path, slant in slants])


def _shape(path, character, slant=0):
    """Returns a glyph as a vector of 18×18 pixels and length 1, or None if the font does not have it."""
    try:
        image = _glyph(path, character)
    except OSError:  # not a font, or a damaged one
        return None
    if not image.getbbox() or image == _missing_glyph(path):
        return None
    if slant:
        image = image.transform(image.size, Image.Transform.AFFINE, (1, slant, -SIZE * slant, 0, 1, 0))
    pixels = image.crop(image.getbbox()).resize((16, 16), Image.Resampling.BOX)
    pixels = np.pad(pixels, 1).astype("float32").ravel()  # with the margin, a full square is not 0
    pixels -= pixels.mean()
    return pixels / np.linalg.norm(pixels)


def _glyph(path, character):
    image = Image.new("L", (3 * SIZE, 2 * SIZE))
    ImageDraw.Draw(image).text((SIZE, 1.4 * SIZE), character, 255, load_font(path), "ls")
    return image


@functools.cache
def _missing_glyph(path):
    return _glyph(path, "\U0010fffd")
