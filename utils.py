"""From a folder of labelled images to `tf.data` datasets: find, check, split, load."""

import itertools
import os
import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from CTCLayer import NO_IMAGE
from snippet_ocr import images
from snippet_ocr.terminal import printable, report
from training import devices, groups, parameters, pixels, runs
from training.augmentation import augment
from training.labels import FILE_NAMES, MAX_ROWS, check_labels, find_labels, label_from_name, steps_needed
from training.summary import listed

MIN_CONFIDENCE = 0.9  # of a reading that serves as a label
COPY = re.compile(r"(?i). (\(\d+\)|(- )?(copy|kopie|copie|copia)( \(?\d+\)?)?)$")  # as of "04187 (1)"
INVISIBLE = re.compile("[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]")  # not the joiners


class Sample(NamedTuple):
    """A labelled image that can be used."""

    path: Path
    label: str
    size: tuple  # width and height, in pixels
    digest: str  # SHA-256 of the file, in hexadecimal
    source: str = FILE_NAMES  # of the label; see `labels.Labels`
    copy_of: str = ""  # the digest of the first of the images that are nearly the same; "" if unknown
    group: str = ""  # images of a group stay in one split; "" for none


class Rejected(NamedTuple):
    """A file that cannot be used, and the reason."""

    path: Path
    reason: str


def find_images(data_dir, time_steps=None, drop_copy_number=True, group_by="", allow_empty=False):
    """Finds the labelled images of a folder and checks each of them.

    Args:
        data_dir: the folder. Subfolders are searched too, except hidden ones and links.
        time_steps: the model's time steps; a label that needs more is rejected.
        drop_copy_number, group_by: see `labels.label_from_name` and `groups.set_groups`.
        allow_empty: whether an empty text in a label file means that the image shows no text.

    Returns:
        A tuple of two lists: the usable images as `Sample`s; all other files and unusable lines of label
        files as `Rejected`, sorted by path, with unlisted images last.

    Raises:
        ValueError: if the folder does not exist or has no usable image; see also `labels.find_labels`,
            `labels.check_labels` and `groups.set_groups`.
    """
    data_dir = Path(data_dir).absolute()
    if not data_dir.is_dir():
        raise ValueError(
            f"Expected a folder of images at {data_dir}. There is no such folder. "
            "In the notebook, set data_dir or OCR_DATA_DIR; its relative paths start at the project's folder."
        )
    labels, rejected, found = _label_files(data_dir, time_steps, drop_copy_number, allow_empty)
    samples, thumbnails = [], {}
    for path, result in zip(labels, pixels.inspect_images(list(labels)), strict=True):
        if isinstance(result, str):
            rejected.append(Rejected(path, result))
        else:
            size, digest, thumbnails[digest] = result
            samples.append(Sample(path, labels[path], size, digest, found.source))
    samples, contradictions = _separate_contradictions(samples, data_dir)
    samples = groups.mark_near_duplicates(samples, thumbnails)
    # Images that are not listed are last: the lines of the label files are often the reason.
    rejected = sorted(rejected + contradictions, key=lambda file: ("is not listed" in file.reason, file.path))
    if not samples:
        raise ValueError(
            f"Expected images ({', '.join(images.SUFFIXES)}) in {data_dir}, each named after its text "
            "or listed in a label file. "
            + "\n  ".join(["Found none that can be used.", *listed(rejected[:10], data_dir)])
        )
    return groups.set_groups(samples, group_by, data_dir, found.cells), rejected


def _label_files(data_dir, time_steps, drop_copy_number, allow_empty):
    """Returns a dictionary from paths to labels, a list of `Rejected`, and the `Labels`."""
    paths = list(_files_below(data_dir))
    found = find_labels(data_dir, paths, drop_copy_number, allow_empty)
    labels, rejected = {}, [Rejected(*problem) for problem in found.problems]
    for path in paths:
        if path in found.tables:
            reason = found.tables[path]
            if reason is None:
                continue
        else:
            from_names = found.source == FILE_NAMES
            label = label_from_name(path.name, drop_copy_number) if from_names else found.texts.get(path)
            reason = _reason_to_reject(path, label, time_steps, found.name)
        if reason:
            rejected.append(Rejected(path, reason))
        else:
            labels[path] = label
    check_labels(data_dir, found, labels)
    return labels, rejected, found


