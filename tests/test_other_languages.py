"""The numbers of docs/other_languages.md are those that this project computes."""

import re

import numpy as np
import pytest
from PIL import Image

from conftest import PROJECT
from snippet_ocr import images
from snippet_ocr.alphabet import Alphabet
from snippet_ocr.decoding import greedy_decode, log_softmax, text_log_probabilities

PAGE = (PROJECT / "docs" / "other_languages.md").read_text(encoding="utf-8")
IMAGE = PROJECT / "captcha_images" / "2285e.png"


def told(what):
    """What the page says of something, a string."""
    (value,) = re.findall(rf"^\| {re.escape(what)} \| (.*) \|$", PAGE, flags=re.MULTILINE)
    return value


def test_grey_is_the_formula_s():
    red, green, blue = np.moveaxis(np.asarray(Image.open(IMAGE).convert("RGB")).astype(int), -1, 0)
    grey = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    np.testing.assert_array_equal(images.load_image(IMAGE), grey)
    assert int(told("sum of all grey values")) == grey.sum()
    assert told("mean, standard deviation") == f"{grey.mean():.4f}, {grey.std():.4f}"
    assert int(told("grey at x 100, y 25")) == grey[25, 100]
    assert int(told("background grey")) == images.background_of(images.load_image(IMAGE))


@pytest.mark.parametrize(("size", "x", "y"), [((200, 50), 0, 0), ((200, 50), 100, 25), ((120, 40), 60, 20)])
def test_input_is_the_page_s(size, x, y):
    prepared = images.prepare_image(IMAGE, *size)
    assert told(f"input for {size[0]} × {size[1]} at x {x}, y {y}") == f"{prepared[x, y, 0]:.5f}"


def test_text_and_confidence_are_the_page_s():
    steps = re.findall(r"^\| \d \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", PAGE, flags=re.MULTILINE)
    log_probabilities = np.log(np.array(steps, dtype=float))[np.newaxis]
    assert log_probabilities.shape == (1, 5, 3)
    (text,) = greedy_decode(log_probabilities)
    assert told("text") == Alphabet("ab").decode(text)
    assert (
        told("blank at step 1, temperature 2") == f"{np.exp(log_softmax(log_probabilities / 2))[0, 0, 0]:.5f}"
    )
    for temperature in (1, 2):
        tempered = log_softmax(log_probabilities / temperature)
        confidence = np.exp(text_log_probabilities(tempered, [text])[0])
        assert told(f"confidence at temperature {temperature}") == f"{confidence:.5f}"
