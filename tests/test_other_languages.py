"""The numbers in docs/other_languages.md equal those that this project computes."""

import re

import numpy as np
import pytest
from PIL import Image

from conftest import PROJECT
from snippet_ocr import images
from snippet_ocr.alphabet import Alphabet
from snippet_ocr.decoding import greedy_decode, text_log_probabilities

PAGE = (PROJECT / "docs" / "other_languages.md").read_text(encoding="utf-8")
IMAGE = PROJECT / "captcha_images" / "c5423.png"


def documented(name):
    """The value of a table row of the page, a string."""
    (value,) = re.findall(rf"^\| {re.escape(name)} \| (.*) \|$", PAGE, flags=re.MULTILINE)
    return value


def assert_documented(name, value, digits):
    """Compares a float with the page, which rounds it to some digits."""
    assert float(documented(name)) == pytest.approx(value, abs=0.51 * 10**-digits)


def test_documented_grey_values_follow_the_formula():
    red, green, blue = np.moveaxis(np.asarray(Image.open(IMAGE).convert("RGB")).astype(int), -1, 0)
    grey = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    np.testing.assert_array_equal(images.load_image(IMAGE), grey)
    assert int(documented("sum of all grey values")) == grey.sum()
    assert int(documented("grey at x 100, y 25")) == grey[25, 100]
    assert int(documented("background grey")) == images.background_of(images.load_image(IMAGE))


def test_documented_fitted_image_equals_the_input_of_the_model():
    chosen = documented("`w` for the `widths` 96, 128, 160 and 200, and the `image_height` 40")
    assert images.load_fitted(IMAGE, [96, 128, 160, 200], 40).shape == (40, int(chosen))
    fitted = images.load_fitted(IMAGE, [120], 40)
    assert int(documented("fitted to 120 × 40: grey at x 60, y 20")) == fitted[20, 60]
    assert int(documented("fitted to 120 × 40: sum of all grey values")) == fitted.sum()


def test_documented_confidences_equal_computed_ones():
    steps = re.findall(r"^\| \d \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", PAGE, flags=re.MULTILINE)
    log_probabilities = np.log(np.array(steps, dtype=float))[np.newaxis]
    assert log_probabilities.shape == (1, 5, 3)
    (text,) = greedy_decode(log_probabilities)
    assert documented("text") == Alphabet("ab").decode(text)
    confidence = np.exp(text_log_probabilities(log_probabilities, [text])[0])
    assert_documented("confidence", confidence, digits=5)
