"""The random changes to images that the studies of the recipe try do what their names say."""

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import candidates, recipe


def test_line_is_drawn_through_every_column_of_an_image():
    images = np.full((2, 20, 40), 250, "uint8")
    images[:, 0, 0] = 0  # the darkest pixel decides how dark the line is
    (drawn,) = tf.data.Dataset.from_tensors(images).map(recipe.strike_through)
    assert drawn.dtype == "uint8"
    assert (drawn.numpy().min(axis=1) < 60).all()


def test_noise_is_a_fifth_of_the_contrast():
    images = np.random.default_rng(0).choice(np.array([100, 200], "uint8"), (2, 50, 200))
    (noisy,) = tf.data.Dataset.from_tensors(images).map(recipe.add_noise)
    assert noisy.dtype == "uint8"
    assert (noisy.numpy() - images.astype(float)).std() == pytest.approx(0.2 * 50, rel=0.05)


@pytest.mark.parametrize("mask", [candidates.mask_columns, candidates.blot])
def test_masked_pixels_have_the_mean_of_their_image(mask):
    images = np.random.default_rng(0).integers(0, 100, (8, 40, 160)).astype("uint8")
    masked = mask(tf.constant(images)).numpy()
    changed = masked != images
    means = np.broadcast_to(np.round(images.mean(axis=(1, 2), keepdims=True)), images.shape)
    assert np.array_equal(masked[changed], means[changed])
    assert 0 < changed.mean() < 0.1


def test_photometric_changes_keep_a_flat_image_flat():
    images = np.full((4, 20, 40), 128, "uint8")
    changed = candidates.photometric(tf.constant(images)).numpy()
    assert changed.dtype == "uint8"
    assert (changed.std(axis=(1, 2)) < 1e-6).all()
    assert len(np.unique(changed)) > 1  # each image has a brightness of its own
