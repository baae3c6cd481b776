"""From a folder of images named after their text to `tf.data` sets: find, check, split, feed."""

import os
import unicodedata
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from snippet_ocr import images
from snippet_ocr.alphabet import BLANK
from snippet_ocr.terminal import printable
from training import devices, pixels
from training.augmentation import augment
from training.labels import LABELS_FILE, key_of, label_from_name, read_labels_file, steps_needed

MIN_CHARACTER_COUNT = 10
"""A character seen fewer times than this is marked as rare in the summary."""


MAX_LISTED = 100
"""The files left out that the summary lists one by one at most."""


class Sample(NamedTuple):
    """A labelled image that can be used.

    Attributes:
        path: its file.
        label: its text.
        size: its own width and height, in pixels.
        digest: the SHA-256 of its bytes, in hexadecimal.
    """

    path: Path
    label: str
    size: tuple
    digest: str


class Rejected(NamedTuple):
    """A file that cannot be used, and why."""

    path: Path
    reason: str


def find_images(data_dir, time_steps=None, drop_copy_number=True):
    """Finds the labelled images of a folder and checks each.

    The labels are the files' names, or, if the folder holds a `labels.csv`,
    what that says.

    Args:
        data_dir: the folder; its subfolders are searched too, but for hidden ones.
        time_steps: the steps of the model; longer labels are rejected. None
            accepts every length.
        drop_copy_number: as in `labels.label_from_name`.

    Returns:
        A tuple of two lists: the usable images as `Sample`s, in the order of
        their paths, and everything else in the folder as `Rejected`.

    Raises:
        ValueError: if the folder is not there or no image of it can be used.
    """
    data_dir = Path(data_dir).absolute()
    if not data_dir.is_dir():
        raise ValueError(
            f"Expected a folder of images at {data_dir}. There is no such folder. "
            "Set data_dir, or OCR_DATA_DIR; a relative path starts at the notebook's folder."
        )
    listed, problems = read_labels_file(data_dir)
    labelled, rejected = [], []
    for path in _files_below(data_dir):
        if path == data_dir / LABELS_FILE:
            continue
        if listed is None:
            label = label_from_name(path.name, drop_copy_number)
        else:
            label, _ = listed.pop(key_of(data_dir, path), (None, None))
        reason = _reason_against(path, label, time_steps)
        if reason is None:
            labelled.append((path, label))
        else:
            rejected.append(Rejected(path, reason))
    samples = []
    findings = pixels.inspect_images([path for path, _ in labelled])
    for (path, label), finding in zip(labelled, findings, strict=True):
        if isinstance(finding, str):
            rejected.append(Rejected(path, finding))
        else:
            width, height, digest = finding
            samples.append(Sample(path, label, (width, height), digest))
    rejected.sort()
    for key, (_, line) in (listed or {}).items():
        problems.append((line, f"names {os.path.relpath(key, data_dir)}, which is not in the folder"))
    rejected += [Rejected(data_dir / LABELS_FILE, f"line {line} {what}") for line, what in sorted(problems)]
    samples, contradicting = _separate_contradictions(samples)
    rejected += contradicting
    if not samples:
        reasons = "".join(f"\n  {printable(path.name)} {reason}" for path, reason in rejected[:10])
        raise ValueError(
            f"Expected images ({', '.join(images.SUFFIXES)}), each named after its text, in {data_dir}. "
            f"Found {len(rejected)} files, none of which can be used.{reasons}"
        )
    return samples, rejected


def _files_below(folder):
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        # `os.walk` goes neither into links to folders nor into folders it may not open.
        closed = [name for name in folders if not _can_enter(os.path.join(parent, name))]
        yield from (Path(parent, name) for name in sorted(names + closed))


def _can_enter(folder):
    return not os.path.islink(folder) and os.access(folder, os.R_OK | os.X_OK)


def _reason_against(path, label, time_steps):
    """Why a file cannot be used, as far as can be told without opening it; None if it may be."""
    if path.is_dir():
        return "is a folder that is not entered: a link, or closed to you"
    if printable(path.name) != path.name:
        return "has a name that is not UTF-8; rename it"
    if not path.name.lower().endswith(images.SUFFIXES):
        return f"is not one of {', '.join(images.SUFFIXES)}"
    if label is None:
        return f"is not listed in {LABELS_FILE}"
    if not label:
        return "has an empty label: its name holds no text"
    if any(unicodedata.category(character) == "Cc" for character in label):
        return f"has a label with a control character: {label!r}"
    if time_steps is not None and steps_needed(label) > time_steps:
        return (
            f"has a label that is too long: {label!r} needs {steps_needed(label)} time steps, "
            f"the model has {time_steps}; a larger image_width gives more, unless a reader is started from"
        )
    return None


