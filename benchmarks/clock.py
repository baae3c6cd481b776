"""Exact match over time, of any Keras training: the systems that are compared are timed by the same clock."""

import csv
import time

import keras


class Clock(keras.callbacks.Callback):
    """Writes, after each epoch, the seconds since the training began and the exact match on unseen images.

    The seconds count everything between the beginning of the training and the
    end of the epoch: tracing the graph, reading the unseen images, and what
    other callbacks do. It must be the last of the callbacks.

    Args:
        path: the csv file to write: a row of `seconds` and `exact_match` for each epoch.
        metric: the name under which Keras logs exact match.
        limit: seconds after which the training stops, at the end of an epoch.
        enough: the exact match that ends the training.
    """

    def __init__(self, path, metric, limit, enough):
        super().__init__()
        self.path, self.metric, self.limit, self.enough = path, metric, limit, enough
        self.curve = []

    def on_train_begin(self, logs=None):
        self.started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.monotonic() - self.started
        self.curve.append([round(seconds, 2), round(float(logs[self.metric]), 4)])
        with open(self.path, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["seconds", "exact_match"], *self.curve])
        if seconds > self.limit or logs[self.metric] >= self.enough:
            self.model.stop_training = True


def read_curve(path):
    """The `[seconds, exact match]` of each epoch that a `Clock` wrote: a list of lists of two floats."""
    with open(path, encoding="utf-8", newline="") as file:
        return [[float(row["seconds"]), float(row["exact_match"])] for row in csv.DictReader(file)]