def _files_below(folder):
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = [Path(parent, name) for name in folders]
        # `os.walk` skips links to folders, and unreadable folders. They are yielded here, to be reported.
        skipped = [path for path in paths if path.is_symlink() or not os.access(path, os.R_OK | os.X_OK)]
        yield from sorted([*skipped, *(Path(parent, name) for name in names)])


def _reason_to_reject(path, label, time_steps, label_file):
    """Returns the reason to reject a file without opening it, or None."""
    if path.is_dir():
        return "is a folder that was not searched, because it is a link or not readable"
    if printable(path.name) != path.name:
        return "has a name that is not UTF-8; rename it"
    if not path.name.lower().endswith(images.SUFFIXES):
        return f"is not one of {', '.join(images.SUFFIXES)}"
    if label is None:
        return f"is not listed in {label_file}"
    if not label and not label_file:
        return "has an empty label: its name contains no text"
    if not label_file and (found := COPY.search(label)):
        return f"has a name that a program gives to a copy ({found[0].strip()}); rename it to TEXT_1"
    rows = label.split("\n") if label_file else [label]
    if len(rows) > MAX_ROWS:
        return f"has a label of {len(rows)} lines; crop the image to at most {MAX_ROWS} rows of text"
    if any(unicodedata.category(character) == "Cc" for character in "".join(rows)):
        return f"has a label with a control character: {label!r}"
    if found := INVISIBLE.search(label):
        return f"has a label with an invisible character, {found[0]!a}: {label!a}; remove it"
    if time_steps is not None and steps_needed(label) > time_steps:
        return (
            f"has a label that is too long: {label!r} needs {steps_needed(label)} time steps, the model has "
            f"{time_steps}; a larger image_width gives more"
        )
    return None


def _separate_contradictions(samples, data_dir):
    """Removes byte-identical images with different labels, because at most one label can be right."""
    names = {}  # digest → label → first file with it, relative to the folder
    for sample in samples:
        name = printable(sample.path.relative_to(data_dir))
        names.setdefault(sample.digest, {}).setdefault(sample.label, name)
    contradictions = []
    for sample in samples:
        other = next((name for label, name in names[sample.digest].items() if label != sample.label), None)
        if other:
            reason = f"is byte-identical to {other}, which has a different label"
            contradictions.append(Rejected(sample.path, reason))
    return [sample for sample in samples if len(names[sample.digest]) == 1], contradictions


def split_data(samples, seed, validation_share=0.1, test_share=0.1, fold=0, folds=0):
    """Splits images into training, validation and test.

    The split depends only on the images, their groups and the seed. Images of a group are in the same split,
    and so are copies with the same label, so no copy of a test image is in training. If they are more than
    the images of a split, they are in training, as long as enough others remain.

    Args:
        samples, seed: a list of `Sample`s, and the seed of the shuffle, an integer of 0 or more.
        validation_share, test_share: fractions of the images. Cross-validation ignores `test_share`.
        fold, folds: for cross-validation, the part to test on, from 1, and the number of equal parts, at
            least 2.

    Returns:
        A tuple of three lists of `Sample`s: training, validation, test.

    Raises:
        ValueError: if a split would be empty.
    """
    units = groups.find_inseparable(samples)
    order = [units[number] for number in np.random.default_rng(seed).permutation(len(units))]
    shares = {"test": test_share, "validation": validation_share, "training": 1}
    sizes = {name: max(1, round(share * len(samples))) for name, share in shares.items()}
    splits = {name: [] for name in shares}
    if folds:
        splits["test"] = [sample for group in order[fold - 1 :: folds] for sample in group]
        sizes["test"] = 0
        order = [group for place, group in enumerate(order) if place % folds != fold - 1]
    smallest = min(size for size in (sizes["test"], sizes["validation"]) if size)
    order.sort(key=lambda group: len(group) > smallest)  # large groups are last, so they are in training
    for place, group in enumerate(order):  # fill test first, then validation; training gets the rest
        unfilled = [name for name in splits if len(splits[name]) < sizes[name]]
        empty = [name for name in unfilled if not splits[name]]
        last = len(order) - place <= len(empty)  # the last groups are for the splits that are empty
        splits[(empty if last else unfilled)[0]] += group
    empty = [name for name, split in splits.items() if not split]
    if empty:
        kind = "groups of images" if any(sample.group for sample in samples) else "different images"
        raise ValueError(
            f"Expected at least {max(3, folds)} {kind} for training, validation and test. "
            f"Found {len(units)} in {len(samples)} files; no image remains for {' and '.join(empty)}."
        )
    return splits["training"], splits["validation"], splits["test"]


