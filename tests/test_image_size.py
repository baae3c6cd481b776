from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageDraw

import utils
from snippet_ocr import images
from training import image_size
from training.labels import steps_needed


def samples_of(sizes, label="123456789"):
    return [utils.Sample(Path("x"), label, size, "") for size in sizes]


@pytest.mark.parametrize(
    ("sizes", "label", "expected"),
    [
        ([(200, 50)] * 10, "123456789", (200, 50)),
        ([(200, 50)] * 6 + [(90, 20)] * 4, "123456789", (200, 50)),
        ([(21, 60)] * 5, "7777777777", (76, 60)),  # the next multiple of 4, with enough steps
        ([(400, 32)] * 5, "12345", (400, 32)),
        ([(1200, 64)] * 5, "12345" * 8, (640, 34)),  # the maximum width, with the same proportions
        ([(1600, 400)] * 5, "12345" * 3, (256, 64)),  # the maximum height
        ([(48, 12)] * 5, "12", (96, 24)),  # the minimum height
        ([(30, 60)] * 5, "abcdefghij", (40, 60)),  # a time step for each of ten characters
        ([(1, 4000)] * 3, "1", (16, 64)),
    ],
)
def test_size_follows_the_images_within_bounds(sizes, label, expected):
    (width,), height, reason = image_size.choose_size(samples_of(sizes, label))
    assert (width, height) == expected
    assert reason


def test_size_that_is_set_is_used_and_scales_the_other():
    samples = samples_of([(200, 50)] * 3)
    assert image_size.choose_size(samples, 99, 33) == ([99], 33, "set by image_width and image_height")
    widths, height, reason = image_size.choose_size(samples, 100)
    assert (widths, height) == ([100], 25)
    assert reason == "the size of 3 of 3 images, scaled by 0.5"
    assert image_size.choose_size(samples, 0, 100)[:2] == ([400], 100)


def test_chosen_size_has_enough_steps_for_every_accepted_label():
    label = "ab" * 80
    assert steps_needed(label) == image_size.max_time_steps() == 160
    samples = samples_of([(50, 50)] * 3, label)
    (width,), _, _ = image_size.choose_size(samples)
    assert width // image_size.STEP_WIDTH >= 160


def test_widths_follow_the_images_at_a_height_that_is_set():
    assert image_size.choose_size(samples_of([(200, 50)] * 3), 0, 30)[:2] == ([120], 30)
    mixed = samples_of([(width, 50) for width in range(100, 500)])
    widths, height, _ = image_size.choose_size(mixed, 0, 30)
    assert (height, widths[-1]) == (30, 304)  # 99% are at most 496 wide: 297.6 at height 30
    assert len(widths) > 2


def own_and_chosen_widths(sizes, labels, **options):
    """Returns the widths of images at the chosen height, and the chosen widths."""
    samples = [utils.Sample(Path("x"), label, size, "") for size, label in zip(sizes, labels, strict=True)]
    widths, height, _ = image_size.choose_size(samples, **options)
    return [width * height / own_height for width, own_height in sizes], widths


@pytest.mark.parametrize("seed", range(5))
def test_widths_of_different_images_keep_their_rules(seed):
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 30, 300)
    sizes = [(int(width), 32) for width in lengths * generator.uniform(8, 14, 300)]
    own, widths = own_and_chosen_widths(sizes, [("ab" * 15)[:length] for length in lengths])
    assert widths == sorted(set(widths)) and 3 <= len(widths) <= 8
    assert all(width % 8 == 0 for width in widths)
    chosen = [images.choose_width(size, widths, 32) for size in sizes]
    assert all(chosen.count(width) >= 0.1 * 300 for width in widths[:-1])
    assert np.mean(np.array(own) <= widths[-1]) >= 0.985
    assert widths[-1] < 1.2 * np.quantile(own, 0.985)
    assert all(4 * length <= width for length, width in zip(lengths, chosen, strict=True))
    assert np.mean(chosen) < 1.4 * np.mean(own)  # with one width, the images would be padded by more


def test_width_that_few_images_would_use_is_left_out():
    sizes = [(width, 32) for width in (300,) * 60 + (298,) * 50 + (190,) * 4 + (120,) * 20]
    own, widths = own_and_chosen_widths(sizes, ["ab"] * 134)
    assert own == [width for width, _ in sizes]
    assert widths == [128, 304]  # 200 would have four images of 134


