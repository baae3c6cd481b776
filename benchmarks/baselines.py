"""The recipes that this notebook is compared with, in plain Keras.

    python -m benchmarks.baselines {ancestor,captcha_ocr} FOLDER CURVE --seed S --limit SECONDS --enough SHARE

FOLDER holds `training.csv` and `unseen.csv` (columns `image_path` and
`plate_text`), as `benchmarks.speed` writes them. The curve goes to CURVE.

Both are written anew from their description. They differ from their originals
in what does not change the training: logits and `CTCLayer` stand for a softmax
and the loss over its logarithm, and early stopping is left out, because it
might stop them on the flat stretch.
"""

import argparse
import csv
import os
import sys
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from benchmarks.clock import Clock
from CTCLayer import CTCLayer
from snippet_ocr.alphabet import Alphabet
from SquareRootScheduler import SquareRootScheduler
from training import metrics

WIDTH, HEIGHT, BATCH = 200, 50, 16


class Baseline(NamedTuple):
    """A recipe: recurrent layers, their units, the learning rate, whether it falls, the epochs at most."""

    recurrent: type
    units: tuple
    learning_rate: float
    square_root: bool
    epochs: int


BASELINES = {
    "ancestor": Baseline(layers.GRU, (128, 128, 64), 3e-4, True, 200),
    "captcha_ocr": Baseline(layers.LSTM, (128, 64), 1e-3, False, 100),
}
"""What this notebook's first versions did, and https://keras.io/examples/vision/captcha_ocr/."""


def build_model(baseline, max_label_length, number_of_classes):
    """Builds the training model of a baseline.

    Args:
        baseline: a `Baseline`.
        max_label_length: the length that labels are padded to.
        number_of_classes: the characters and the blank.

    Returns:
        A `keras.Model` from image and label to logits, with the CTC loss inside.
    """
    image = keras.Input((WIDTH, HEIGHT, 1), name="image")
    label = keras.Input((max_label_length,), dtype="int32", name="label")
    x = image
    for filters in (32, 64):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", kernel_initializer="he_normal")(x)
        x = layers.MaxPooling2D((2, 2))(x)
    x = layers.Reshape((x.shape[1], x.shape[2] * x.shape[3]))(x)
    x = layers.Dense(64, activation="relu")(x)
    x = layers.Dropout(0.2)(x)
    for units in baseline.units:
        x = layers.Bidirectional(baseline.recurrent(units, return_sequences=True, dropout=0.25))(x)
    logits = layers.Dense(number_of_classes, name="logits")(x)
    return keras.Model([image, label], CTCLayer(name="ctc")(label, logits))


def read_images(file):
    """Reads the images and labels that a csv file lists.

    Args:
        file: the `Path` of the csv file.

    Returns:
        A tuple of float32 of shape `(images, 200, 50, 1)` from 0 to 1, and a list of strings.
    """
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    pixels = []
    for row in rows:
        content = tf.io.read_file(os.fspath(file.parent / row["image_path"]))
        image = tf.io.decode_image(content, channels=1, dtype="float32", expand_animations=False)
        pixels.append(tf.transpose(tf.image.resize(image, (HEIGHT, WIDTH)), (1, 0, 2)))
    return np.stack(pixels), [row["plate_text"] for row in rows]


def train(baseline, folder, clock, seed):
    """Trains a baseline; the `Clock` writes its curve.

    Args:
        baseline: a `Baseline`.
        folder: the `Path` of the folder with `training.csv` and `unseen.csv`.
        clock: a `Clock` that watches `val_exact_match`.
        seed: the seed of weights, order and dropout.
    """
    keras.utils.set_random_seed(seed)
    (images, texts), (unseen_images, unseen_texts) = (
        read_images(folder / f"{split}.csv") for split in ("training", "unseen")
    )
    alphabet = Alphabet.from_labels(texts + unseen_texts)
    longest = max(map(len, texts + unseen_texts))
    labels, unseen = alphabet.encode_batch(texts, longest), alphabet.encode_batch(unseen_texts, longest)
    model = build_model(baseline, longest, alphabet.number_of_classes)
    model.compile(keras.optimizers.Adam(baseline.learning_rate), metrics=[metrics.ExactMatch()])
    callbacks = [clock]
    if baseline.square_root:
        callbacks.append(keras.callbacks.LearningRateScheduler(SquareRootScheduler(baseline.learning_rate)))
    model.fit(
        {"image": images, "label": labels},
        labels,
        validation_data=({"image": unseen_images, "label": unseen}, unseen),
        batch_size=BATCH,
        epochs=baseline.epochs,
        callbacks=callbacks,
        verbose=2,
    )


def main(arguments=None):
    """Trains a baseline and returns the exit code."""
    parser = argparse.ArgumentParser(prog="baselines", description="Trains a recipe to compare with.")
    parser.add_argument("baseline", choices=BASELINES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("curve", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--limit", type=float, required=True, help="seconds")
    parser.add_argument("--enough", type=float, required=True, help="the exact match that ends the training")
    options = parser.parse_args(arguments)
    clock = Clock(options.curve, "val_exact_match", options.limit, options.enough)
    train(BASELINES[options.baseline], options.folder, clock, options.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