def find_unlabelled(folder, samples):
    """Returns the usable images of a folder as `Sample`s without labels; [] if `folder` is empty.

    Copies of the labelled `samples` are left out: byte-identical or nearly the same, they may be test images.
    So are byte-identical copies of each other. Raises ValueError if there is no such folder.
    """
    if not folder:
        return []
    folder, known, found, unusable = parameters.resolve(folder), {one.digest for one in samples}, {}, []
    if not folder.is_dir():
        raise ValueError(f"Expected a folder of unlabelled images at {folder}. There is none.")
    paths = images.find_files([folder])
    for path, result in zip(paths, pixels.inspect_images(paths), strict=True):
        if isinstance(result, str):
            unusable.append(f"{printable(path)} {result}")
        elif result[1] not in known:
            known.add(result[1])
            found[Sample(path, "", *result[:2])] = result[2]
    inspected = pixels.inspect_images([one.path for one in samples])
    labelled = [result[2] for result in inspected if not isinstance(result, str)]
    firsts = pixels.find_near_duplicates([*labelled, *found.values()])[len(labelled) :]
    new = [sample for sample, first in zip(found, firsts, strict=True) if first >= len(labelled)]
    copies = len(paths) - len(unusable) - len(new)
    counts = f"{len(new)} unlabelled images; {len(unusable)} files skipped, {copies} copies left out"
    report("\n  ".join([counts, *unusable[:10]]))
    return new


def read_confidently(reader, unlabelled, max_label_length, min_confidence=MIN_CONFIDENCE):
    """Returns the samples that a reader reads with confidence, with the readings as labels."""
    if not unlabelled:
        return []
    readings = reader.read([sample.path for sample in unlabelled], progress=True)
    found = [
        sample._replace(label=reading.text)
        for sample, reading in zip(unlabelled, readings, strict=True)
        if reading.confidence >= min_confidence and 0 < len(reading.text) <= max_label_length
    ]
    report(f"{len(found)} of {len(unlabelled)} unlabelled images are read with confidence")
    return found


def train_in_rounds(train, trained, training, read, rounds, folder):
    """Trains again with confident readings of unlabelled images, as long as the validation loss falls.

    No round follows a training that was interrupted. Source: Xie et al., "Self-training with Noisy Student
    improves ImageNet classification", 2020.

    Args:
        train: a function that trains on samples in a folder, below a heading. It returns a tuple that starts
            with the model and its `Checkpoint`.
        trained: what it has returned for the samples `training`.
        read: a function that returns the samples that a model reads with confidence.
        rounds: the maximum number of further trainings.
        folder: the run's folder; each round has a folder in it, in which it can resume.

    Returns:
        A tuple of the best training, as `train` returns it, and the samples that it has learned from.
    """
    learned = training
    for number in range(1, rounds + 1):
        confident = read(trained[0]) if trained[1].complete else []
        if not confident:
            break
        heading = f"round {number}: {len(confident)} unlabelled images join the training"
        round_dir = folder / f"round_{number}_{runs.fingerprint(confident)[:8]}"  # of these readings only
        again = train(training + confident, round_dir, heading)
        gain = trained[1].best("val_clipped_loss") - again[1].best("val_clipped_loss")  # in nats
        change = f"{'falls' if gain > 0 else 'rises'} by {abs(gain):.3f} nats"
        report(f"round {number}: the validation loss {change}")
        if gain <= 0:
            break
        trained, learned = again, training + confident
    return trained, learned


def encode_single_sample(sample, alphabet, widths, image_height, max_label_length):
    """Converts a `Sample` to arrays. The arguments are those of the model; sizes are in pixels.

    Returns a dictionary of `"image"`, uint8 of shape `(image_height, width)` with one of the `widths`, and
    `"label"`, int32 of shape `(max_label_length,)`, padded with 0.
    """
    return {
        "image": images.load_fitted(sample.path, widths, image_height),
        "label": alphabet.encode_batch([sample.label], max_label_length)[0],
    }


