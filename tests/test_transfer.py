import keras
import numpy as np
import pytest

from snippet_ocr.alphabet import Alphabet
from snippet_ocr.reader import Reader
from tools.notebook import load_build_model
from training.transfer import copy_weights

OLD = Alphabet("bdf")


def network(alphabet, height=16):
    """A training model and its reading model, as the notebook makes them."""
    model = load_build_model()(64, height, 5, alphabet.number_of_classes, 4, 0.1)
    return model, keras.Model(model.inputs[0], model.get_layer("logits").output)


@pytest.fixture
def reader():
    return Reader(network(OLD)[1], OLD)


def test_grown_alphabet_gives_known_characters_the_same_logits(reader):
    alphabet = Alphabet("abcdef")
    model, reading_model = network(alphabet)
    said = copy_weights(reader, model, alphabet)
    image = np.random.default_rng(0).normal(size=(3, 64, 16, 1)).astype("float32")
    before, after = reader.model.predict_on_batch(image), reading_model.predict_on_batch(image)
    for character in OLD.characters:
        old, new = OLD.encode(character)[0], alphabet.encode(character)[0]
        np.testing.assert_allclose(after[:, :, new], before[:, :, old], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(after[:, :, 0], before[:, :, 0], rtol=1e-5, atol=1e-6)
    assert said.startswith("starts from a reader: 3 characters keep their weights, 3 new: a c e\n")


def test_new_characters_begin_with_the_new_model_s_own_weights(reader):
    alphabet = Alphabet("abdf")
    model, _ = network(alphabet)
    kernel = model.get_layer("logits").get_weights()[0][:, 1].copy()
    copy_weights(reader, model, alphabet)
    np.testing.assert_array_equal(model.get_layer("logits").get_weights()[0][:, 1], kernel)


def test_same_alphabet_reads_bit_for_bit_the_same(reader):
    model, reading_model = network(OLD)
    assert "none is new" in copy_weights(reader, model, OLD)
    image = np.random.default_rng(0).normal(size=(3, 64, 16, 1)).astype("float32")
    np.testing.assert_array_equal(reading_model.predict_on_batch(image), reader.model.predict_on_batch(image))


def test_reader_of_another_network_is_refused(reader):
    with pytest.raises(ValueError, match="base_reader.*another image height"):
        copy_weights(reader, network(OLD, height=32)[0], OLD)


def test_reader_that_cannot_learn_is_refused():
    class InOnnx:
        input_shape, output_shape = (None, 64, 16, 1), (None, 16, 4)

    with pytest.raises(ValueError, match=r"Expected base_reader to be a \.keras file"):
        copy_weights(Reader(InOnnx(), OLD), network(OLD)[0], OLD)
