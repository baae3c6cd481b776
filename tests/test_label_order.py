from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from training.label_order import find_order

FONT = Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")


@pytest.fixture(scope="module")
def plates(tmp_path_factory):
    """240 drawn plates: paths, and the texts from left to right: two digits, then two Hebrew letters."""
    folder, choose = tmp_path_factory.mktemp("plates"), np.random.default_rng(0)
    font = ImageFont.truetype(FONT, 24, layout_engine=ImageFont.Layout.BASIC)  # draws from left to right
    paths, texts = [], []
    for number in range(240):
        text = "".join([*choose.choice([*"0123456789"], 2), *choose.choice([*"אבגדהוזחטי"], 2)])
        image = Image.new("L", (90, 32), 255)
        ImageDraw.Draw(image).text(choose.integers((4, -2), (13, 4)), text, 0, font)
        pixels = np.asarray(image) + choose.normal(0, 60, (32, 90))
        paths.append(folder / f"{number}.png")
        Image.fromarray(pixels.clip(0, 255).astype("uint8")).save(paths[-1])
        texts.append(text)
    return paths, texts


def samples_of(paths, labels):
    return [SimpleNamespace(path=path, label=label) for path, label in zip(paths, labels, strict=True)]


def test_images_decide_that_labels_are_in_visual_order(plates):
    order, line = find_order(samples_of(*plates))
    assert order == "visual"
    assert line.startswith("label order: visual, because the images tell ")


def test_images_decide_that_labels_are_in_logical_order(plates):
    paths, texts = plates
    typed = [text[3] + text[2] + text[:2] for text in texts]  # letters from the right, then the number
    order, line = find_order(samples_of(paths, typed))
    assert order == "logical"
    assert f"from left to right, {typed[0]!r} is {' '.join(texts[0])}" in line


@pytest.mark.parametrize("start", [0, 80, 160])
def test_eighty_images_are_enough_to_decide(plates, start):
    order, _ = find_order(samples_of(*(part[start : start + 80] for part in plates)))
    assert order == "visual"


def test_few_images_are_taken_to_have_logical_labels(plates):
    paths, texts = plates
    order, line = find_order(samples_of(paths[:30], texts[:30]))
    assert order == "logical"
    assert "set label_order to visual" in line


@pytest.mark.parametrize("order", ["logical", "visual"])
def test_set_order_is_used_without_opening_an_image(order):
    samples = samples_of([Path("missing.png")] * 300, ["12אב"] * 300)
    found, line = find_order(samples, order)
    assert (found, line.partition(";")[0]) == (order, f"label order: {order}, as set by label_order")


def test_left_to_right_labels_need_no_order():
    found = find_order(samples_of([Path("missing.png")] * 300, ["AB-12"] * 300))
    assert found == ("visual", "label order: from left to right")


def test_labels_that_cannot_be_returned_are_counted():
    _, line = find_order(samples_of([Path("a.png")] * 2, ["1 Bג א", "אב"]))
    assert "WARNING: 1 labels" in line and "'1 Bג א'" in line
