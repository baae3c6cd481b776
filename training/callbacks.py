"""Callbacks of `fit`: progress and warnings, early stopping after take-off, checkpoints, interrupts.

A training starts with a plateau, in which the model predicts blanks almost everywhere. It ends with the
take-off: the first epoch in which a validation image is read correctly.
"""

import contextlib
import json
import math
import signal
import statistics
import threading
import time
from pathlib import Path

import keras
import numpy as np
from IPython.display import clear_output

from snippet_ocr import files
from snippet_ocr.decoding import log_softmax
from snippet_ocr.terminal import in_kernel, report
from training import plots, runs

TAKE_OFF_DUE = 15  # epochs without take-off before a warning; the defaults need 3 to 5
MIN_LOSS_GAIN = 0.005  # nats; compared in benchmarks/RESULTS.md
MIN_VALIDATION_IMAGES = 25  # fewer say too little about which epoch is best
LOSS_RISE_FACTOR = 3.0  # a training loss above this multiple of its minimum gives a warning …
RISEN_LOSS = 1.0  # … unless it is below this number of nats


class Progress(keras.callbacks.Callback):
    """Reports each epoch in one line, and warns once of a missing take-off and of a rising training loss.

    Args:
        draw: a function that returns a figure of the training so far, or None. In a Jupyter kernel, the
            figure is shown below the lines and drawn again after each epoch.
        heading: text that stays above the lines.
    """

    def __init__(self, draw=None, heading=""):
        super().__init__()
        self.draw, self.lines = draw, [heading] if heading else []

    def on_train_begin(self, logs=None):
        self.seconds = []
        self.min_loss = math.inf
        self.taken_off = self.warned_of_rise = False
        list(map(report, self.lines))

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.monotonic() - self.started)
        epochs = self.params["epochs"]
        # The first epoch includes the compilation of the model, so later epochs give a better estimate.
        left = statistics.median(self.seconds[1:] or self.seconds) * (epochs - epoch - 1)
        self._report(
            f"epoch {epoch + 1:>3}/{epochs}  loss {logs['loss']:6.3f}  "
            f"validation loss {logs['val_clipped_loss']:6.3f}  exact match {logs['val_exact_match']:6.1%}  "
            f"{self.seconds[-1]:4.1f} s  {left / 60:4.1f} min left"
        )
        self._warn(epoch, logs)
        if self.draw and in_kernel() and math.isfinite(logs["loss"]):
            # Not an update of the figure: runipy does not know such messages.
            clear_output(wait=True)
            print("\n".join(self.lines), flush=True)
            plots.show(self.draw(), "The training so far")

    def _report(self, line):
        self.lines.append(line)
        report(line)

    def _warn(self, epoch, logs):
        self.taken_off = self.taken_off or logs["val_exact_match"] > 0
        if epoch + 1 == TAKE_OFF_DUE and not self.taken_off:
            self._report(
                f"WARNING: no validation image has been read correctly in {TAKE_OFF_DUE} epochs; usually the "
                "first is read within 5. Check that the labels match the images. Then try one change at a "
                "time: halve OCR_LEARNING_RATE, double OCR_WARMUP_EPOCHS, halve OCR_AUGMENTATION, add images."
            )
        risen = logs["loss"] > max(LOSS_RISE_FACTOR * self.min_loss, RISEN_LOSS)
        if risen and not self.warned_of_rise:
            self.warned_of_rise = True
            self._report(
                f"WARNING: the training loss has risen from {self.min_loss:.3g} to {logs['loss']:.3g}. The "
                "learning rate may be too high. Try to halve OCR_LEARNING_RATE or double OCR_WARMUP_EPOCHS."
            )
        self.min_loss = min(self.min_loss, logs["loss"])


