"""Code inside the model computes the same numbers with TensorFlow and with JAX."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from conftest import PROJECT
from CTCLayer import CTCLayer
from training.metrics import ExactMatch


def evaluate(logits, label):
    """Returns the CTC loss, its gradient and exact match, computed with the current backend."""

    def loss_of(logits):
        layer = CTCLayer()
        layer(label, logits)
        return layer.losses[0]

    if keras.backend.backend() == "jax":
        import jax

        loss, gradient = jax.value_and_grad(loss_of)(jax.numpy.asarray(logits))
    else:
        import tensorflow as tf

        variable = tf.Variable(logits)
        with tf.GradientTape() as tape:
            loss = loss_of(variable)
        gradient = tape.gradient(loss, variable)
    metric = ExactMatch()
    metric.update_state(label, logits)
    return {"loss": float(loss), "gradient": np.asarray(gradient), "match": float(metric.result())}


def evaluate_in_jax(logits, label, folder):
    """Calls `evaluate` in a process whose backend is JAX."""
    given, found = folder / "given.npz", folder / "found.npz"
    np.savez(given, logits=logits, label=label)
    path = os.pathsep.join(map(str, (PROJECT, PROJECT / "tests")))
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": path}
    subprocess.run([sys.executable, __file__, given, found], env=environment, check=True)
    return np.load(found)


def test_ctc_loss_and_exact_match_are_the_same_in_jax(tmp_path):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(16, 25, 20), scale=3.0).astype("float32")  # (batch, steps, classes)
    label = rng.integers(1, 20, size=(16, 8)).astype("int32")
    for row, length in zip(label, rng.integers(1, 9, size=16), strict=True):
        row[length:] = 0
    label[0] = [7, 7, 7, 7, 0, 0, 0, 0]  # repeated characters
    logits[1] = 0.0  # reads exactly its label
    logits[1, np.arange(0, 16, 2), label[1]] = 9.0
    logits[1, :, 0] += 4.0
    tensorflow, jax = evaluate(logits, label), evaluate_in_jax(logits, label, tmp_path)
    assert float(jax["loss"]) == pytest.approx(tensorflow["loss"], abs=1e-4)
    np.testing.assert_allclose(jax["gradient"], tensorflow["gradient"], atol=1e-4)
    assert float(jax["match"]) == pytest.approx(1 / 16)
    assert tensorflow["match"] == pytest.approx(1 / 16)


if __name__ == "__main__":
    with np.load(sys.argv[1]) as given:
        np.savez(sys.argv[2], **evaluate(given["logits"], given["label"]))
