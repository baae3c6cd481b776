"""The learning rate falls with the square root of the epoch."""

import math


class SquareRootScheduler:
    """A schedule that divides the learning rate by the square root of the epoch.

    A step of stochastic gradient descent that shrinks as `1 / √t` keeps the
    average regret of convex problems falling (Zinkevich, "Online Convex
    Programming and Generalized Infinitesimal Gradient Ascent", ICML 2003);
    it is quick at first and never stands still. A linear warm-up can come
    before it: the first steps of Adam are then small until its estimates of
    the gradients' size have settled.

    With epochs counted from 0, as Keras counts them, and `w` warm-up epochs:

    - `epoch < w`: `learning_rate * (epoch + 1) / (w + 1)`
    - `epoch >= w`: `learning_rate / √(epoch - w + 1)`

    Without warm-up that is `learning_rate / √(epoch + 1)`. The first epoch
    after the warm-up has the full learning rate.

    Args:
        learning_rate: the highest learning rate, above 0.
        warmup_epochs: the epochs of the linear warm-up, an integer of 0 or more.

    Call arguments:
        epoch: the epoch, an integer of 0 or more.
        learning_rate: the optimizer's rate, which `LearningRateScheduler`
            hands over; it is not used.

    Returns:
        The learning rate of the epoch, a float.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

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
