import keras
import numpy as np
import pytest

from snippet_ocr.alphabet import Alphabet
from snippet_ocr.reader import Reader
from tools.notebook import load_build_model
from training.transfer import BASE_READER, copy_weights, load_base, related_characters

BASE = Alphabet("bdf")


def network(alphabet, height=16):
    """The training model of the notebook and its reading model."""
    model = load_build_model()(height, 5, alphabet.number_of_classes, 0.1)
    return model, keras.Model(model.inputs[0], model.get_layer("logits").output)


@pytest.fixture
def base_reader():
    return Reader(network(BASE)[1], BASE, [64])


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 16, 64)).astype("uint8")


def test_common_characters_keep_their_logits(base_reader, images):
    alphabet = Alphabet("abcdef")
    model, reading_model = network(alphabet)
    message = copy_weights(base_reader, model, alphabet)
    before, after = base_reader.model.predict_on_batch(images), reading_model.predict_on_batch(images)
    old_classes, new_classes = [0, *BASE.encode("bdf")], [0, *alphabet.encode("bdf")]
    np.testing.assert_allclose(after[:, :, new_classes], before[:, :, old_classes], rtol=1e-5, atol=1e-6)
    assert message == "base reader: 3 characters keep their weights, 3 new: a c e"


def test_new_characters_keep_their_initial_weights(base_reader):
    alphabet = Alphabet("abdf")
    model, _ = network(alphabet)
    kernel = model.get_layer("logits").get_weights()[0][:, 1].copy()
    copy_weights(base_reader, model, alphabet)
    np.testing.assert_array_equal(model.get_layer("logits").get_weights()[0][:, 1], kernel)


def test_same_alphabet_keeps_every_weight(base_reader, images):
    model, reading_model = network(BASE)
    assert copy_weights(base_reader, model, BASE).endswith("3 characters keep their weights, 0 new")
    for weight, expected in zip(reading_model.get_weights(), base_reader.model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)
    before, after = base_reader.model.predict_on_batch(images), reading_model.predict_on_batch(images)
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


def edited_networks():
    x = keras.Input((64, 16))
    yield keras.Sequential([keras.Input((4, 8)), keras.layers.Dense(5), keras.layers.Dense(4, name="logits")])
    features = keras.layers.Dense(8, name="column_features")(
        keras.layers.Reshape((64, 16), name="columns")(x)
    )
    yield keras.Model(x, keras.layers.Dense(4, name="logits")(features))
    yield keras.Model(x, keras.layers.Dense(4, name="logits")(keras.layers.Conv1D(3, 3)(x)))


@pytest.mark.parametrize("number", range(3))
def test_base_reader_with_another_network_is_refused_or_not_used(base_reader, number):
    other = list(edited_networks())[number]
    before = other.get_weights()
    with pytest.raises(ValueError, match="base_reader to have the network"):
        copy_weights(base_reader, other, BASE)
    assert "not used, because build_model has another network" in copy_weights(base_reader, other, BASE, True)
    assert all(map(np.array_equal, before, other.get_weights()))


def test_base_reader_of_the_project_has_the_network_of_the_notebook():
    base = load_base("auto")
    message = copy_weights(base, network(base.alphabet, height=50)[0], base.alphabet)
    assert message.endswith(f"{len(base.alphabet.characters)} characters keep their weights, 0 new")
    assert BASE_READER.stat().st_size < 5_000_000


def test_weights_of_a_column_are_interpolated_for_taller_images(base_reader):
    model, taller = network(BASE, height=64)
    copy_weights(base_reader, model, BASE)
    old, new = (one.get_layer("column_features").get_weights()[0] for one in (base_reader.model, taller))
    old, new = old.reshape(4, 64, -1), new.reshape(16, 64, -1)  # (rows, filters, units)
    np.testing.assert_allclose(new.sum(0), old.sum(0), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(new[0], old[0] / 4, rtol=1e-5)
    np.testing.assert_allclose(new[5], (0.125 * old[0] + 0.875 * old[1]) / 4, rtol=1e-4, atol=1e-7)


def test_base_reader_gives_the_characters_of_categories_with_a_single_occurrence():
    reader = Reader(network(BASE)[1], Alphabet("09AZaz.-$"), [64])
    assert related_characters(["7"], reader) == "09"
    assert related_characters(["KL-4", "M"], reader) == "09AZ-"
    assert related_characters(["京A"], reader) == "AZ"
    assert related_characters(["KL-4", "KL-4", "M"], reader) == "AZ"  # digits and dashes seem complete
    assert related_characters(["44", "55"], reader) == ""
    assert related_characters(["7"], None) == ""


def test_training_without_a_base_reader_keeps_its_initial_weights():
    model, reading_model = network(BASE)
    before = reading_model.get_weights()
    assert copy_weights(load_base(""), model, BASE) == "no base reader: the weights start at random"
    assert all(map(np.array_equal, before, reading_model.get_weights()))


def test_base_reader_in_onnx_is_refused():
    class OnnxModel:
        input_shape, output_shape = (None, 16, None), (None, None, 4)

    with pytest.raises(ValueError, match=r"Expected base_reader to be a \.keras file"):
        copy_weights(Reader(OnnxModel(), BASE, [64]), network(BASE)[0], BASE)