def test_narrow_image_of_a_long_label_keeps_its_width_large():
    sizes = [(300, 32), (301, 32), (302, 32), (60, 32), (61, 32), (62, 32)]
    assert own_and_chosen_widths(sizes, ["ab"] * 6)[1] == [64, 304]
    assert own_and_chosen_widths(sizes, ["ab"] * 5 + ["ab" * 15])[1] == [128, 304]  # 30 steps: 120 pixels
    assert own_and_chosen_widths(sizes, ["ab"] * 6, image_width=96)[1] == [96]


def test_very_wide_images_are_bounded():
    sizes = [(2000 + n, 32) for n in range(50)] + [(500 + n, 32) for n in range(50)]
    assert own_and_chosen_widths(sizes, ["ab"] * 100)[1][-1] <= 640


def striped_samples(folder, stripe, label):
    """Returns samples of an image of 240×60 pixels with upright stripes of a width in pixels."""
    folder.mkdir()
    image = Image.new("L", (240, 60), 255)
    for x in range(20, 220, 2 * stripe):
        ImageDraw.Draw(image).rectangle([x, 15, x + stripe - 1, 45], fill=0)
    image.save(folder / "striped.png")
    return [utils.Sample(folder / "striped.png", label, image.size, "")] * 3


def test_images_are_reduced_as_far_as_strokes_and_characters_allow(tmp_path):
    def chosen_size(stripe, label):
        samples = striped_samples(tmp_path / f"{stripe} {label}", stripe, label)
        (width,), height, _ = image_size.choose_size(samples)
        return width, height

    assert chosen_size(40, "123") == (128, 32)  # thick strokes, few characters
    assert chosen_size(20, "1234") == (160, 40)  # 40 pixels for each of four characters
    assert chosen_size(20, "123456") == (240, 60)
    assert chosen_size(1, "123") == (240, 60)  # thin strokes would blur
    widths = [chosen_size(stripe, "123")[0] for stripe in (2, 4, 6, 10)]
    assert widths == sorted(widths, reverse=True)


def test_detail_loss_is_what_reducing_and_enlarging_changes():
    flat = np.full((40, 80), 128, "uint8")
    assert image_size._detail_loss(flat, 0.5) == 0
    checkered = (np.indices((40, 80)).sum(0) % 2 * 255).astype("uint8")
    assert image_size._detail_loss(checkered, 0.5) == pytest.approx(1, abs=0.05)  # nothing remains
    halves = np.repeat(np.uint8([[0] * 40 + [255] * 40]), 40, axis=0)
    assert image_size._detail_loss(halves, 0.5) < 0.1  # only the edge changes


@pytest.mark.parametrize(("height", "expected"), [(24, 48), (34, 48), (60, 60)])
def test_small_images_are_enlarged_to_the_height_of_the_base_reader(height, expected, tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, 4 * height)).astype("uint8"))
    image.save(tmp_path / "image.png")
    samples = [utils.Sample(tmp_path / "image.png", "abc", image.size, str(number)) for number in range(3)]
    base = SimpleNamespace(image_height=48, widths=[80, 160], time_steps=40)
    assert image_size.choose_size(samples, base=base)[:2] == ([4 * expected], expected)
    assert image_size.choose_size(samples, 0, 40, base=base)[1] == 40  # as set
    wide = [sample._replace(size=(32 * height, height)) for sample in samples]
    assert image_size.choose_size(wide, base=base)[0] == [640]


@pytest.mark.parametrize(("rows", "base_rows"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_rows_are_enlarged_to_the_height_of_a_row_of_the_base_reader(rows, base_rows, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (24 * rows, 96)).astype("uint8")
    Image.fromarray(pixels).save(tmp_path / "image.png")
    samples = [
        utils.Sample(tmp_path / "image.png", "abc", (96, 24 * rows), str(number)) for number in range(3)
    ]
    base = SimpleNamespace(image_height=48 * base_rows, widths=[80, 160], time_steps=40 * base_rows)
    assert image_size.choose_size(samples, rows=rows, base=base)[1] == 48 * rows
