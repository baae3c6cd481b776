"""Exact match over time, for any Keras training: all systems that are compared are timed the same way."""

import csv
import time

import keras


class Clock(keras.callbacks.Callback):
    """Writes the seconds since the start of the training and the exact match on unseen images, per epoch.

    The seconds include everything between the start of the training and the
    end of the epoch: tracing the graph, reading the unseen images, and other
    callbacks. The clock must be the last callback.

    Args:
        path: the CSV file to write, with the columns `seconds` and `exact_match` and a row per epoch.
        metric: the name under which Keras logs exact match.
        limit: seconds after which the training stops, at the end of an epoch.
        target: the exact match, from 0 to 1, that ends the training.
    """

    def __init__(self, path, metric, limit, target):
        super().__init__()
        self.path, self.metric, self.limit, self.target = path, metric, limit, target
        self.curve = []

    def on_train_begin(self, logs=None):
        self.started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.monotonic() - self.started
        self.curve.append([round(seconds, 2), round(float(logs[self.metric]), 4)])
        with open(self.path, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["seconds", "exact_match"], *self.curve])
        if seconds > self.limit or logs[self.metric] >= self.target:
            self.model.stop_training = True


class FirstStep(keras.callbacks.Callback):
    """Writes the time of the first training step, in seconds since 1970, to a file."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_train_batch_end(self, batch, logs=None):
        if not self.path.exists():
            self.path.write_text(str(time.time()))


def read_curve(path):
    """Reads what a `Clock` wrote: a list of `[seconds, exact match]`, one per epoch."""
    with open(path, encoding="utf-8", newline="") as file:
        return [[float(row["seconds"]), float(row["exact_match"])] for row in csv.DictReader(file)]
