from pathlib import Path
from types import SimpleNamespace

import pytest

import utils
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
        ([(1200, 64)] * 5, "12345", (640, 34)),  # the maximum width, with the same proportions
        ([(1600, 400)] * 5, "12345", (256, 64)),  # the maximum height
        ([(48, 12)] * 5, "12", (96, 24)),  # the minimum height
        ([(30, 60)] * 5, "abcdefghij", (40, 60)),  # a time step for each of ten characters
        ([(100, 40), (120, 40), (140, 50), (200, 50)], "12345", (184, 45)),  # no common size
        ([(1, 4000)] * 3, "1", (16, 64)),
    ],
)
def test_size_follows_the_images_within_bounds(sizes, label, expected):
    width, height, reason = image_size.choose_size(samples_of(sizes, label))
    assert (width, height) == expected
    assert reason


def test_size_that_is_set_is_used_and_scales_the_other():
    samples = samples_of([(200, 50)] * 3)
    assert image_size.choose_size(samples, 99, 33) == (99, 33, "set by image_width and image_height")
    width, height, reason = image_size.choose_size(samples, 100)
    assert (width, height) == (100, 25)
    assert reason == "the size of 3 of 3 images, scaled by 0.5"
    assert image_size.choose_size(samples, 0, 100)[:2] == (400, 100)


def test_chosen_size_has_enough_steps_for_every_accepted_label():
    label = "ab" * 80
    assert steps_needed(label) == image_size.max_time_steps() == 160
    samples = samples_of([(50, 50)] * 3, label)
    width, _, _ = image_size.choose_size(samples)
    assert width // image_size.choose_step_width(samples, width) >= 160


def test_size_and_steps_of_a_base_reader_are_kept():
    base = SimpleNamespace(image_width=120, image_height=30, time_steps=30)
    samples = samples_of([(200, 50)] * 3)
    assert image_size.choose_size(samples, base_reader=base)[:2] == (120, 30)
    assert image_size.choose_size(samples, 120, 30, base)[:2] == (120, 30)
    with pytest.raises(ValueError, match="120×30. Received: image_width 0 and image_height 40. Set"):
        image_size.choose_size(samples, 0, 40, base)
    assert image_size.max_time_steps(200, base) == 30
    assert image_size.choose_step_width(samples, 120, base) == 4
    base.time_steps = 15
    assert image_size.choose_step_width(samples, 120, base) == 8


def test_steps_are_wide_if_every_character_has_eight():
    short = samples_of([(1, 1)], "abc")  # 200 pixels have 25 wide steps
    repeated = samples_of([(1, 1)], "aac")  # needs one step more, between the repeated characters
    assert image_size.choose_step_width(short, 200) == 8
    assert image_size.choose_step_width(short, 184) == 4
    assert image_size.choose_step_width(short + repeated, 200) == 4
