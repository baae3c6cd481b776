import re
import subprocess
import sys

import keras
import nbformat
import numpy as np
import pytest

import utils
from conftest import PROJECT, TINY, user_environment
from CTCLayer import NO_IMAGE
from snippet_ocr.alphabet import Alphabet
from snippet_ocr.reader import Reader
from training import devices

TRAIN = [sys.executable, PROJECT / "tests" / "integration" / "train_on_devices.py"]


def start(command, environment, cwd=PROJECT):
    """Starts a command. Its `stdout` has its output and its errors."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*map(str, command)], env=environment, cwd=cwd, **pipes)


def train(steps, out, environment, cpus=1):
    """Trains in a new process; returns the arrays that it saves."""
    process = start([*TRAIN, steps, cpus, out], environment)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output
    return dict(np.load(out))


def assert_same_training(one, other):
    # Floats are summed in another order. The rounding differences grow from step to step.
    np.testing.assert_allclose(one["losses"][:3], other["losses"][:3], rtol=1e-3)
    np.testing.assert_allclose(one["losses"], other["losses"], rtol=0.05)
    np.testing.assert_allclose(one["evaluation"], other["evaluation"], atol=0.02)
    assert one["losses"][-1] < one["losses"][0]


def test_two_tensorflow_devices_train_like_one(tmp_path):
    one = train(30, tmp_path / "one.npz", user_environment(PYTHONPATH=str(PROJECT)))
    two = train(30, tmp_path / "two.npz", user_environment(True, PYTHONPATH=str(PROJECT)), cpus=2)
    assert_same_training(one, two)
    assert two["logits"].shape == (3, 20, one["logits"].shape[2])


def test_two_jax_devices_train_like_one(tmp_path):
    environment = user_environment(PYTHONPATH=str(PROJECT), KERAS_BACKEND="jax")
    one = train(12, tmp_path / "one.npz", environment)
    two_devices = environment | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    assert_same_training(one, train(12, tmp_path / "devices.npz", two_devices))


TWO_CPUS = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
"""


def test_killed_run_resumes_on_another_number_of_devices(project, image_folder):
    variables = TINY | {"OCR_EPOCHS": "2", "OCR_DATA_DIR": str(image_folder), "OCR_RUN_NAME": "run"}
    command = [sys.executable, "-m", "IPython", project / "ocr.ipynb"]
    environment = user_environment(**variables)
    first = start(command, environment, project)
    for line in first.stdout:
        if re.match("epoch +1/2", line):
            break
    first.kill()
    first.communicate()
    notebook = nbformat.read(project / "ocr.ipynb", as_version=4)
    setup = next(cell for cell in notebook.cells if cell.cell_type == "code")
    setup.source += TWO_CPUS
    nbformat.write(notebook, project / "ocr.ipynb")
    output, _ = start(command, environment, project).communicate(timeout=900)
    assert "training on 2 devices (TensorFlow, CPU); 4 images of each batch per device" in output
    assert f"resuming {project / 'runs' / 'run'}" in output
    assert re.findall(r"(?m)^epoch +(\d)/2", output) == ["2"]
    reader = Reader.load(project / "runs" / "run" / "reader.keras")
    assert reader.read(sorted(image_folder.iterdir())[:2])
    norms = [layer for layer in reader.model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert norms and not any(layer.synchronized for layer in norms)


def test_batch_that_devices_cannot_share_is_an_error(monkeypatch):
    monkeypatch.setattr(devices, "device_count", lambda: 3)
    with pytest.raises(ValueError, match=r"batch_size to be a multiple of 3 \(devices\)\. Received: 16"):
        devices.describe(16)


def batches_of(samples, seed):
    """Returns the labels and the images of each batch of the first epoch; images have two widths."""
    alphabet = Alphabet.from_labels([sample.label for sample in samples])

    def encode(sample):
        return utils.encode_single_sample(sample, alphabet, [80 if sample in samples[:13] else 60], 20, 6)

    data = utils.get_data(samples, encode, 8, seed).take(2 + 3)  # 13 and 17 images
    return [(label.numpy(), inputs["image"].numpy()) for inputs, label in data]


@pytest.mark.parametrize("seed", [None, 3])
def test_batches_for_two_devices_are_padded(monkeypatch, image_folder, seed):
    samples, _ = utils.find_images(image_folder)
    expected = batches_of(samples, seed)
    monkeypatch.setattr(devices, "device_count", lambda: 2)
    sizes = []
    for (label, image), (padded_label, padded_image) in zip(expected, batches_of(samples, seed), strict=True):
        np.testing.assert_array_equal(padded_label[: len(label)], label)
        np.testing.assert_array_equal(padded_image[: len(image)], image)
        sizes.append(len(padded_label))
        padding = padded_label[len(label) :]
        if seed is None:
            assert (padding == NO_IMAGE).all()
        else:
            assert {tuple(row) for row in padding} <= {tuple(row) for batch, _ in expected for row in batch}
    assert sorted(sizes) == [2, 6, 8, 8, 8]  # 13 and 17 images make batches of 5 and 1, which are padded


def test_padding_gives_each_device_an_image(monkeypatch):
    monkeypatch.setattr(devices, "device_count", lambda: 8)
    order = np.array([5, 6, 7])
    assert devices.pad_order(order, repeat=True).tolist() == [5, 6, 7, 5, 6, 7, 5, 6]
    assert devices.pad_order(order, repeat=False).tolist() == [5, 6, 7, -6, -6, -6, -6, -6]
