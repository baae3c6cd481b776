import random
import shutil
from pathlib import Path

import keras
import pytest

PROJECT = Path(__file__).absolute().parent.parent


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def shipped():
    """The paths of the shipped images."""
    return sorted((PROJECT / "captcha_images").glob("*.png"))


@pytest.fixture
def image_folder(tmp_path, shipped):
    """A folder of 30 of the shipped images."""
    folder = tmp_path / "some images"
    folder.mkdir()
    for path in random.Random(0).sample(shipped, 30):
        shutil.copy(path, folder)
    return folder
