import numpy as np

from snippet_ocr.images import prepare_image
from training.augmentation import augment


def test_strength_0_leaves_images_unchanged(shipped):
    image = np.stack([prepare_image(path, 200, 50) for path in shipped[:10]])
    np.testing.assert_allclose(augment(image, [1, 2], strength=0.0), image, atol=1e-5)


def test_centre_moves_only_within_the_bounds_of_the_shift():
    image = np.zeros((200, 101, 41, 1), dtype="float32")
    image[:, 50, 20] = 1.0  # rotation, shear and scale leave the centre in place
    moved = np.asarray(augment(image, [3, 4]))
    centres = [np.unravel_index(np.argmax(one), one.shape)[:2] for one in moved if one.max() > 0]
    range_x, range_y = np.ptp(centres, axis=0)
    assert 4 <= range_x <= 10  # twice 4% of 101, rounded
    assert 3 <= range_y <= 8  # twice 8% of 41, rounded


def test_seed_decides_the_maps(shipped):
    image = np.stack([prepare_image(path, 200, 50) for path in shipped[:4]])
    np.testing.assert_array_equal(augment(image, [1, 2]), augment(image, [1, 2]))
    assert not np.array_equal(augment(image, [1, 2]), augment(image, [1, 3]))
