import functools
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import utils
from alphabet import Alphabet

WIDTH, HEIGHT = 100, 25


def draw(path, shade=0, size=(40, 20)):
    image = Image.new("L", size, 255)
    image.paste(shade, (5, 5, 15, 15))
    image.save(path)
    return path


@pytest.fixture
def samples(image_folder):
    return utils.find_images(image_folder)[0]


def encoder(samples):
    return functools.partial(
        utils.encode_single_sample,
        alphabet=Alphabet.from_labels(sample.label for sample in samples),
        image_width=WIDTH,
        image_height=HEIGHT,
        longest_label=7,
    )


@pytest.mark.parametrize(
    ("name", "label", "label_with_copy_number"),
    [
        ("2b827.png", "2b827", "2b827"),
        ("2b827_1.png", "2b827", "2b827_1"),
        ("AB-1234.PNG", "AB-1234", "AB-1234"),
        ("AB-1234_12.jpg", "AB-1234", "AB-1234_12"),
        ("1.23.bmp", "1.23", "1.23"),
        ("a_b.png", "a_b", "a_b"),
        ("_7.png", "", "_7"),
        ("e\u0301.png", "é", "é"),
    ],
)
def test_label_is_the_name_without_ending_and_copy_number(name, label, label_with_copy_number):
    assert utils.label_of(name) == label
    assert utils.label_of(name, drop_copy_number=False) == label_with_copy_number


@pytest.mark.parametrize(
    ("label", "steps"), [("", 0), ("a", 1), ("ab", 2), ("aa", 3), ("5335", 5), ("nnnnn", 9)]
)
def test_equal_neighbours_need_a_step_between_them(label, steps):
    assert utils.steps_needed(label) == steps


def test_every_supported_ending_is_found_in_any_letter_case_and_in_subfolders(tmp_path):
    (tmp_path / "below").mkdir()
    for name in ["a.png", "b.PNG", "c.jpg", "d.JPEG", "e.bmp", "below/f.Jpg"]:
        draw(tmp_path / name)
    samples, rejected = utils.find_images(tmp_path)
    assert "".join(sorted(sample.label for sample in samples)) == "abcdef"
    assert all(sample.size == (40, 20) for sample in samples)
    assert rejected == []


def test_what_cannot_be_used_is_listed_with_its_reason_and_the_rest_is_used(tmp_path):
    good = draw(tmp_path / "good.png")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:60])
    (tmp_path / "nothing.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "labels.txt").write_text("good")
    draw(tmp_path / "aaaaaa.png")
    draw(tmp_path / "_1.png")
    (tmp_path / ".png").write_bytes(good.read_bytes())
    Image.new("1", (7000, 7000)).save(tmp_path / "large.png")
    samples, rejected = utils.find_images(tmp_path, time_steps=10)
    assert [sample.path for sample in samples] == [good]
    reasons = {path.name: reason for path, reason in rejected}
    expected = {
        "cut.png": "damaged",
        "nothing.png": "empty (0 bytes)",
        "text.png": "not an image",
        "labels.txt": "is not one of .png",
        "aaaaaa.png": "'aaaaaa' needs 11 time steps, the model has 10",
        "_1.png": "empty label",
        ".png": "empty label",
        "large.png": "too large",
    }
    assert set(reasons) == set(expected)
    assert all(expected[name] in reasons[name] for name in expected)
    summary = utils.describe(samples, rejected)
    assert all(f"{name} {reason}" in summary for name, reason in reasons.items())


def test_folder_that_is_not_there_is_named_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path}/nowhere.*no such folder"):
        utils.find_images("nowhere")


def test_folder_without_a_usable_image_tells_what_was_found(tmp_path):
    (tmp_path / "notes.txt").write_text("…")
    with pytest.raises(ValueError, match=rf"(?s)\.png, .*in {tmp_path}.*Found 1 file.*notes\.txt"):
        utils.find_images(tmp_path)


def test_summary_counts_sizes_lengths_characters_and_shortened_names(tmp_path):
    draw(tmp_path / "ab.png")
    draw(tmp_path / "ab_1.png", shade=9)
    draw(tmp_path / "b.png", size=(30, 10))
    summary = utils.describe(*utils.find_images(tmp_path))
    assert "images: 3" in summary
    assert "sizes: 40×20 (2), 30×10 (1)" in summary
    assert "label lengths: 1 (1), 2 (2)" in summary
    assert "2 different: a (2), b (3)" in summary
    assert "fewer than 10 times: a b" in summary
    assert "copy number: 1, for example ab_1.png is read as 'ab'" in summary


def test_splits_are_disjoint_complete_and_of_the_shares_asked_for(samples):
    splits = utils.split_data(samples, seed=1, validation_share=0.2, test_share=0.1)
    assert [len(split) for split in splits] == [21, 6, 3]
    assert sorted(sample.path for split in splits for sample in split) == [sample.path for sample in samples]


def test_split_depends_on_the_seed_and_not_on_the_order_of_files(samples):
    assert utils.split_data(samples, 1) == utils.split_data(samples[::-1], 1)
    assert utils.split_data(samples, 1) != utils.split_data(samples, 2)


