"""Images of extreme sizes and of different widths, from the folder to the reader."""

import keras
import numpy as np
import pytest
from PIL import Image

import utils
from snippet_ocr.alphabet import Alphabet
from snippet_ocr.reader import Reader
from tools.notebook import load_build_model
from training import export, image_size, metrics
from training.fast_gru import speed_up

LABELS = "a", "b", "ab", "ba", "aa"
ALPHABET = Alphabet("ab")


def train(folder, sizes):
    """Trains on an image of noise per label; returns the losses, the reader and the samples."""
    rng = np.random.default_rng(0)
    for label, size in zip(LABELS, sizes, strict=True):
        Image.fromarray(rng.integers(0, 256, size[::-1], dtype="uint8")).save(folder / f"{label}.png")
    samples, _ = utils.find_images(folder)
    widths, height, _ = image_size.choose_size(samples)
    model = load_build_model()(height, 2, ALPHABET.number_of_classes, 0.1)
    model.compile("adam", metrics=[metrics.ExactMatch(), metrics.ClippedLoss()])

    def encode(sample):
        return utils.encode_single_sample(sample, ALPHABET, widths, height, 2)

    data = utils.get_data(samples, encode, 5, seed=0, augmentation=1.0)
    validation = utils.get_data(samples, encode, 5)
    history = speed_up(model).fit(
        data, steps_per_epoch=len(validation), epochs=25, validation_data=validation, shuffle=False, verbose=0
    )
    reader = Reader(keras.Model(model.inputs[0], model.get_layer("logits").output), ALPHABET, widths)
    return history.history["loss"], reader, samples


@pytest.mark.parametrize("size", [(20, 60), (400, 32), (1200, 64)])
def test_narrow_long_and_large_images_train_and_read(size, tmp_path):
    losses, reader, samples = train(tmp_path, [size] * 5)
    assert losses[-1] < losses[0]
    assert len(reader.widths) == 1
    assert len(reader.read([sample.path for sample in samples])) == 5


def test_images_of_different_widths_train_read_and_are_exported(tmp_path):
    losses, reader, samples = train(tmp_path, [(200, 32), (30, 32), (90, 30), (28, 34), (420, 64)])
    assert losses[-1] < losses[0]
    assert len(reader.widths) == 3
    paths = [sample.path for sample in samples]
    together = reader.read(paths)
    export.export(reader, tmp_path / "reader.onnx", reader.prepare(paths))
    for readings in (
        [reader.read([path])[0] for path in paths],
        Reader.load(tmp_path / "reader.onnx").read(paths),
    ):
        assert [one.text for one in readings] == [one.text for one in together]
        confidences = [one.confidence for one in readings]
        assert confidences == pytest.approx([one.confidence for one in together], rel=1e-3)
