"""What sits inside the model gives the same numbers on TensorFlow and on JAX."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from conftest import PROJECT

SCRIPT = textwrap.dedent(
    """
    import sys
    import keras, numpy as np
    from CTCLayer import CTCLayer
    from training.metrics import ExactMatch

    data = np.load(sys.argv[1])
    logits, label = data["logits"], data["label"]

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
    np.savez(sys.argv[2], loss=np.asarray(loss), gradient=np.asarray(gradient), match=float(metric.result()))
    """
)


def compute(backend, given, result):
    environment = os.environ | {"KERAS_BACKEND": backend}
    subprocess.run([sys.executable, "-c", SCRIPT, given, result], cwd=PROJECT, env=environment, check=True)
    return np.load(result)


def test_ctc_loss_its_gradient_and_exact_match_agree_on_feasible_labels(tmp_path):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(16, 25, 20), scale=3.0).astype("float32")
    label = rng.integers(1, 20, size=(16, 8)).astype("int32")
    for row, length in zip(label, rng.integers(1, 9, size=16), strict=True):
        row[length:] = 0
    label[0] = [7, 7, 7, 7, 0, 0, 0, 0]  # equal neighbours
    logits[1] = 0.0  # reads exactly its label
    logits[1, np.arange(0, 16, 2), label[1]] = 9.0
    logits[1, :, 0] += 4.0
    np.savez(tmp_path / "given.npz", logits=logits, label=label)
    found = {b: compute(b, tmp_path / "given.npz", tmp_path / f"{b}.npz") for b in ("tensorflow", "jax")}
    assert float(found["jax"]["loss"]) == pytest.approx(float(found["tensorflow"]["loss"]), abs=1e-4)
    np.testing.assert_allclose(found["jax"]["gradient"], found["tensorflow"]["gradient"], atol=1e-4)
    assert found["jax"]["match"] == found["tensorflow"]["match"] == 1 / 16