def test_split_is_not_alphabetical(samples):
    training, _, _ = utils.split_data(samples, 0)
    labels = [sample.label for sample in training]
    assert labels != sorted(labels)


def test_byte_identical_images_stay_on_one_side(image_folder):
    for path in list(image_folder.iterdir()):
        shutil.copy(path, path.with_name(f"{path.stem}_1.png"))
    samples, _ = utils.find_images(image_folder)
    for seed in range(20):
        splits = utils.split_data(samples, seed)
        digests = [{sample.digest for sample in split} for split in splits]
        assert sum(map(len, digests)) == len(set.union(*digests)) == 30


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_images_for_three_splits_are_refused(samples, count):
    with pytest.raises(ValueError, match=f"at least 3 different images.*Found {count}"):
        utils.split_data(samples[:count], 0)


def test_three_images_make_three_splits(samples):
    assert [len(split) for split in utils.split_data(samples[:3], 0)] == [1, 1, 1]


def test_steps_are_wide_unless_a_label_needs_them(tmp_path):
    short = [utils.Sample(Path("a"), "a" * 6, (1, 1), "")]  # needs 11 steps; 200 pixels have 25 of 8
    long = [utils.Sample(Path("a"), "ab" * 7, (1, 1), "")]
    assert utils.choose_step_width(short, 200) == 8
    assert utils.choose_step_width(short + long, 200) == 4


def test_set_without_a_seed_gives_every_image_once_in_order(samples):
    encode = encoder(samples)
    data = utils.get_data(samples, encode, batch_size=8)
    batches = list(data)
    assert len(data) == len(batches) == 4
    assert [len(label) for _, label in batches] == [8, 8, 8, 6]
    for name, dtype, shape in [("image", np.float32, (WIDTH, HEIGHT, 1)), ("label", np.int32, (7,))]:
        found = np.concatenate([inputs[name] for inputs, _ in batches])
        assert (found.dtype, found.shape) == (dtype, (30, *shape))
        np.testing.assert_array_equal(found, np.stack([encode(sample)[name] for sample in samples]))
    assert all(np.array_equal(inputs["label"], label) for inputs, label in batches)


def epochs_of(samples, number, first_epoch=0, augmentation=0.0, seed=5):
    data = utils.get_data(samples, encoder(samples), 8, seed, first_epoch, augmentation)
    batches = list(data.take(number * math.ceil(len(samples) / 8)))
    size = len(batches) // number
    return [batches[start : start + size] for start in range(0, len(batches), size)]


def labels_of(epoch):
    return np.concatenate([label for _, label in epoch])


def images_of(epoch):
    return np.concatenate([inputs["image"] for inputs, _ in epoch])


def test_every_epoch_has_every_image_once_in_an_order_of_its_own(samples):
    first, second = epochs_of(samples, 2)
    assert not np.array_equal(labels_of(first), labels_of(second))
    assert sorted(map(tuple, labels_of(first))) == sorted(map(tuple, labels_of(second)))


@pytest.mark.parametrize("augmentation", [0.0, 1.0])
def test_training_that_goes_on_sees_what_it_would_have_seen(samples, augmentation):
    whole = epochs_of(samples, 3, augmentation=augmentation)
    rest = epochs_of(samples, 2, first_epoch=1, augmentation=augmentation)
    for expected, found in zip(whole[1:], rest, strict=True):
        np.testing.assert_array_equal(labels_of(expected), labels_of(found))
        np.testing.assert_array_equal(images_of(expected), images_of(found))


def test_augmentation_is_new_in_every_epoch_and_mild(samples):
    encode = encoder(samples)
    plain = {tuple(encode(sample)["label"]): encode(sample)["image"] for sample in samples}
    first, second = (
        dict(zip(map(tuple, labels_of(epoch)), images_of(epoch), strict=True))
        for epoch in epochs_of(samples, 2, augmentation=1.0)
    )
    for label, image in plain.items():
        assert not np.array_equal(first[label], second[label])
        # The ink keeps its place to within the bounds of the shift and some turning.
        middle = [
            np.average(np.arange(WIDTH), weights=np.clip(i, 1, None)[:, :, 0].sum(1))
            for i in (image, first[label])
        ]
        assert abs(middle[0] - middle[1]) < 0.12 * WIDTH


def test_augmentation_of_strength_0_changes_nothing(samples):
    image = np.stack([encoder(samples)(sample)["image"] for sample in samples])
    np.testing.assert_allclose(utils.augment(image, [1, 2], strength=0.0), image, atol=1e-5)


def test_augmentation_turns_and_stretches_about_the_middle():
    image = np.zeros((200, 101, 41, 1), dtype="float32")
    image[:, 50, 20] = 1.0  # the middle moves by the shift alone: 4 % of 101, 8 % of 41
    moved = np.asarray(utils.augment(image, [3, 4]))
    where = [np.unravel_index(np.argmax(one), one.shape)[:2] for one in moved if one.max() > 0]
    across, down = np.ptp(where, axis=0)
    assert 4 <= across <= 10
    assert 3 <= down <= 8
