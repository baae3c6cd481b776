import numpy as np
import pytest
from scipy import ndimage

from snippet_ocr.images import load_fitted
from training.augmentation import augment


@pytest.fixture
def image(shipped):
    return np.stack([load_fitted(path, [200], 50) for path in shipped[:10]])


def test_strength_0_leaves_images_unchanged(image):
    unchanged = augment(image, [1, 2], strength=0.0)
    assert unchanged.dtype == "uint8"
    np.testing.assert_array_equal(unchanged, image)


def test_centre_moves_only_within_the_bounds_of_the_shift():
    image = np.zeros((200, 41, 101), dtype="uint8")
    image[:, 20, 50] = 255  # rotation, shear and scale leave the centre in place
    moved = np.asarray(augment(image, [3, 4]))
    centres = [np.unravel_index(np.argmax(one), one.shape) for one in moved if one.max() > 0]
    range_y, range_x = np.ptp(centres, axis=0)
    assert 4 <= range_x <= 10  # twice 4% of 101, rounded
    assert 3 <= range_y <= 8  # twice 8% of 41, rounded


def test_pixels_are_rounded_bilinear_values_of_one_affine_map(image):
    y, x = np.mgrid[:50, :200].astype("uint8")
    for seed in range(3):
        # The first image of each batch gets the same map, which two ramps show: where each pixel comes from.
        from_y, from_x, moved = (
            np.asarray(augment(one[None], [seed, 1]))[0].astype(float) for one in (y, x, image[0])
        )
        inside = (from_x > 2) & (from_x < 196) & (from_y > 2) & (from_y < 46)
        places = np.stack([np.ones(inside.sum()), x[inside], y[inside]], axis=1)  # (pixels, 3)
        fitted = [places @ np.linalg.lstsq(places, one[inside], rcond=None)[0] for one in (from_y, from_x)]
        expected = ndimage.map_coordinates(image[0].astype(float), fitted, order=1)
        difference = moved[inside] - expected
        assert abs(difference.mean()) < 0.05  # -0.5 if it truncated
        assert np.abs(difference).mean() < 0.5


def test_seed_decides_the_maps(image):
    np.testing.assert_array_equal(augment(image, [1, 2]), augment(image, [1, 2]))
    assert not np.array_equal(augment(image, [1, 2]), augment(image, [1, 3]))
