import contextlib
import io
import os
import random
import resource
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from snippet_ocr.reader import Reader

PROJECT = Path(__file__).absolute().parent.parent
TINY = {
    "OCR_BATCH_SIZE": "8",
    "OCR_MIN_STEPS_PER_EPOCH": "15",
    "OCR_IMAGE_WIDTH": "80",
    "OCR_IMAGE_HEIGHT": "20",
}
"""Parameters with which an epoch of the notebook takes about a second."""

SCREENSHOTS = PROJECT / "runs" / "screenshots"
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP evil.example 127.0.0.1",  # a website under a name of its own
]


@pytest.fixture(autouse=True)
def seeded():
    random.seed(0)
    np.random.seed(0)
    if "keras" in sys.modules:  # tests without Keras do not wait for its import
        sys.modules["keras"].utils.set_random_seed(0)


@pytest.fixture(scope="session")
def shipped():
    """The paths of the shipped images."""
    return sorted((PROJECT / "captcha_images").glob("*.png"))


@pytest.fixture(scope="session")
def model():
    """A reading model of `examples.ALPHABET` as the notebook makes it, untrained."""
    import keras

    from examples import ALPHABET
    from tools.notebook import load_build_model

    keras.utils.set_random_seed(3)
    training_model = load_build_model()(24, 5, ALPHABET.number_of_classes, 0.1)
    # With a bias of 0 for the blank, an untrained model reads something.
    head = training_model.get_layer("logits")
    head.bias.assign(np.zeros(head.bias.shape))
    return keras.Model(training_model.inputs[0], head.output)


@pytest.fixture(scope="session")
def saved(model, tmp_path_factory):
    """The path of a reader with that model."""
    from examples import ALPHABET

    path = tmp_path_factory.mktemp("saved") / "reader.keras"
    Reader(model, ALPHABET, [80], {"seed": 3}).save(path)
    return path


@pytest.fixture
def image_folder(tmp_path, shipped):
    """A folder of 30 of the shipped images."""
    folder = tmp_path / "some images"
    folder.mkdir()
    for path in random.Random(0).sample(shipped, 30):
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def project(tmp_path):
    """A copy of the project without its images, in a path with a space."""
    copy = tmp_path / "my project"
    copy.mkdir()
    for path in [*PROJECT.glob("*.py"), PROJECT / "ocr.ipynb"]:
        shutil.copy(path, copy)
    for package in ("snippet_ocr", "training"):
        shutil.copytree(PROJECT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="session")
def browser():
    """The chromium of this machine."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None and "CI" not in os.environ:
        pytest.skip("chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


def screenshot(page, name):
    """Saves a picture of a page in runs/screenshots/."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


@contextlib.contextmanager
def full_disk(size):
    """Limits the size of files in bytes, like a disk that is nearly full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def weights_of(run_dir):
    """The arrays that a run saves: its checkpoint without the history, and the weights of its reader."""
    with np.load(run_dir / "checkpoint.npz") as checkpoint:
        arrays = {name: checkpoint[name] for name in checkpoint.files if name != "history"}
    import h5py

    with zipfile.ZipFile(run_dir / "reader.keras") as archive:
        content = archive.read("model.weights.h5")
    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(
            lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
        )
    return arrays


def user_environment(measured=False, **variables):
    """The environment of a user: only the `OCR_…` variables given here, and none of pytest.

    A kernel that finds the variables of pytest does not write to the terminal.

    Args:
        measured: whether coverage is measured in the process, which makes it slower.
        **variables: the variables that are set.
    """
    dropped = {"PYTEST_CURRENT_TEST", "TF_CPP_MIN_LOG_LEVEL"} | (
        set() if measured else {"COVERAGE_PROCESS_CONFIG"}
    )
    kept = {k: v for k, v in os.environ.items() if k not in dropped and not k.startswith("OCR_")}
    return kept | variables


@pytest.fixture
def samples(image_folder):
    import utils

    return utils.find_images(image_folder)[0]


@pytest.fixture
def folder(tmp_path):
    """A folder with the empty images a.png, b.png and below/c.png."""
    (tmp_path / "below").mkdir()
    for name in ("a.png", "b.png", "below/c.png"):
        (tmp_path / name).touch()
    return tmp_path
