"""What watches a training: a line for each epoch, and early stopping that waits for take-off."""

import statistics
import time

import keras

from terminal import report


class Progress(keras.callbacks.Callback):
    """Reports a line for each epoch: loss, exact match on the validation images, time left."""

    def on_train_begin(self, logs=None):
        self.seconds = []

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

    Args:
        patience: epochs without a better clipped loss before the training
            stops, once it has taken off.
    """

    def __init__(self, patience):
        super().__init__("val_clipped_loss", mode="min", patience=patience, restore_best_weights=True)
        self.taken_off = False
        self.best_weights = None

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.taken_off = False

    def on_epoch_end(self, epoch, logs=None):
        self.taken_off = self.taken_off or logs["val_exact_match"] > 0
        if not self.taken_off:
            self.wait = -1  # Keras adds one, which leaves the count at 0.
        super().on_epoch_end(epoch, logs)

    def restore_best(self):
        """Gives the model the weights of the best epoch so far; returns whether there is one."""
        if self.best_weights is None:
            return False
        self.model.set_weights(self.best_weights)
        return True
