"""What watches a training: a line for each epoch, warnings, and early stopping that waits for take-off."""

import json
import math
import statistics
import time
from pathlib import Path

import keras
import numpy as np

from snippet_ocr import files
from snippet_ocr.terminal import report
from training import runs

TAKE_OFF_DUE = 15
"""The epoch by which a validation image should have been read: with the defaults it is the third to fifth."""

LOSS_RISE_FACTOR = 3.0
"""A training loss so many times the lowest before has risen, and not just wavered."""


class Progress(keras.callbacks.Callback):
    """Reports a line for each epoch: loss, exact match on the validation images, time left.

    It warns, once, when not a single validation image has been read though that
    is overdue, and when the training loss has risen, and says what to try.
    """

    def on_train_begin(self, logs=None):
        self.seconds = []
        self.lowest_loss = math.inf
        self.taken_off = self.warned_of_rise = False

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.monotonic() - self.started)
        epochs = self.params["epochs"]
        # The first epoch also traces the model's graph; later ones tell the time better.
        left = statistics.median(self.seconds[1:] or self.seconds) * (epochs - epoch - 1)
        report(
            f"epoch {epoch + 1:>3}/{epochs}  loss {logs['loss']:6.3f}  "
            f"validation loss {logs['val_loss']:6.3f}  exact match {logs['val_exact_match']:6.1%}  "
            f"{self.seconds[-1]:4.1f} s  {left / 60:4.1f} min left"
        )
        self.taken_off = self.taken_off or logs["val_exact_match"] > 0
        if epoch + 1 == TAKE_OFF_DUE and not self.taken_off:
            report(
                f"WARNING: after {epoch + 1} epochs not one validation image has been read; most trainings "
                "read the first within 5. Do the labels say what the images show? Try, one at a time: half "
                "the OCR_LEARNING_RATE, twice the OCR_WARMUP_EPOCHS, half the OCR_AUGMENTATION, more images."
            )
        if logs["loss"] > LOSS_RISE_FACTOR * self.lowest_loss and not self.warned_of_rise:
            self.warned_of_rise = True
            report(
                f"WARNING: the training loss has risen from {self.lowest_loss:.3g} to {logs['loss']:.3g}. "
                "The learning rate may be too high. Try half the OCR_LEARNING_RATE, or twice the "
                "OCR_WARMUP_EPOCHS."
            )
        self.lowest_loss = min(self.lowest_loss, logs["loss"])


class EarlyStopping(keras.callbacks.EarlyStopping):
    """Keras's early stopping, whose patience starts to count at take-off.

    The CTC loss of a new model first stands on a flat stretch, where the
    model answers blank everywhere; it can last for many epochs and says
    nothing about what is to come. Patience counts from the first epoch that
    reads a validation image right. Weights are remembered from the first epoch
    on, so that there always is a best epoch to go back to.

    The best epoch is that of the lowest `metrics.ClippedLoss` on the
    validation images, so that a wrong label among them does not end the
    training.

    A loss that is not finite ends the training: nothing comes back from that.

    Args:
        patience: epochs without a better clipped loss before the training
            stops, once it has taken off.

    Raises:
        ValueError: if the loss of the first epoch is not finite, so that there
            is nothing to keep.
    """

    def __init__(self, patience):
        super().__init__("val_clipped_loss", mode="min", patience=patience, restore_best_weights=True)
        self.taken_off = False
        self.best_weights = None

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.taken_off = False

    def on_epoch_end(self, epoch, logs=None):
        if not math.isfinite(logs["loss"] + logs["val_loss"]):
            self._give_up(epoch, logs)
            return
        self.taken_off = self.taken_off or logs["val_exact_match"] > 0
        if not self.taken_off:
            self.wait = -1  # Keras adds one, which leaves the count at 0.
        super().on_epoch_end(epoch, logs)

    def _give_up(self, epoch, logs):
        """Ends a training whose loss is not finite."""
        what = (
            f"the loss of epoch {epoch + 1} is not finite (training {logs['loss']}, validation "
            f"{logs['val_loss']}): the weights have grown beyond all bounds. Half the OCR_LEARNING_RATE, or "
            "twice the OCR_WARMUP_EPOCHS, should help; with another data type than float32, that one."
        )
        if self.best_weights is None:
            raise ValueError(f"Nothing was learnt: {what}")
        report(f"WARNING: {what} The best epoch so far, {self.best_epoch + 1}, is kept.")
        self.stopped_epoch = epoch
        self.model.stop_training = True

    def restore_best(self):
        """Gives the model the weights of the best epoch so far; returns whether there is one."""
        if self.best_weights is None:
            return False
        self.model.set_weights(self.best_weights)
        return True


