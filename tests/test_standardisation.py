"""The first layers of the notebook's model, from bytes to the input of the first convolution."""

import keras
import numpy as np
import pytest

from snippet_ocr import images
from tools.notebook import load_build_model


@pytest.fixture(scope="module")
def standardise():
    """Returns a function of images, uint8 of shape (batch, 50, width)."""
    model = load_build_model()(50, 5, 7, 0.1)
    convolution = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    return keras.Model(model.inputs[0], convolution.input).predict_on_batch


def test_standardised_image_has_mean_0_variance_1_and_width_first(standardise):
    pixels = np.full((1, 50, 200), 200, dtype="uint8")
    pixels[:, 10:20, 30:60] = 40
    (ink,) = standardise(pixels)
    assert (ink.shape, ink.dtype) == ((200, 50, 1), np.float32)
    assert (ink.mean(), ink.std()) == pytest.approx((0, 1), abs=1e-3)
    assert ink[45, 15, 0] > 0 > ink[0, 0, 0]


def test_each_image_is_standardised_by_itself(standardise, shipped):
    pixels = np.stack([images.load_fitted(path, [200], 50) for path in shipped[:20]])
    expected = [((one.mean() - one) / one.std()).T[:, :, None] for one in pixels.astype("float64")]
    np.testing.assert_allclose(standardise(pixels), expected, atol=0.01)


def test_image_of_a_single_grey_value_becomes_zeros(standardise):
    for grey in (0, 77, 255):
        assert not standardise(np.full((1, 50, 200), grey, dtype="uint8")).any()


def test_brightness_of_the_paper_has_no_effect(standardise):
    pixels = np.full((1, 50, 200), 240, dtype="uint8")
    pixels[:, 10:20, 30:60] = 100
    np.testing.assert_allclose(standardise(pixels), standardise(pixels - 60), atol=1e-5)


def test_noise_below_one_grey_level_is_not_amplified(standardise):
    faint = np.tile(np.array([[100, 101]], "uint8"), (1, 50, 100))
    strong = np.tile(np.array([[100, 140]], "uint8"), (1, 50, 100))
    assert np.abs(standardise(faint)).max() < 0.5
    assert np.abs(standardise(strong)) == pytest.approx(1.0, abs=0.01)
