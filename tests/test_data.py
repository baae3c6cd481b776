import functools
import math
from collections import Counter

import numpy as np
import pytest
from PIL import Image

import utils
from snippet_ocr.alphabet import Alphabet

WIDTH, HEIGHT = 100, 25


def encoder(samples):
    return functools.partial(
        utils.encode_single_sample,
        alphabet=Alphabet.from_labels(sample.label for sample in samples),
        widths=[WIDTH],
        image_height=HEIGHT,
        max_label_length=7,
    )


def test_dataset_without_seed_has_every_image_once_in_order(samples):
    encode = encoder(samples)
    data = utils.get_data(samples, encode, batch_size=8)
    batches = list(data)
    assert len(data) == len(batches) == 4
    assert [len(label) for _, label in batches] == [8, 8, 8, 6]
    encoded = [encode(sample) for sample in samples]
    image, label = (np.concatenate([inputs[name] for inputs, _ in batches]) for name in ("image", "label"))
    assert (image.dtype, image.shape) == (np.uint8, (30, HEIGHT, WIDTH))
    assert (label.dtype, label.shape) == (np.int32, (30, 7))
    np.testing.assert_array_equal(image, [one["image"] for one in encoded])
    np.testing.assert_array_equal(label, [one["label"] for one in encoded])
    assert all(np.array_equal(inputs["label"], target) for inputs, target in batches)


def mixed(samples):
    """Returns samples whose images are cropped to different widths, and an encoder with three widths."""
    for number, sample in enumerate(samples):
        image = Image.open(sample.path)
        image.crop((0, 0, (60, 110, 200)[number % 7 % 3], 50)).save(sample.path)
    encode = encoder(samples)
    encode.keywords["widths"] = [WIDTH // 3, WIDTH * 2 // 3, WIDTH]
    return samples, encode


@pytest.mark.parametrize("seed", [None, 1])
def test_images_of_a_batch_have_one_width_and_none_is_lost(samples, seed):
    samples, encode = mixed(samples)
    batches = list(utils.get_data(samples, encode, 4, seed).take(2 * 9))
    expected = sorted((one["image"].tobytes(), one["label"].tobytes()) for one in map(encode, samples))
    sizes = Counter(one["image"].shape[1] for one in map(encode, samples))
    epoch = len(utils.batches_of_pass(list(sizes.elements()), 4))
    assert epoch == sum(math.ceil(count / 4) for count in sizes.values()) == 9
    assert len(sizes) == 3 and len(batches) == (epoch if seed is None else 2 * epoch)
    for start in range(0, len(batches), epoch):
        found = []
        for inputs, label in batches[start : start + epoch]:
            found += [
                (one.tobytes(), two.tobytes())
                for one, two in zip(inputs["image"].numpy(), label.numpy(), strict=True)
            ]
        assert sorted(found) == expected
    widths = [inputs["image"].shape[2] for inputs, _ in batches]
    assert (widths == sorted(widths)) == (seed is None)


def test_images_of_different_widths_are_augmented_and_resumed(samples):
    samples, encode = mixed(samples)
    both = list(utils.get_data(samples, encode, 4, 3, 0, augmentation=1.0).take(18))
    resumed = list(utils.get_data(samples, encode, 4, 3, 9, augmentation=1.0).take(9))
    for (expected, _), (found, _) in zip(both[9:], resumed, strict=True):
        np.testing.assert_array_equal(found["image"], expected["image"])
    assert not any(
        np.array_equal(one["image"], two["image"]) for (one, _), (two, _) in zip(both, resumed, strict=False)
    )


def test_every_epoch_has_the_same_number_of_batches_in_another_order():
    widths = np.random.default_rng(0).choice([40, 80, 120], 1000, p=[0.1, 0.6, 0.3])
    epochs = [utils.batches_of_pass(widths, 16, 7, epoch) for epoch in range(4)]
    for batches in epochs:
        assert len(batches) == len(epochs[0])
        assert sorted(np.concatenate(batches)) == list(range(1000))
        assert all(len(set(widths[batch])) == 1 for batch in batches)
    orders = [[int(widths[batch[0]]) for batch in batches] for batches in epochs]
    assert len(set(map(tuple, orders))) == 4
    assert all(
        a.tobytes() == b.tobytes()
        for a, b in zip(epochs[2], utils.batches_of_pass(widths, 16, 7, 2), strict=True)
    )


def epochs_of(samples, number, first_epoch=0, augmentation=0.0, seed=5):
    steps = math.ceil(len(samples) / 8)
    data = utils.get_data(samples, encoder(samples), 8, seed, first_epoch * steps, augmentation)
    batches = list(data.take(number * steps))
    size = len(batches) // number
    return [batches[start : start + size] for start in range(0, len(batches), size)]


def labels_of(epoch):
    return np.concatenate([label for _, label in epoch])


def images_of(epoch):
    return np.concatenate([inputs["image"] for inputs, _ in epoch])


def test_dataset_has_every_image_once_per_epoch_in_a_new_order(samples):
    first, second = epochs_of(samples, 2)
    assert not np.array_equal(labels_of(first), labels_of(second))
    assert sorted(map(tuple, labels_of(first))) == sorted(map(tuple, labels_of(second)))
    assert sorted(map(tuple, labels_of(first))) == sorted(
        tuple(encoder(samples)(sample)["label"]) for sample in samples
    )


def test_training_resumes_within_a_pass_through_the_images(samples):
    uninterrupted = list(utils.get_data(samples, encoder(samples), 4, 5, 0, 1.0).take(20))
    resumed = list(utils.get_data(samples, encoder(samples), 4, 5, 7, 1.0).take(13))
    for (expected, label), (found, found_label) in zip(uninterrupted[7:], resumed, strict=True):
        np.testing.assert_array_equal(found["image"], expected["image"])
        np.testing.assert_array_equal(found_label, label)


@pytest.mark.parametrize("augmentation", [0.0, 1.0])
def test_dataset_that_resumes_equals_an_uninterrupted_one(samples, augmentation):
    uninterrupted = epochs_of(samples, 3, augmentation=augmentation)
    resumed = epochs_of(samples, 2, first_epoch=1, augmentation=augmentation)
    for expected, found in zip(uninterrupted[1:], resumed, strict=True):
        np.testing.assert_array_equal(labels_of(expected), labels_of(found))
        np.testing.assert_array_equal(images_of(expected), images_of(found))


def test_dataset_is_augmented_differently_in_each_epoch(samples):
    encode = encoder(samples)
    plain = {tuple(one["label"]): one["image"] for one in map(encode, samples)}
    first, second = (
        dict(zip(map(tuple, labels_of(epoch)), images_of(epoch), strict=True))
        for epoch in epochs_of(samples, 2, augmentation=1.0)
    )
    for label, image in plain.items():
        assert not np.array_equal(first[label], second[label])
        # The centre of the ink stays within the bounds of the shift and some rotation.
        before, after = (
            np.average(np.arange(WIDTH), weights=np.clip(one.mean() - one, one.std(), None).sum(axis=0))
            for one in (image, first[label])
        )
        assert abs(before - after) < 0.12 * WIDTH
