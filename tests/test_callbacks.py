import keras
import numpy as np
import pytest

from training.callbacks import EarlyStopping, Progress


class Log(keras.callbacks.Callback):
    """Plays given logs, as if the training had gone that way."""

    def __init__(self, losses, matches):
        super().__init__()
        self.rows = list(zip(losses, matches, strict=True))

    def on_epoch_end(self, epoch, logs=None):
        logs["val_loss"], logs["val_exact_match"] = self.rows[epoch]
        logs["loss"] = logs["val_loss"]
        logs["val_clipped_loss"] = logs["val_loss"]


def train(early_stopping, losses, matches, *others, clipped=None):
    """Runs a real `fit` whose logs are given; returns the weight after each epoch, and that in the end."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile("sgd", loss="mse")
    weights = []
    remember = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: weights.append(float(model.get_weights()[0][0, 0]))
    )
    callbacks = [Log(losses, matches), *([clipped] if clipped else []), remember, early_stopping, *others]
    x, y = np.ones((4, 1)), np.full((4, 1), 5.0)
    model.fit(x, y, epochs=len(losses), callbacks=callbacks, verbose=0)
    return weights, float(model.get_weights()[0][0, 0])


def test_flat_stretch_does_not_stop_the_training_however_long_it_is():
    losses = [16.0 + 0.01 * epoch for epoch in range(40)]
    weights, _ = train(EarlyStopping(patience=1), losses, [0.0] * 40)
    assert len(weights) == 40


def test_keras_s_own_early_stopping_would_have_stopped_there():
    losses = [16.0 + 0.01 * epoch for epoch in range(40)]
    weights, _ = train(keras.callbacks.EarlyStopping("val_loss", patience=5), losses, [0.0] * 40)
    assert len(weights) == 6


def test_after_take_off_patience_counts_from_the_best_epoch():
    flat, learning, worse = [16.0] * 12, [8.0, 3.0, 1.0], [1.1] * 20
    losses = flat + learning + worse
    matches = [0.0] * 12 + [0.1, 0.5, 0.9] + [0.9] * 20
    stopping = EarlyStopping(patience=4)
    weights, final = train(stopping, losses, matches)
    assert len(weights) == 12 + 3 + 4
    assert stopping.best_epoch == 14
    assert final == weights[14]


def test_loss_that_a_wrong_label_lets_rise_does_not_end_the_training():
    class Clipped(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_clipped_loss"] = 1 / (epoch + 1)

    stopping = EarlyStopping(patience=2)
    losses = [1.0 + epoch for epoch in range(10)]
    weights, final = train(stopping, losses, [0.9] * 10, clipped=Clipped())
    assert len(weights) == 10
    assert final == weights[9]


def test_weights_of_the_best_epoch_come_back_even_if_nothing_took_off():
    stopping = EarlyStopping(patience=5)
    weights, final = train(stopping, [9.0, 7.0, 8.0], [0.0, 0.0, 0.0])
    assert stopping.best_epoch == 1
    assert final == weights[1]


def test_progress_tells_epoch_loss_exact_match_and_time_left(capsys):
    train(EarlyStopping(patience=9), [9.0, 7.5], [0.0, 0.25], Progress())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for part in ("epoch   2/2", "validation loss  7.500", "exact match  25.0%", "0.0 min left"):
        assert part in lines[1]


@pytest.mark.parametrize("patience", [1, 3])
def test_patience_is_counted_in_epochs(patience):
    weights, _ = train(EarlyStopping(patience), [1.0] + [2.0] * 10, [0.5] * 11)
    assert len(weights) == 1 + patience


def test_best_weights_come_back_after_an_interrupt_and_there_are_none_before_the_first_epoch():
    class Interrupt(keras.callbacks.Callback):
        def __init__(self, epoch):
            super().__init__()
            self.epoch = epoch

        def on_epoch_begin(self, epoch, logs=None):
            if epoch == self.epoch:
                raise KeyboardInterrupt

    for epoch, expected in [(0, False), (2, True)]:
        stopping = EarlyStopping(patience=9)
        with pytest.raises(KeyboardInterrupt):
            train(stopping, [3.0, 4.0, 5.0], [0.1] * 3, Interrupt(epoch))
        assert stopping.restore_best() is expected
    assert float(stopping.model.get_weights()[0][0, 0]) == float(stopping.best_weights[0][0, 0])


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_loss_that_is_not_finite_ends_the_training_and_the_best_epoch_so_far_is_kept(wrong, capsys):
    stopping = EarlyStopping(patience=9)
    weights, final = train(stopping, [9.0, 7.0, 8.0, wrong, 1.0], [0.0, 0.1, 0.1, 0.0, 1.0])
    assert len(weights) == 4
    assert final == weights[1]
    said = capsys.readouterr().out
    assert "the loss of epoch 4 is not finite" in said
    assert "OCR_LEARNING_RATE" in said
    assert "The best epoch so far, 2, is kept." in said


def test_loss_that_never_was_finite_is_an_error_that_says_what_to_try():
    with pytest.raises(ValueError, match=r"Nothing was learnt: the loss of epoch 1.*OCR_LEARNING_RATE"):
        train(EarlyStopping(patience=9), [float("nan"), 1.0], [0.0, 0.0])


def test_take_off_that_is_overdue_is_told_once(capsys):
    train(EarlyStopping(patience=99), [16.0] * 40, [0.0] * 40, Progress())
    said = capsys.readouterr().out
    assert said.count("WARNING") == 1
    assert "after 15 epochs not one validation image has been read" in said


def test_training_that_has_taken_off_is_not_warned_of(capsys):
    train(EarlyStopping(patience=99), [16.0] * 10 + [1.0] * 10, [0.0] * 10 + [0.5] + [0.0] * 9, Progress())
    assert "WARNING" not in capsys.readouterr().out


def test_loss_that_rises_is_told_once_with_what_to_try(capsys):
    train(EarlyStopping(patience=99), [16.0, 2.0, 5.9, 6.1, 50.0], [0.1] * 5, Progress())
    said = capsys.readouterr().out
    assert said.count("WARNING") == 1
    assert "the training loss has risen from 2 to 6.1. The learning rate may be too high" in said
