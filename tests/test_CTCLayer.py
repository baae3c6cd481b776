import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from CTCLayer import NO_IMAGE, CTCLayer, ctc_losses

STEPS, CLASSES = 4, 3


def collapse(path):
    return [number for number, _ in itertools.groupby(path) if number != 0]


def brute_force_loss(logits, label):
    """Returns minus the log of the label's probability, summed over all alignments one by one."""
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    paths = itertools.product(range(CLASSES), repeat=len(logits))
    return -math.log(
        sum(
            math.prod(probabilities[step, number] for step, number in enumerate(path))
            for path in paths
            if collapse(path) == label
        )
    )


def loss_of(label, logits):
    layer = CTCLayer()
    layer(np.asarray(label, dtype="int32"), np.asarray(logits, dtype="float32"))
    return float(layer.losses[0])


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(size=(5, STEPS, CLASSES), scale=2.0).astype("float32")


@pytest.mark.parametrize("label", [[1], [2], [1, 2], [2, 1, 2], [1, 1], [2, 2, 1], [1, 2, 1, 2]])
def test_loss_equals_the_sum_over_all_alignments(label, logits):
    padded = np.array([label + [0] * (4 - len(label))])
    assert loss_of(padded, logits[:1]) == pytest.approx(brute_force_loss(logits[0], label), rel=1e-5)


def test_loss_of_a_batch_is_the_mean_of_its_rows(logits):
    labels = [[1], [1, 2], [1, 1], [2, 1, 2], [2]]
    padded = np.array([label + [0] * (3 - len(label)) for label in labels])
    expected = np.mean([brute_force_loss(*pair) for pair in zip(logits, labels, strict=True)])
    assert loss_of(padded, logits) == pytest.approx(expected, rel=1e-5)


def test_padding_rows_do_not_count_in_the_loss(logits):
    labels = np.array([[1, 0], [NO_IMAGE, NO_IMAGE], [1, 2], [NO_IMAGE, NO_IMAGE], [2, 0]])
    assert loss_of(labels, logits) == pytest.approx(loss_of(labels[[0, 2, 4]], logits[[0, 2, 4]]), rel=1e-6)
    assert loss_of(labels[[1, 3]], logits[[1, 3]]) == 0.0


def test_empty_label_counts_and_its_only_alignment_is_blank(logits):
    labels = np.array([[1, 2], [0, 0], [0, 0], [2, 0], [1, 1]])
    expected = [brute_force_loss(*pair) for pair in zip(logits, ([1, 2], [], [], [2], [1, 1]), strict=True)]
    assert loss_of(labels, logits) == pytest.approx(np.mean(expected), rel=1e-5)
    probabilities = tf.nn.softmax(logits[:1])[0].numpy()  # (steps, classes)
    with tf.GradientTape() as tape:
        tape.watch(shown := tf.constant(logits[:1]))
        loss = ctc_losses(tf.constant([[0, 0]]), shown)
    expected = probabilities - np.eye(CLASSES)[0]  # of the cross-entropy with blank at every step
    np.testing.assert_allclose(tape.gradient(loss, shown)[0], expected, atol=1e-6)


def test_loss_ignores_the_width_of_the_padding(logits):
    labels = np.array([[1, 2], [1, 0], [2, 2], [2, 0], [1, 1]])
    wide = np.pad(labels, ((0, 0), (0, 9)))
    assert loss_of(wide, logits) == pytest.approx(loss_of(labels, logits), rel=1e-6)


def test_loss_and_gradient_equal_those_of_tensorflow():
    rng = np.random.default_rng(1)
    logits = tf.Variable(rng.normal(size=(8, 25, 20)).astype("float32"))
    labels = rng.integers(1, 20, size=(8, 6)).astype("int32")
    labels[3:, 4:] = 0
    layer = CTCLayer()
    with tf.GradientTape() as tape:
        layer(labels, logits)
        found = layer.losses[0]
    found_gradient = tape.gradient(found, logits)
    with tf.GradientTape() as tape:
        expected = tf.reduce_mean(
            tf.nn.ctc_loss(
                tf.sparse.from_dense(labels),
                logits,
                label_length=None,
                logit_length=[25] * 8,
                logits_time_major=False,
                blank_index=0,
            )
        )
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    np.testing.assert_allclose(found_gradient, tape.gradient(expected, logits), atol=1e-5)


def test_graph_of_free_steps_gives_the_loss_of_each_number_of_steps():
    signature = [tf.TensorSpec((None, 2), tf.int32), tf.TensorSpec((None, None, CLASSES))]
    losses = tf.function(ctc_losses, input_signature=signature)
    for steps in (2, 3, 4, 5):
        logits = np.random.default_rng(steps).normal(size=(2, steps, CLASSES)).astype("float32")
        found = losses(np.array([[1, 2], [2, 0]], "int32"), logits)
        expected = [brute_force_loss(row, label) for row, label in zip(logits, ([1, 2], [2]), strict=True)]
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_layer_returns_the_logits_unchanged(logits):
    layer = CTCLayer()
    passed = layer(np.ones((5, 2), dtype="int32"), logits)
    np.testing.assert_array_equal(passed, logits)


def test_too_long_label_gives_a_large_finite_loss(logits):
    loss = loss_of([[1, 1, 1, 0]], logits[:1])  # needs five time steps; there are four
    assert math.isfinite(loss)
    assert loss > 100


def test_model_with_the_layer_is_saved_and_loaded(tmp_path, logits):
    image = keras.Input((STEPS, CLASSES), name="image")
    label = keras.Input((2,), dtype="int32", name="label")
    model = keras.Model([image, label], CTCLayer(name="ctc")(label, keras.layers.Dense(CLASSES)(image)))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    inputs = {"image": logits, "label": np.ones((5, 2), dtype="int32")}
    assert isinstance(loaded.get_layer("ctc"), CTCLayer)
    np.testing.assert_allclose(loaded(inputs), model(inputs), rtol=1e-6)
    assert float(loaded.losses[0]) == pytest.approx(float(model.losses[0]), rel=1e-6)
