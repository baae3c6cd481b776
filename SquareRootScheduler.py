"""A learning rate that falls with the square root of the epoch."""

import math


class SquareRootScheduler:
    """Divides the learning rate by the square root of the epoch, after a linear warm-up.

    With a step size of `1 / √t`, the average regret of gradient descent on convex problems goes to 0
    (Zinkevich, "Online Convex Programming and Generalized Infinitesimal Gradient Ascent", ICML 2003). The
    warm-up keeps Adam's first steps small until its estimates of the gradients have settled. With epochs
    counted from 0, as in Keras, and `w` warm-up epochs:

    - `epoch < w`: `learning_rate * (epoch + 1) / (w + 1)`
    - `epoch >= w`: `learning_rate / √(epoch - w + 1)`

    Args:
        learning_rate: the maximum, above 0. It is reached in the first epoch after the warm-up.
        warmup_epochs: the length of the warm-up, an integer of 0 or more.

    Call arguments:
        epoch: the epoch, an integer of 0 or more.
        learning_rate: not used; `LearningRateScheduler` passes the current rate.

    Returns:
        The learning rate of the epoch, a float.

    Raises:
        ValueError: if an argument is out of its range.

    Examples:
        >>> schedule = SquareRootScheduler(0.002)
        >>> schedule(0), schedule(3)
        (0.002, 0.001)
        >>> callback = keras.callbacks.LearningRateScheduler(schedule)
    """

    def __init__(self, learning_rate, warmup_epochs=0):
        if not (learning_rate > 0 and math.isfinite(learning_rate)):
            raise ValueError(f"Expected a finite learning_rate above 0. Received: {learning_rate}")
        if warmup_epochs != int(warmup_epochs) or warmup_epochs < 0:
            raise ValueError(f"Expected warmup_epochs as an integer of 0 or more. Received: {warmup_epochs}")
        self.learning_rate = float(learning_rate)
        self.warmup_epochs = int(warmup_epochs)

    def __call__(self, epoch, learning_rate=None):
        if epoch < 0:
            raise ValueError(f"Expected an epoch of 0 or more. Received: {epoch}")
        if epoch < self.warmup_epochs:
            return self.learning_rate * (epoch + 1) / (self.warmup_epochs + 1)
        return self.learning_rate / math.sqrt(epoch - self.warmup_epochs + 1)