class Interrupt(keras.callbacks.Callback):
    """Ends a training after the current step when the user interrupts it.

    Inside a step, TensorFlow may lose Python's `KeyboardInterrupt` or turn it into another error. A second
    interrupt takes effect at once. Example:

    ```python
    with Interrupt() as interrupt:
        model.fit(..., callbacks=[..., interrupt])  # raises KeyboardInterrupt
    ```
    """

    def __enter__(self):
        self.received, self.before = False, None
        if threading.current_thread() is threading.main_thread():  # no other thread receives interrupts
            self.before = signal.signal(signal.SIGINT, self._receive)
        return self

    def __exit__(self, error, *_):
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)
        if not error:
            self._end()

    def _receive(self, *_):
        self._end()
        self.received = True
        with contextlib.suppress(RuntimeError):  # another line is just being printed
            report("interrupted: the training ends after this step")

    def _end(self, *_, **__):
        if self.received:
            raise KeyboardInterrupt

    on_train_batch_end = on_test_batch_end = on_epoch_end = _end


class Film(keras.callbacks.Callback):
    """Reads one image after each epoch, and keeps the probabilities in `film.npy` in a folder.

    Args:
        folder: the run's folder, in which a training may resume.
        image: uint8 of shape `(height, width)`, as `Reader.prepare` returns it.
        batch_size: the model's batch size: all devices get a copy of the image.

    Attributes:
        frames: float32 of shape `(epochs, steps, classes)`, the probabilities after each epoch.
    """

    def __init__(self, folder, image, batch_size):
        super().__init__()
        self.path, self.images = Path(folder) / "film.npy", np.repeat(image[None], batch_size, axis=0)
        self.frames = np.load(self.path) if self.path.exists() else None

    def on_epoch_end(self, epoch, logs=None):
        reading_model = keras.Model(self.model.inputs[0], self.model.get_layer("logits").output)
        logits = keras.ops.convert_to_numpy(reading_model(self.images, training=False))[:1]
        frame = np.exp(log_softmax(logits.astype("float64"))).astype("float32")  # (1, steps, classes)
        before = frame[:0] if self.frames is None else self.frames[:epoch]
        self.frames = np.concatenate([before, frame])
        with files.atomic_write(self.path) as unfinished:
            np.save(unfinished, self.frames)


class EarlyStopping(keras.callbacks.EarlyStopping):
    """Early stopping as in Keras, but patience counts only epochs after take-off.

    The best epoch has the lowest `metrics.ClippedLoss` on the validation images. Its weights are kept. With
    fewer than `MIN_VALIDATION_IMAGES`, it has the lowest training loss instead: one hard image of ten would
    decide. Gains that add up to less than `MIN_LOSS_GAIN` do not prolong the training: they change no text. A
    loss that is not finite ends it, because the weights cannot recover; in the first epoch, it raises
    ValueError.

    Args:
        patience: the number of epochs without improvement after which the training stops, at least 1.
        validation_images: the number of validation images.
    """

    STATE = ("best", "best_epoch", "wait", "stopped_epoch", "taken_off", "reference")  # saved in a checkpoint

    def __init__(self, patience, validation_images=MIN_VALIDATION_IMAGES):
        monitor = "val_clipped_loss" if validation_images >= MIN_VALIDATION_IMAGES else "loss"
        super().__init__(monitor, mode="min", patience=patience, restore_best_weights=True)

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.taken_off, self.reference = False, math.inf

    def on_epoch_end(self, epoch, logs=None):
        if not math.isfinite(logs["loss"] + logs["val_loss"]):
            self._stop_diverged(epoch, logs)
            return
        self.taken_off = self.taken_off or logs["val_exact_match"] > 0
        wait = self.wait + 1 if self.taken_off else 0
        self.wait = wait - 1  # Keras adds 1
        super().on_epoch_end(epoch, logs)  # keeps the best weights
        if logs[self.monitor] < self.reference - MIN_LOSS_GAIN:
            self.reference, wait = logs[self.monitor], 0
        self.wait = wait  # Keras starts again from 0 after the smallest gain
        if wait >= self.patience:
            self.stopped_epoch, self.model.stop_training = epoch, True

    def on_train_end(self, logs=None):
        super().on_train_end(logs)  # restores the best weights
        if self.best_weights is not None:
            gain = f"no gain of {MIN_LOSS_GAIN} nats in {self.patience} epochs; "
            reason = (
                f"stopped after epoch {self.stopped_epoch + 1}: {gain}" if self.wait >= self.patience else ""
            )
            report(f"{reason}the weights of the best epoch, {self.best_epoch + 1}, are restored")

    def _stop_diverged(self, epoch, logs):
        reason = (
            f"the loss of epoch {epoch + 1} is not finite (training {logs['loss']}, validation "
            f"{logs['val_loss']}): the weights have diverged. Halve OCR_LEARNING_RATE or double "
            "OCR_WARMUP_EPOCHS. If you changed the data type from float32, change it back."
        )
        if self.best_weights is None:
            raise ValueError(f"Training failed: {reason}")
        report(f"WARNING: {reason} The training stops; the best epoch ({self.best_epoch + 1}) is kept.")
        self.stopped_epoch = epoch
        self.model.stop_training = True

    def restore_best(self):
        """Loads the weights of the best epoch so far into the model; returns whether there is one."""
        if self.best_weights is not None:
            self.model.set_weights(self.best_weights)
        return self.best_weights is not None


