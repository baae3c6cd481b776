import math

import keras
import numpy as np
import pytest

from SquareRootScheduler import SquareRootScheduler


@pytest.mark.parametrize("epoch", [0, 1, 2, 8, 99])
def test_rate_falls_with_the_square_root_of_the_epoch(epoch):
    assert SquareRootScheduler(3e-4)(epoch) == pytest.approx(3e-4 / math.sqrt(epoch + 1))


def test_warm_up_rises_linearly_to_the_maximum_rate():
    schedule = SquareRootScheduler(0.004, warmup_epochs=3)
    rates = [schedule(epoch) for epoch in range(5)]
    assert rates == pytest.approx([0.001, 0.002, 0.003, 0.004, 0.004 / math.sqrt(2)])


def test_keras_callback_sets_the_rate_of_each_epoch():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0), loss="mse")
    callback = keras.callbacks.LearningRateScheduler(SquareRootScheduler(0.1, warmup_epochs=1))
    history = model.fit(np.zeros((1, 1)), np.zeros((1, 1)), epochs=5, callbacks=[callback], verbose=0)
    expected = [0.05, 0.1, 0.1 / math.sqrt(2), 0.1 / math.sqrt(3), 0.05]
    assert history.history["learning_rate"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("learning_rate", "warmup_epochs"),
    [(0, 0), (-1, 0), (math.nan, 0), (math.inf, 0), (0.1, -1), (0.1, 1.5)],
)
def test_arguments_out_of_range_are_errors(learning_rate, warmup_epochs):
    with pytest.raises(ValueError, match="Expected"):
        SquareRootScheduler(learning_rate, warmup_epochs)


def test_negative_epoch_is_an_error():
    with pytest.raises(ValueError, match="Received: -1"):
        SquareRootScheduler(0.1)(-1)
