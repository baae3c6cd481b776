import numpy as np

from snippet_ocr.images import prepare_image
from training.augmentation import augment


def test_augmentation_of_strength_0_changes_nothing(shipped):
    image = np.stack([prepare_image(path, 200, 50) for path in shipped[:10]])
    np.testing.assert_allclose(augment(image, [1, 2], strength=0.0), image, atol=1e-5)


def test_augmentation_turns_and_stretches_about_the_middle():
    image = np.zeros((200, 101, 41, 1), dtype="float32")
    image[:, 50, 20] = 1.0  # the middle moves by the shift alone: 4 % of 101, 8 % of 41
    moved = np.asarray(augment(image, [3, 4]))
    where = [np.unravel_index(np.argmax(one), one.shape)[:2] for one in moved if one.max() > 0]
    across, down = np.ptp(where, axis=0)
    assert 4 <= across <= 10
    assert 3 <= down <= 8


def test_same_seed_gives_the_same_maps_and_another_seed_others(shipped):
    image = np.stack([prepare_image(path, 200, 50) for path in shipped[:4]])
    np.testing.assert_array_equal(augment(image, [1, 2]), augment(image, [1, 2]))
    assert not np.array_equal(augment(image, [1, 2]), augment(image, [1, 3]))
