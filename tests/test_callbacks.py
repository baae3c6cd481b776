import contextlib
import csv
import json
import signal
import subprocess
import sys
import textwrap
import time

import keras
import numpy as np
import pytest
from keras import layers

import utils
from conftest import PROJECT
from CTCLayer import CTCLayer
from snippet_ocr.alphabet import Alphabet
from training.callbacks import Checkpoint, EarlyStopping, Film, Interrupt, Progress
from training.metrics import ClippedLoss, ExactMatch


class FixedLogs(keras.callbacks.Callback):
    """Replaces the logs of each epoch by given ones."""

    def __init__(self, losses, matches, clipped_losses):
        super().__init__()
        self.rows = list(zip(losses, matches, clipped_losses, strict=True))

    def on_epoch_end(self, epoch, logs=None):
        loss, match, clipped = self.rows[epoch]
        logs |= {"loss": loss, "val_loss": loss, "val_exact_match": match, "val_clipped_loss": clipped}


def train(early_stopping, losses, matches, *others, clipped_losses=None):
    """Runs `fit` with fixed logs; returns the weight after each epoch, and the weight at the end."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile("sgd", loss="mse")
    weights = []
    remember = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: weights.append(float(model.get_weights()[0][0, 0]))
    )
    callbacks = [FixedLogs(losses, matches, clipped_losses or losses), remember, early_stopping, *others]
    x, y = np.ones((4, 1)), np.full((4, 1), 5.0)
    model.fit(x, y, epochs=len(losses), callbacks=callbacks, verbose=0)
    return weights, float(model.get_weights()[0][0, 0])


def test_progress_reports_losses_match_and_time_left(capsys):
    train(EarlyStopping(9), [9.0, 7.5], [0.0, 0.25], Progress(), clipped_losses=[3.0, 2.5])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for part in ("epoch   2/2", "validation loss  2.500", "exact match  25.0%", "0.0 min left"):
        assert part in lines[1]
    assert lines[2] == "the weights of the best epoch, 2, are restored"


def test_early_stopping_says_why_it_stops(capsys):
    train(EarlyStopping(patience=2), [5.0, 1.0, 2.0, 2.0, 2.0], [0.5] * 5)
    assert capsys.readouterr().out == (
        "stopped after epoch 4: no gain of 0.005 nats in 2 epochs; "
        "the weights of the best epoch, 2, are restored\n"
    )


def test_progress_warns_once_of_a_missing_take_off(capsys):
    train(EarlyStopping(patience=99), [16.0] * 40, [0.0] * 40, Progress())
    output = capsys.readouterr().out
    assert output.count("WARNING") == 1
    assert "no validation image has been read correctly in 15 epochs" in output


def test_progress_does_not_warn_after_take_off(capsys):
    train(EarlyStopping(patience=99), [16.0] * 10 + [1.0] * 10, [0.0] * 10 + [0.5] + [0.0] * 9, Progress())
    assert "WARNING" not in capsys.readouterr().out


def test_progress_warns_once_of_a_rising_loss(capsys):
    train(EarlyStopping(patience=99), [16.0, 2.0, 5.9, 6.1, 50.0], [0.1] * 5, Progress())
    output = capsys.readouterr().out
    assert output.count("WARNING") == 1
    assert "the training loss has risen from 2 to 6.1. The learning rate may be too high" in output


def test_progress_does_not_warn_of_a_small_loss(capsys):
    train(EarlyStopping(patience=99), [0.2, 0.01, 0.05, 0.9], [0.9] * 4, Progress())
    assert "WARNING" not in capsys.readouterr().out


def test_plateau_does_not_stop_the_training():
    weights, _ = train(EarlyStopping(patience=1), [16.0 + 0.01 * epoch for epoch in range(40)], [0.0] * 40)
    assert len(weights) == 40


def test_patience_counts_from_the_best_epoch_after_take_off():
    plateau, learning, worse = [16.0] * 12, [8.0, 3.0, 1.0], [1.1] * 20
    stopping = EarlyStopping(patience=4)
    weights, final = train(stopping, plateau + learning + worse, [0.0] * 12 + [0.1, 0.5, 0.9] + [0.9] * 20)
    assert len(weights) == 12 + 3 + 4
    assert stopping.best_epoch == 14
    assert final == weights[14]


@pytest.mark.parametrize("patience", [1, 3])
def test_patience_is_a_number_of_epochs(patience):
    weights, _ = train(EarlyStopping(patience), [1.0] + [2.0] * 10, [0.5] * 11)
    assert len(weights) == 1 + patience


def test_gain_that_changes_no_text_does_not_prolong_the_training():
    losses = [0.5, 0.1] + [0.1 - 0.0001 * epoch for epoch in range(30)]
    weights, final = train(EarlyStopping(patience=5), losses, [0.9] * 32)
    assert len(weights) == 2 + 5
    assert final == weights[-1]  # the lowest loss, nevertheless
    slow_but_steady = [0.5 - 0.002 * epoch for epoch in range(30)]  # 0.005 in three epochs
    weights, _ = train(EarlyStopping(patience=5), slow_but_steady, [0.9] * 30)
    assert len(weights) == 30


def test_early_stopping_monitors_the_clipped_loss():
    rising, falling = [1.0 + epoch for epoch in range(10)], [1 / (epoch + 1) for epoch in range(10)]
    weights, final = train(EarlyStopping(patience=2), rising, [0.9] * 10, clipped_losses=falling)
    assert len(weights) == 10
    assert final == weights[9]


def test_few_validation_images_leave_the_decision_to_the_training_loss():
    falling, rising = [1 / (epoch + 1) for epoch in range(6)], [0.1 + epoch for epoch in range(6)]
    for images, kept in ((24, 5), (25, 0)):
        stopping = EarlyStopping(patience=9, validation_images=images)
        weights, final = train(stopping, falling, [0.5] * 6, clipped_losses=rising)
        assert stopping.best_epoch == kept
        assert final == weights[kept]


def test_best_weights_are_restored_without_take_off():
    stopping = EarlyStopping(patience=5)
    weights, final = train(stopping, [9.0, 7.0, 8.0], [0.0, 0.0, 0.0])
    assert stopping.best_epoch == 1
    assert final == weights[1]


@pytest.mark.parametrize(("interrupted_epoch", "restored"), [(0, False), (2, True)])
def test_best_weights_can_be_restored_after_an_interrupt(interrupted_epoch, restored):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == interrupted_epoch:
                raise KeyboardInterrupt

    stopping = EarlyStopping(patience=9)
    with pytest.raises(KeyboardInterrupt):
        train(stopping, [3.0, 4.0, 5.0], [0.1] * 3, Stop())
    assert stopping.restore_best() is restored
    if restored:
        assert stopping.best_epoch == 0
        np.testing.assert_array_equal(stopping.model.get_weights()[0], stopping.best_weights[0])


@pytest.mark.parametrize("moment", ["on_train_batch_begin", "on_test_batch_begin", "on_epoch_end"])
def test_interrupt_inside_a_step_ends_the_training_after_it(moment):
    """Python code that TensorFlow calls inside a step may not be able to raise the exception."""
    seen, model = [], keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", loss="mse")

    def send(number, logs=None):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            pytest.fail("the exception is raised inside the step")
        seen.append(number)

    send_once = keras.callbacks.LambdaCallback(**{moment: send})
    x = y = np.ones((4, 1))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Interrupt() as interrupt:
        model.fit(x, y, 1, 3, validation_data=(x, y), callbacks=[send_once, interrupt], verbose=0)
    assert seen == [0] and signal.getsignal(signal.SIGINT) is before


def test_second_interrupt_takes_effect_at_once_and_none_is_forgotten():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Interrupt():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        # The first one is still to be raised, at the end.
    with pytest.raises(OSError, match="another"), Interrupt():
        signal.raise_signal(signal.SIGINT)
        raise OSError("another error")
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_non_finite_loss_stops_and_keeps_the_best_epoch(loss, capsys):
    stopping = EarlyStopping(patience=9)
    weights, final = train(stopping, [9.0, 7.0, 8.0, loss, 1.0], [0.0, 0.1, 0.1, 0.0, 1.0])
    assert len(weights) == 4
    assert final == weights[1]
    output = capsys.readouterr().out
    assert "the loss of epoch 4 is not finite" in output
    assert "OCR_LEARNING_RATE" in output
    assert "the best epoch (2) is kept." in output


def test_non_finite_loss_in_the_first_epoch_is_an_error():
    with pytest.raises(ValueError, match=r"Training failed: the loss of epoch 1.*OCR_LEARNING_RATE"):
        train(EarlyStopping(patience=9), [float("nan"), 1.0], [0.0, 0.0])


@pytest.fixture
def samples(image_folder):
    return utils.find_images(image_folder)[0]


def small_model(number_of_classes):
    """A training model with every kind of state: weights, moving averages, a seed generator."""
    keras.utils.set_random_seed(1)
    image = keras.Input((16, 64), dtype="uint8", name="image")
    label = keras.Input((6,), dtype="int32", name="label")
    x = layers.Permute((2, 1))(layers.Rescaling(-1 / 255)(image))  # (batch, width, height)
    x = layers.Reshape((16, 64))(x)  # (batch, steps, features)
    x = layers.Dropout(0.2)(layers.BatchNormalization()(layers.Dense(32, activation="relu")(x)))
    logits = layers.Dense(number_of_classes)(x)
    return keras.Model([image, label], CTCLayer()(label, logits))


def train_reader(folder, samples, epochs, stop_after=None):
    """Trains a small model as the notebook does; returns the first epoch, the model and the callbacks."""
    alphabet = Alphabet.from_labels(sample.label for sample in samples)

    def encode(sample):
        return utils.encode_single_sample(sample, alphabet, [64], 16, 6)

    model = small_model(alphabet.number_of_classes)
    optimizer = keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9)
    model.compile(optimizer, metrics=[ExactMatch(), ClippedLoss()])
    averaging = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    stopping = EarlyStopping(patience=3)
    checkpoint = Checkpoint(folder, averaging, stopping)
    first_epoch = checkpoint.epochs_done

    class Kill(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch + 1 == stop_after:
                raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        model.fit(
            utils.get_data(
                samples, encode, 8, seed=1, first_step=first_epoch * -(-len(samples) // 8), augmentation=1.0
            ),
            steps_per_epoch=-(-len(samples) // 8),
            validation_data=utils.get_data(samples[:8], encode, 8),
            initial_epoch=first_epoch,
            epochs=checkpoint.last_epoch(epochs),
            callbacks=[averaging, stopping, checkpoint, Kill()],
            shuffle=False,
            verbose=0,
        )
    return first_epoch, model, stopping, checkpoint


def test_resumed_training_equals_an_uninterrupted_one(tmp_path, samples):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    _, expected, expected_stopping, expected_checkpoint = train_reader(whole, samples, epochs=4)
    train_reader(parts, samples, epochs=4, stop_after=2)
    first_epoch, model, stopping, checkpoint = train_reader(parts, samples, epochs=4)
    assert first_epoch == 2
    state, expected_state = (
        {name: getattr(one, name) for name in EarlyStopping.STATE} for one in (stopping, expected_stopping)
    )
    assert state == pytest.approx(expected_state, rel=1e-5)
    for row, expected_row in zip(checkpoint.history, expected_checkpoint.history, strict=True):
        assert row == pytest.approx(expected_row | {"seconds": row["seconds"]}, rel=1e-5)
    for weight, expected_weight in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected_weight, rtol=1e-4, atol=1e-6)
    rows = list(csv.DictReader((parts / "history.csv").open()))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    for row, expected_row in zip(rows, checkpoint.history, strict=True):
        assert {name: float(value) for name, value in row.items()} == pytest.approx(expected_row)
    assert {"loss", "val_loss", "val_exact_match", "learning_rate", "seconds"} < set(rows[0])
    assert checkpoint.summary()["epochs"] == 4


def test_finished_training_only_restores_its_best_weights(tmp_path, samples):
    _, expected, expected_stopping, _ = train_reader(tmp_path, samples, epochs=2)
    first_epoch, model, stopping, checkpoint = train_reader(tmp_path, samples, epochs=2)
    assert (first_epoch, checkpoint.epochs_done) == (2, 2)
    assert stopping.best_epoch == expected_stopping.best_epoch
    for weight, expected_weight in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected_weight)
    # A training that early stopping has ended does not resume either.
    stopping.stopped_epoch = 1
    checkpoint._save(checkpoint.history)
    *_, checkpoint = train_reader(tmp_path, samples, epochs=9)
    assert checkpoint.epochs_done == 2


def test_kill_during_a_save_leaves_the_previous_checkpoint(tmp_path):
    script = textwrap.dedent(
        """
        import sys, keras, numpy as np
        from training.callbacks import Checkpoint, EarlyStopping
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1_000_000)])
        model.compile(keras.optimizers.Adam(use_ema=True), loss="mse")
        averaging, stopping = keras.callbacks.SwapEMAWeights(swap_on_epoch=True), EarlyStopping(99)
        class Log(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                logs |= {"val_loss": 1.0, "val_clipped_loss": 1.0, "val_exact_match": 0.0}
                print(epoch, flush=True)
        checkpoint = Checkpoint(sys.argv[1], averaging, stopping)
        x, y = np.ones((1, 1)), np.ones((1, 1_000_000))
        model.fit(x, y, epochs=1000, callbacks=[averaging, Log(), stopping, checkpoint], verbose=0)
        """
    )
    command = [sys.executable, "-c", script, tmp_path]
    process = subprocess.Popen(
        command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    unfinished = tmp_path / "checkpoint.unfinished.npz"
    for line in process.stdout:
        if int(line) >= 2:
            break
    deadline = time.monotonic() + 60
    while not unfinished.exists() and time.monotonic() < deadline:
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with np.load(tmp_path / "checkpoint.npz") as saved:
        history = json.loads(str(saved["history"]))
        shapes = {saved[name].shape for name in saved.files if name.startswith("variable")}
    assert len(history) >= 2
    assert (1, 1_000_000) in shapes


def test_film_keeps_the_probabilities_of_every_epoch_when_a_training_resumes(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (16, 32)).astype("uint8")
    inputs = keras.Input((16, None), dtype="uint8")
    logits = layers.Dense(3, name="logits")(layers.Permute((2, 1))(layers.Rescaling(1 / 255)(inputs)))
    model = keras.Model(inputs, logits)
    expected = []
    for first in (0, 2):
        film = Film(tmp_path, image, batch_size=4)
        film.set_model(model)
        for epoch in (first, first + 1):
            model.get_layer("logits").set_weights([np.full((16, 3), epoch), np.arange(3.0)])
            film.on_epoch_end(epoch)
            scores = np.exp(model.predict_on_batch(image[None])[0])
            expected.append(scores / scores.sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(Film(tmp_path, image, 4).frames, expected, rtol=1e-5)


def test_progress_draws_only_in_a_kernel(capsys):
    train(EarlyStopping(patience=9), [9.0], [0.0], Progress(lambda: pytest.fail("drawn"), "round 1"))
    assert capsys.readouterr().out.startswith("round 1\nepoch   1/1")