class Checkpoint(keras.callbacks.Callback):
    """Saves the whole training after every epoch, and brings it back.

    One file holds the weights, their average, the optimizer, the seed
    generators, early stopping with its best weights, and the history. It is
    written beside its place and moved there: a kill at any moment leaves the
    last whole one. `history.csv` beside it is written anew from it.

    It must be the last of the three in the list of callbacks: what `averaging`
    and `early_stopping` make of an epoch is saved with it.

    Args:
        folder: the run's folder.
        averaging: the `keras.callbacks.SwapEMAWeights` of the same training,
            with `swap_on_epoch=True`.
        early_stopping: the `EarlyStopping` of the same training.

    Attributes:
        history: a list with a dictionary for each finished epoch: `epoch`
            (counted from 1), the logs of Keras, `learning_rate`, `seconds`.
    """

    STOPPING = ("best", "best_epoch", "wait", "stopped_epoch", "taken_off")

    def __init__(self, folder, averaging, early_stopping):
        super().__init__()
        self.path = Path(folder) / runs.CHECKPOINT
        self.averaging = averaging
        self.early_stopping = early_stopping
        self.history = []
        if self.path.exists():
            with np.load(self.path) as saved:
                self.history = json.loads(str(saved["history"]))
                early_stopping.stopped_epoch = json.loads(str(saved["early stopping"]))["stopped_epoch"]

    @property
    def epochs_done(self):
        """The finished epochs; the `initial_epoch` of `fit`."""
        return len(self.history)

    def last_epoch(self, epochs):
        """The `epochs` of `fit`: those wanted, or those done if early stopping ended the training."""
        return self.epochs_done if self.early_stopping.stopped_epoch > 0 else epochs

    def summary(self):
        """The training in short: epochs, the best of them, seconds and the machine, as a dictionary."""
        return {
            "epochs": self.epochs_done,
            "best_epoch": self.early_stopping.best_epoch + 1,
            "seconds": round(sum(row["seconds"] for row in self.history), 1),
            "machine": runs.environment()["machine"],
        }

    def on_train_begin(self, logs=None):
        if not self.path.exists():
            return
        with np.load(self.path) as saved:
            for number, variable in enumerate(self._variables()):
                variable.assign(saved[f"variable {number}"])
            stopping = json.loads(str(saved["early stopping"]))
            weights = [saved[f"best weight {number}"] for number in range(len(self.model.weights))]
        self.early_stopping.best_weights = weights
        for name, value in stopping.items():
            setattr(self.early_stopping, name, value)

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        row = {key: float(value) for key, value in logs.items()}
        row["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        row = {"epoch": epoch + 1, **row, "seconds": time.monotonic() - self.started}
        # Between epochs the model holds the averaged weights. What training goes on with are the others.
        self.averaging.on_epoch_begin(epoch)
        self._save([*self.history, row])
        self.averaging.on_epoch_end(epoch)
        files.write_csv(self.path.with_name("history.csv"), self.history)

    def _save(self, history):
        stopping = {name: getattr(self.early_stopping, name) for name in self.STOPPING}
        variables = map(keras.ops.convert_to_numpy, self._variables())
        content = {f"variable {number}": variable for number, variable in enumerate(variables)}
        content |= {f"best weight {number}": w for number, w in enumerate(self.early_stopping.best_weights)}
        content |= {"early stopping": json.dumps(stopping), "history": json.dumps(history)}
        with files.atomic_write(self.path) as unfinished:
            np.savez(unfinished, **content)
        self.history = history  # An epoch counts once it is saved.

    def _variables(self):
        """Everything that training changes: weights, seed generators, the optimizer's memory."""
        self.model.optimizer.build(self.model.trainable_variables)
        return [*self.model.variables, *self.model.optimizer.variables]