def batches_of_pass(widths, batch_size, seed=None, number=0):
    """Returns the batches of one pass through images of the given `widths`: a list of arrays of indices.

    The images of a batch have the same width. With a seed, images and batches are shuffled, differently for
    each `number` of a pass. Negative indices are those of padding rows; see `devices.pad_order`.
    """
    generator = None if seed is None else np.random.default_rng([seed, number])
    batches = []
    for width in np.unique(widths):
        order = np.flatnonzero(np.equal(widths, width))
        if generator:
            generator.shuffle(order)
        order = devices.pad_order(order, repeat=generator is not None)
        batches += [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if generator:
        generator.shuffle(batches)
    return batches


def count_batches(samples, widths, height, batch_size):
    """Returns the number of batches in one pass through `Sample`s; `widths` and `height` are in pixels."""
    chosen = [images.choose_width(sample.size, widths, height) for sample in samples]
    return len(batches_of_pass(chosen, batch_size))


def get_data(samples, encode, batch_size, seed=None, first_step=0, augmentation=0.0):
    """Decodes all images once and returns a dataset of their batches, whose images have the same width.

    Without a seed, for validation and test, the dataset contains each image once, in order of width. With a
    seed, it is infinite, and shuffled again after each pass; pass `steps_per_epoch` to `fit`. Order and
    augmentation depend only on seed and step, so a training that resumes gets the same batches. If several
    devices share each batch, the last one of a width may be padded: in training with images, otherwise with
    rows without a label, which loss and metrics ignore.

    Args:
        samples: a list of `Sample`s.
        encode: a function of a sample: `encode_single_sample` with its other arguments bound.
        batch_size: the images in a batch, over all devices. The last batch of a width may be smaller.
        seed: the seed of order and augmentation, or None.
        first_step: the first training step, counted from 0 over all epochs.
        augmentation: the strength of `augment`; 0 for none. Above 0, it needs a seed.

    Returns:
        A `tf.data.Dataset` of `({"image": image, "label": label}, label)`: uint8 of shape `(batch,
        image_height, width)` and int32 of `(batch, max_label_length)`.
    """
    stored, labels = pixels.encode_all(samples, encode)  # a list, and an array (images, max_label_length)
    widths = [image.shape[1] for image in stored]

    def number_batches():
        """Yields the batches: (pass, number, indices). The images are looked up later, in parallel."""
        first_pass, done = divmod(first_step, len(batches_of_pass(widths, batch_size)))
        for pass_ in [0] if seed is None else itertools.count(first_pass):
            batches = enumerate(batches_of_pass(widths, batch_size, seed, pass_))
            yield from ((pass_, *batch) for batch in itertools.islice(batches, done, None))
            done = 0

    def look_up(indices):
        """Returns NumPy arrays of the images and the labels."""
        # Index -1 - i stands for a padding row. It has the pixels of image i and no label.
        shown = np.maximum(indices, -1 - indices)  # (batch,)
        label = np.where(indices[:, None] < 0, NO_IMAGE, labels[shown])  # (batch, max_label_length)
        return np.stack([stored[number] for number in shown]), label

    def load_batch(pass_, number, indices):
        """Returns the inputs and targets of `fit`."""
        image, label = tf.numpy_function(look_up, [indices], [tf.uint8, tf.int32])
        image.set_shape((None, stored[0].shape[0], None))  # `numpy_function` loses the shapes
        label.set_shape((None, labels.shape[1]))
        if augmentation:
            batch_seed = tf.random.fold_in(tf.stack([tf.constant(seed, tf.int64), pass_]), number)  # (2,)
            image = augment(image, batch_seed, augmentation)
        return {"image": image, "label": label}, label

    signature = tuple(tf.TensorSpec(shape, tf.int64) for shape in ((), (), (None,)))
    data = tf.data.Dataset.from_generator(number_batches, output_signature=signature)
    data = data.map(load_batch, num_parallel_calls=tf.data.AUTOTUNE)
    if seed is None:
        data = data.apply(tf.data.experimental.assert_cardinality(len(batches_of_pass(widths, batch_size))))
    return data.prefetch(tf.data.AUTOTUNE)