class Checkpoint(keras.callbacks.Callback):
    """Saves the state of the training after each epoch, and restores it when the training starts.

    One file holds the weights, their moving average, the optimizer, the seed generators, early stopping with
    its best weights, and the history, which is also saved as `history.csv`.

    Args:
        folder: the run's folder.
        averaging, early_stopping: the `keras.callbacks.SwapEMAWeights` with `swap_on_epoch=True` and the
            `EarlyStopping` of the same training. Both must come before this callback.

    Attributes:
        history: a list with a dictionary for each finished epoch: `epoch` (counted from 1), the logs of
            Keras, `learning_rate`, `seconds`.
    """

    def __init__(self, folder, averaging, early_stopping):
        super().__init__()
        self.path, self.history = Path(folder) / runs.CHECKPOINT, []
        self.averaging, self.early_stopping = averaging, early_stopping
        self.path.parent.mkdir(exist_ok=True)
        if self.path.exists():
            with np.load(self.path) as saved:
                self.history = json.loads(str(saved["history"]))
                early_stopping.stopped_epoch = json.loads(str(saved["early stopping"]))["stopped_epoch"]

    @property
    def epochs_done(self):
        """The number of finished epochs: the `initial_epoch` of `fit`."""
        return len(self.history)

    def last_epoch(self, epochs):
        """Returns the `epochs` of `fit`: the number given, or `epochs_done` after early stopping."""
        return self.epochs_done if self.early_stopping.stopped_epoch > 0 else epochs

    @property
    def complete(self):
        """Whether the training has ended by itself: it was not interrupted."""
        return self.epochs_done == self.last_epoch(self.params["epochs"])

    def best(self, name):
        """Returns a value of the best epoch's row in the history."""
        return self.history[self.early_stopping.best_epoch][name]

    def summary(self):
        """Returns a dictionary of the number of epochs, the best epoch, the seconds and the machine."""
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
            weights = [saved[f"best weight {number}"] for number in range(len(self.model.weights))]
            state = json.loads(str(saved["early stopping"]))
        vars(self.early_stopping).update(state, best_weights=weights)

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        row = {"epoch": epoch + 1, **{name: float(value) for name, value in logs.items()}}
        row |= {"learning_rate": rate, "seconds": time.monotonic() - self.started}
        # The model now has the averaged weights. Swap in the raw weights, save them, swap back.
        self.averaging.on_epoch_begin(epoch)
        self._save([*self.history, row])
        self.averaging.on_epoch_end(epoch)
        files.write_csv(self.path.with_name("history.csv"), self.history)

    def _save(self, history):
        state = {name: getattr(self.early_stopping, name) for name in self.early_stopping.STATE}
        variables = map(keras.ops.convert_to_numpy, self._variables())
        content = {f"variable {number}": variable for number, variable in enumerate(variables)}
        content |= {f"best weight {number}": w for number, w in enumerate(self.early_stopping.best_weights)}
        content |= {"early stopping": json.dumps(state), "history": json.dumps(history)}
        with files.atomic_write(self.path) as unfinished:
            np.savez(unfinished, **content)
        self.history = history  # only now: an epoch counts as finished once it is saved

    def _variables(self):
        """Returns all variables that training changes: weights, seed generators, optimizer state."""
        self.model.optimizer.build(self.model.trainable_variables)
        return [*self.model.variables, *self.model.optimizer.variables]
