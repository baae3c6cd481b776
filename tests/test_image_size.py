from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image

import utils
from snippet_ocr.alphabet import Alphabet
from snippet_ocr.reader import Reader
from tools.notebook import load_build_model
from training import image_size
from training.labels import steps_needed


def samples_of(sizes, label="12345"):
    return [utils.Sample(Path("x"), label, size, "") for size in sizes]


@pytest.mark.parametrize(
    ("sizes", "label", "expected"),
    [
        ([(200, 50)] * 10, "12345", (200, 50)),
        ([(200, 50)] * 6 + [(90, 20)] * 4, "12345", (200, 50)),
        ([(20, 60)] * 5, "7", (24, 60)),  # the next multiple of 8
        ([(400, 32)] * 5, "12345", (400, 32)),
        ([(1200, 64)] * 5, "12345", (640, 34)),  # as wide as is allowed, the shape kept
        ([(1600, 400)] * 5, "12345", (256, 64)),  # as high as is allowed
        ([(48, 12)] * 5, "12", (96, 24)),  # tiny ones grow
        ([(30, 60)] * 5, "abcdefghij", (40, 60)),  # a step for each of ten characters
        ([(100, 40), (120, 40), (140, 50), (200, 50)], "12345", (184, 45)),  # mixed
        ([(1, 4000)] * 3, "1", (16, 64)),
    ],
)
def test_size_follows_the_images_within_bounds(sizes, label, expected):
    width, height, reason = image_size.choose_size(samples_of(sizes, label))
    assert (width, height) == expected
    assert reason


def test_size_that_is_set_is_taken_and_the_other_one_follows():
    samples = samples_of([(200, 50)] * 3)
    assert image_size.choose_size(samples, 99, 33) == (99, 33, "as set")
    assert image_size.choose_size(samples, 100)[:2] == (100, 25)
    assert image_size.choose_size(samples, 0, 100)[:2] == (400, 100)


def test_chosen_size_has_a_step_for_every_label_that_was_let_through():
    longest = "ab" * 80  # 160 steps, the most of 640 pixels
    samples = samples_of([(50, 50)] * 3, longest)
    width, _, _ = image_size.choose_size(samples)
    assert width // image_size.choose_step_width(samples, width) >= steps_needed(longest)


def test_size_and_steps_of_a_known_reader_are_kept():
    known = SimpleNamespace(image_width=120, image_height=30, time_steps=30)
    samples = samples_of([(200, 50)] * 3)
    assert image_size.choose_size(samples, known=known)[:2] == (120, 30)
    assert image_size.choose_size(samples, 120, 30, known)[:2] == (120, 30)
    with pytest.raises(
        ValueError, match="120×30. Received image_width 0 and image_height 40. Leave both at 0"
    ):
        image_size.choose_size(samples, 0, 40, known)
    assert image_size.choose_step_width(samples, 120, known) == 4
    known.time_steps = 15
    assert image_size.choose_step_width(samples, 120, known) == 8


def test_steps_are_wide_only_where_every_character_has_eight_of_them():
    short = [utils.Sample(Path("a"), "abc", (1, 1), "")]  # 200 pixels have 25 steps of 8
    equal = [utils.Sample(Path("a"), "aac", (1, 1), "")]  # one step more, between equal neighbours
    assert image_size.choose_step_width(short, 200) == 8
    assert image_size.choose_step_width(short, 184) == 4
    assert image_size.choose_step_width(short + equal, 200) == 4


@pytest.mark.parametrize("size", [(20, 60), (400, 32), (1200, 64)])
def test_narrow_long_and_large_images_train_and_read(size, tmp_path):
    rng = np.random.default_rng(0)
    for label in ("a", "b", "ab", "ba", "aa"):
        Image.fromarray(rng.integers(0, 256, size[::-1], dtype="uint8")).save(tmp_path / f"{label}.png")
    samples, _ = utils.find_images(tmp_path)
    width, height, _ = image_size.choose_size(samples)
    step_width = image_size.choose_step_width(samples, width)
    alphabet = Alphabet("ab")
    model = load_build_model()(width, height, 2, alphabet.number_of_classes, step_width, 0.1)
    model.compile("adam")

    def encode(sample, load):
        return utils.encode_single_sample(sample, alphabet, width, height, 2, load)

    data = utils.get_data(samples, encode, 5, seed=0, augmentation=1.0)
    losses = model.fit(data, steps_per_epoch=1, epochs=8, shuffle=False, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    reader = Reader(keras.Model(model.inputs[0], model.get_layer("logits").output), alphabet)
    assert len(reader.read([sample.path for sample in samples])) == 5
