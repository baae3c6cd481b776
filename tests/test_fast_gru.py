import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from training.fast_gru import speed_up


def build(units=(12, 8), **options):
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    image = keras.Input((None, 6))
    x = image
    for number in units:
        x = layers.Bidirectional(layers.GRU(number, return_sequences=True, **options))(x)
    model = keras.Model(image, layers.Dense(3)(x))
    for weight in model.weights:  # biases start as zeros, which would hide mistakes
        weight.assign(keras.random.normal(weight.shape, stddev=0.5))
    return model


def gradients(model, x, training=True):
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(tf.sin(model(x, training=training)))
    return [loss, *tape.gradient(loss, [x, *(weight.value for weight in model.trainable_weights)])]


@pytest.mark.parametrize(("rows", "steps"), [(1, 7), (16, 7), (21, 7), (16, 1), (3, 12)])
@pytest.mark.parametrize("training", [True, False])
def test_outputs_and_gradients_equal_those_of_keras(rows, steps, training):
    x = tf.random.stateless_normal((rows, steps, 6), (0, 0))
    expected, found = build(), speed_up(build())
    np.testing.assert_allclose(found(x, training=training), expected(x, training=training), atol=1e-5)
    for mine, keras_own in zip(gradients(found, x, training), gradients(expected, x, training), strict=True):
        np.testing.assert_allclose(mine, keras_own, atol=1e-5 * max(1, np.abs(keras_own).max()))


def test_fifty_training_steps_equal_those_of_keras():
    x, y = np.random.normal(size=(20, 7, 6)), np.random.normal(size=(20, 7, 3))
    losses, weights = [], []
    for model in (build(), speed_up(build())):
        model.compile(keras.optimizers.SGD(0.02), "mse")
        losses.append(model.fit(x, y, 10, epochs=25, shuffle=False, verbose=0).history["loss"])
        weights.append(np.concatenate([weight.numpy().ravel() for weight in model.weights]))
    assert losses[0][-1] < 0.6 * losses[0][0]
    np.testing.assert_allclose(losses[1], losses[0], atol=1e-5)
    np.testing.assert_allclose(weights[1], weights[0], atol=1e-5)


def test_numbers_of_steps_share_one_trace_and_equal_keras():
    traces = []

    def losses_of(model):
        optimizer = keras.optimizers.SGD(0.02)
        optimizer.build(model.trainable_variables)

        @tf.function(input_signature=[tf.TensorSpec((None, None, 6))])
        def train(x):
            traces.append(model)
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(x, training=True) - 1.0) ** 2)
            optimizer.apply(tape.gradient(loss, model.trainable_weights))
            return loss

        return [float(train(np.random.default_rng(n).normal(size=(4, n, 6)))) for n in (7, 3, 12, 7, 5) * 4]

    np.testing.assert_allclose(losses_of(speed_up(build())), losses_of(build()), atol=1e-5)
    assert len(traces) == 2


def test_faster_model_is_saved_as_a_model_of_keras(tmp_path):
    model, x = speed_up(build()), tf.ones((2, 7, 6))
    assert model.get_config() == build().get_config()
    model.save(tmp_path / "model.keras")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "model.keras")(x), model(x), atol=1e-5)


def test_call_with_a_mask_is_left_to_keras():
    layer, x = layers.Bidirectional(layers.GRU(4, return_sequences=True)), tf.ones((2, 5, 3))
    mask = tf.constant([[True] * 5, [True, True, False, False, False]])
    expected = layer(x, mask=mask)
    speed_up(keras.Sequential([keras.Input((5, 3)), layer]))
    np.testing.assert_allclose(layer(x, mask=mask), expected)
    assert not np.allclose(layer(x), expected)


@pytest.mark.parametrize(
    "options", [{"reset_after": False}, {"activation": "relu"}, {"dropout": 0.5}, {"dtype": "float64"}]
)
def test_other_recurrent_layers_stay_as_they_are(options):
    x = tf.random.stateless_normal((3, 7, 6), (0, 0))
    expected, found = build(**options), speed_up(build(**options))
    np.testing.assert_allclose(found(x), expected(x), atol=1e-6)
    assert not any("call" in vars(layer) for layer in found.layers)