def _separate_contradictions(samples):
    """Takes out byte-identical images with different labels: at most one label can be right."""
    labels = {}
    for sample in samples:
        labels.setdefault(sample.digest, {}).setdefault(sample.label, sample.path.name)
    good = [sample for sample in samples if len(labels[sample.digest]) == 1]
    contradicting = []
    for sample in samples:
        others = [name for label, name in labels[sample.digest].items() if label != sample.label]
        if others:
            reason = f"is the very picture of {others[0]}, which has another label"
            contradicting.append(Rejected(sample.path, reason))
    return good, contradicting


def describe(samples, rejected):
    """Writes the summary of a folder: what is in it and what was left out.

    Args:
        samples: the list of `Sample`s.
        rejected: the list of `Rejected`.

    Returns:
        A string of several lines.
    """
    sizes = Counter("{}×{}".format(*sample.size) for sample in samples)
    lengths = Counter(len(sample.label) for sample in samples)
    characters = Counter("".join(sample.label for sample in samples))
    rare = [character for character in sorted(characters) if characters[character] < MIN_CHARACTER_COUNT]
    shortened = [
        s for s in samples if label_from_name(s.path.name, False) != s.label == label_from_name(s.path.name)
    ]
    lines = [
        f"images: {len(samples)}",
        f"sizes: {_counts(sizes.most_common(5), len(sizes))}",
        f"label lengths: {_counts(sorted(lengths.items()))}",
        f"characters: {len(characters)} different: {_counts(sorted(characters.items()))}",
    ]
    if rare:
        lines.append(f"rare characters, seen fewer than {MIN_CHARACTER_COUNT} times: {' '.join(rare)}")
    if shortened:
        example = shortened[0]
        lines.append(
            f"names shortened by their copy number: {len(shortened)}, "
            f"for example {example.path.name} is read as {example.label!r}"
        )
    lines.append(f"left out: {len(rejected)}")
    lines += [f"  {printable(path.name)} {reason}" for path, reason in rejected[:MAX_LISTED]]
    if len(rejected) > MAX_LISTED:
        lines.append(f"  and {len(rejected) - MAX_LISTED} more")
    return "\n".join(lines)


def _counts(pairs, total=0):
    more = f" and {total - len(pairs)} more" if total > len(pairs) else ""
    return ", ".join(f"{value} ({count})" for value, count in pairs) + more


def split_data(samples, seed, validation_share=0.1, test_share=0.1, fold=0, folds=0):
    """Cuts the images into training, validation and test.

    The cut depends on the images and the seed alone, not on their order.
    Byte-identical images stay together, so that no test image was trained on.
    For cross-validation, the images are cut into parts of equal size, and one
    of them is the test split: over all folds, each image is tested once.

    Args:
        samples: the list of `Sample`s.
        seed: the seed of the shuffle, an integer of 0 or more.
        validation_share: the share of the images that early stopping watches.
        test_share: the share of the images that only the final score sees;
            not used in cross-validation.
        fold: in cross-validation, the part to test on, from 1 to `folds`.
        folds: the number of parts, 2 or more; 0 for no cross-validation.

    Returns:
        A tuple of three lists of `Sample`s: training, validation, test.

    Raises:
        ValueError: if a split would be empty.
    """
    groups = {}
    for sample in sorted(samples, key=lambda sample: (sample.digest, sample.label, sample.path)):
        groups.setdefault(sample.digest, []).append(sample)
    groups = list(groups.values())
    order = [groups[number] for number in np.random.default_rng(seed).permutation(len(groups))]
    splits = {"test": [], "validation": [], "training": []}
    wanted = {
        "test": max(1, round(test_share * len(samples))),
        "validation": max(1, round(validation_share * len(samples))),
        "training": len(samples),
    }
    if folds:
        splits["test"] = [sample for group in order[fold - 1 :: folds] for sample in group]
        order = [group for place, group in enumerate(order) if place % folds != fold - 1]
        wanted["test"] = 0
    for group in order:
        name = next(name for name in splits if len(splits[name]) < wanted[name])
        splits[name] += group
    empty = [name for name, split in splits.items() if not split]
    if empty:
        raise ValueError(
            f"Expected enough different images for three splits, {max(3, folds)} at the least. "
            f"Found {len(groups)} among {len(samples)} files, "
            f"which leaves nothing for {' and '.join(empty)}."
        )
    assert sum(map(len, splits.values())) == len(samples)
    return splits["training"], splits["validation"], splits["test"]


