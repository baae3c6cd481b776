"""The recipes that this notebook is compared with, in plain Keras.

    python -m benchmarks.baselines {ancestor,captcha_ocr} FOLDER CURVE --seed S --limit SECONDS --target SHARE

FOLDER contains `training.csv` and `unseen.csv` (columns `image_path` and
`plate_text`), as `benchmarks.speed` writes them. The curve is written to CURVE.

Both recipes are re-implemented from their description. Two details differ
from the originals without changing the training: the model outputs logits to
`CTCLayer`, where the originals have a softmax and take its logarithm in the
loss, and early stopping is left out, because it might stop the training on the
plateau.
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

WIDTH, HEIGHT, BATCH_SIZE = 200, 50, 16


class Baseline(NamedTuple):
    """A recipe.

    Attributes:
        recurrent: the class of the recurrent layers.
        units: the units of each recurrent layer.
        learning_rate: the initial learning rate.
        square_root: whether the learning rate falls with the square root of the epoch.
        epochs: the maximum number of epochs.
    """

    recurrent: type
    units: tuple
    learning_rate: float
    square_root: bool
    epochs: int


BASELINES = {
    "ancestor": Baseline(layers.GRU, (128, 128, 64), 3e-4, True, 200),
    "captcha_ocr": Baseline(layers.LSTM, (128, 64), 1e-3, False, 100),
}
"""This notebook's first version, and https://keras.io/examples/vision/captcha_ocr/."""


def build_model(baseline, max_label_length, number_of_classes):
    """Builds the training model of a `Baseline`: from image and label to logits, with the CTC loss inside."""
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
    logits = layers.Dense(number_of_classes, name="logits")(x)  # (batch, steps, classes)
    return keras.Model([image, label], CTCLayer(name="ctc")(label, logits))


def read_images(file):
    """Reads the images and labels that a CSV file lists.

    Args:
        file: the `Path` of the CSV file.

    Returns:
        A tuple of the images, float32 of shape `(images, 200, 50, 1)` from 0 to 1, and a list of labels.
    """
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    pixels = []
    for row in rows:
        content = tf.io.read_file(os.fspath(file.parent / row["image_path"]))
        image = tf.io.decode_image(content, channels=1, dtype="float32", expand_animations=False)
        pixels.append(tf.transpose(tf.image.resize(image, (HEIGHT, WIDTH)), (1, 0, 2)))  # (200, 50, 1)
    return np.stack(pixels), [row["plate_text"] for row in rows]


def train(baseline, folder, clock, seed):
    """Trains a `Baseline` on a folder's images; the `Clock` writes its curve."""
    keras.utils.set_random_seed(seed)
    images, texts = read_images(folder / "training.csv")
    unseen_images, unseen_texts = read_images(folder / "unseen.csv")
    alphabet = Alphabet.from_labels(texts + unseen_texts)
    length = max(map(len, texts + unseen_texts))
    labels, unseen_labels = (alphabet.encode_batch(split, length) for split in (texts, unseen_texts))
    model = build_model(baseline, length, alphabet.number_of_classes)
    model.compile(keras.optimizers.Adam(baseline.learning_rate), metrics=[metrics.ExactMatch()])
    callbacks = [clock]
    if baseline.square_root:
        schedule = SquareRootScheduler(baseline.learning_rate)
        callbacks.insert(0, keras.callbacks.LearningRateScheduler(schedule))
    model.fit(
        {"image": images, "label": labels},
        labels,
        validation_data=({"image": unseen_images, "label": unseen_labels}, unseen_labels),
        batch_size=BATCH_SIZE,
        epochs=baseline.epochs,
        callbacks=callbacks,
        verbose=2,
    )


def main(arguments=None):
    """Trains a baseline and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.baselines", description="Trains a recipe to compare with."
    )
    parser.add_argument("baseline", choices=BASELINES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("curve", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--limit", type=float, required=True, help="maximum training time in seconds")
    parser.add_argument("--target", type=float, required=True, help="exact match that ends the training")
    options = parser.parse_args(arguments)
    clock = Clock(options.curve, "val_exact_match", options.limit, options.target)
    train(BASELINES[options.baseline], options.folder, clock, options.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
