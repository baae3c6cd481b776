"""Images of extreme sizes, from the folder to the reader."""

import keras
import numpy as np
import pytest
from PIL import Image

import utils
from snippet_ocr.alphabet import Alphabet
from snippet_ocr.reader import Reader
from tools.notebook import load_build_model
from training import image_size


@pytest.mark.parametrize("size", [(20, 60), (400, 32), (1200, 64)])
def test_narrow_long_and_large_images_train_and_read(size, tmp_path):
    rng = np.random.default_rng(0)
    for label in ("a", "b", "ab", "ba", "aa"):
        Image.fromarray(rng.integers(0, 256, size[::-1], dtype="uint8")).save(tmp_path / f"{label}.png")
    samples, _ = utils.find_images(tmp_path)
    width, height, _ = image_size.choose_size(samples)
    alphabet = Alphabet("ab")
    model = load_build_model()(width, height, 2, alphabet.number_of_classes, 0.1)
    model.compile("adam")

    def encode(sample):
        return utils.encode_single_sample(sample, alphabet, width, height, 2)

    data = utils.get_data(samples, encode, 5, seed=0, augmentation=1.0)
    losses = model.fit(data, steps_per_epoch=1, epochs=8, shuffle=False, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    reader = Reader(keras.Model(model.inputs[0], model.get_layer("logits").output), alphabet)
    assert len(reader.read([sample.path for sample in samples])) == 5