def describe_splits(training, validation, test):
    """Writes how many images each split has, and which of their characters no training image shows.

    Args:
        training, validation, test: lists of `Sample`s.

    Returns:
        A string of one line, or of two.
    """
    summary = f"training {len(training)}, validation {len(validation)}, test {len(test)} images"
    learnt = {character for sample in training for character in sample.label}
    unknown = Counter(c for sample in validation + test for c in sorted(set(sample.label) - learnt))
    if not unknown:
        return summary
    listed = ", ".join(f"{character!r} ({count})" for character, count in sorted(unknown.items()))
    return (
        f"{summary}\nWARNING: characters that no training image shows, and in how many validation and test "
        f"images they are: {listed}. They cannot be learnt, so those images cannot be read. More images with "
        "them would help."
    )


def encode_single_sample(sample, alphabet, image_width, image_height, max_label_length):
    """Turns one labelled image into arrays.

    Args:
        sample: a `Sample`.
        alphabet: the `Alphabet` of the labels.
        image_width: the model's image width, in pixels.
        image_height: the model's image height, in pixels.
        max_label_length: the length that labels are padded to.

    Returns:
        A dictionary of `"image"`, uint8 of shape `(image_height, image_width)`,
        and `"label"`, int32 of shape `(max_label_length,)`, padded with 0.
    """
    return {
        "image": images.load_fitted(sample.path, image_width, image_height),
        "label": alphabet.encode_batch([sample.label], max_label_length)[0],
    }


def get_data(samples, encode, batch_size, seed=None, first_epoch=0, augmentation=0.0):
    """Feeds images to the model, each decoded when first needed, and kept; see `pixels.encode_all`.

    Without a seed the set gives the images once, in their order: for
    validation and test. With a seed it goes on for ever, epoch after epoch,
    each in a new order: for `fit(..., steps_per_epoch=ceil(images / batch_size))`.
    The order and the augmentation of an epoch depend on the seed and the
    epoch's number alone, so a training that goes on at `first_epoch` sees
    what it would have seen.

    Where several hosts train together, this one gets its share of each batch.
    So that all devices get as many images, the last batch of an epoch may be
    filled up: by the first images of the epoch, or, without a seed, by rows
    with an empty label, which count nothing.

    Args:
        samples: the list of `Sample`s.
        encode: `encode_single_sample` with its other arguments bound, or a
            function like it.
        batch_size: the images of a batch, of all devices together; the last of
            an epoch may be smaller.
        seed: the seed of order and augmentation, or None.
        first_epoch: the epoch to begin with, counted from 0.
        augmentation: the strength of `augment`; 0 for none. It needs a seed.

    Returns:
        A `tf.data.Dataset` of `({"image": (batch, image_width, image_height, 1),
        "label": (batch, max_label_length)}, label)`.
    """
    stored, labels = pixels.encode_all(
        samples, encode
    )  # (samples, height, width), (samples, max_label_length)
    height, width = stored.shape[1:]

    def read(chosen):
        image = np.stack([images.normalise(stored[number]) for number in chosen])
        label = np.where(chosen[:, None] < 0, BLANK, labels[chosen])  # padding rows have an empty label
        return image, label

    def batches_of_epoch(epoch):
        order = tf.range(len(samples))
        if seed is not None:
            order = tf.random.experimental.stateless_shuffle(order, [tf.constant(seed, tf.int64), epoch])
        order = devices.pad_order(order, repeat=seed is not None)
        batches = tf.data.Dataset.from_tensor_slices(order).batch(batch_size)
        return batches.enumerate().map(lambda step, chosen: (epoch, step, chosen))

    def feed(epoch, step, chosen):
        chosen = devices.local_share(chosen)
        image, label = tf.numpy_function(read, [chosen], [tf.float32, tf.int32])
        image.set_shape((None, width, height, 1))
        label.set_shape((None, labels.shape[1]))
        if augmentation:
            part = step * devices.hosts() + devices.host()
            batch_seed = tf.random.fold_in(tf.stack([tf.constant(seed, tf.int64), epoch]), part)
            image = augment(image, batch_seed, augmentation)
        return {"image": image, "label": label}, label

    last_epoch = first_epoch + 1 if seed is None else tf.int64.max
    epochs = tf.data.Dataset.range(first_epoch, last_epoch)
    data = epochs.flat_map(batches_of_epoch).map(feed, num_parallel_calls=tf.data.AUTOTUNE)
    if seed is None:
        data = data.apply(tf.data.experimental.assert_cardinality(-(-len(samples) // batch_size)))
    return data.prefetch(tf.data.AUTOTUNE)
