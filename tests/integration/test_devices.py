import re
import socket
import sys

import keras
import nbformat
import numpy as np
import pytest

import utils
from conftest import PROJECT, TINY, user_environment
from CTCLayer import NO_IMAGE
from hosts import free_port, host_environments, start
from snippet_ocr.alphabet import Alphabet
from snippet_ocr.reader import Reader
from training import devices

TRAIN = [sys.executable, PROJECT / "tests" / "integration" / "train_on_devices.py"]


def run_all(command, environments):
    """Runs a command once in each environment, at the same time; returns the exit codes and outputs."""
    running = [start(command, environment) for environment in environments]
    try:
        outputs = [process.communicate(timeout=900)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    return [process.returncode for process in running], outputs


def train(steps, out, environments, cpus=1):
    """Trains in one process per environment; returns the arrays that they save."""
    codes, outputs = run_all([*TRAIN, steps, cpus, out], environments)
    assert set(codes) == {0}, outputs
    return dict(np.load(out))


def assert_same_training(one, other):
    # Floats are summed in another order. The rounding differences grow from step to step.
    np.testing.assert_allclose(one["losses"][:10], other["losses"][:10], rtol=1e-4)
    np.testing.assert_allclose(one["losses"], other["losses"], rtol=0.05)
    np.testing.assert_allclose(one["evaluation"], other["evaluation"], atol=0.02)
    assert one["losses"][-1] < one["losses"][0]


def test_two_tensorflow_devices_train_like_one(tmp_path):
    one = train(30, tmp_path / "one.npz", [user_environment(PYTHONPATH=str(PROJECT))])
    two = train(30, tmp_path / "two.npz", [user_environment(True, PYTHONPATH=str(PROJECT))], cpus=2)
    assert_same_training(one, two)
    assert two["logits"].shape == (3, 20, one["logits"].shape[2])


def test_two_jax_devices_or_hosts_train_like_one_device(tmp_path):
    environment = user_environment(PYTHONPATH=str(PROJECT), KERAS_BACKEND="jax")
    one = train(12, tmp_path / "one.npz", [environment])
    two_devices = environment | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    assert_same_training(one, train(12, tmp_path / "devices.npz", [two_devices]))
    assert_same_training(one, train(12, tmp_path / "hosts.npz", host_environments(2)))


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


def connect_and(code, timeout=60):
    """Returns a command that connects a host and runs some code."""
    connect = f"from training import devices; devices.CONNECT_TIMEOUT = {timeout}; print(devices.connect(16))"
    return [sys.executable, "-c", f"{connect}\n{code}"]


def fail_to_connect(environment):
    """Connects a host with a timeout of 3 seconds (JAX's own is 300 seconds); returns its output."""
    (code,), (output,) = run_all(connect_and("", timeout=3), [environment])
    assert code != 0
    assert "training on" not in output
    return output


@pytest.mark.parametrize("index", [0, 1])
def test_missing_host_ends_the_others_with_an_explanation(index):
    output = fail_to_connect(host_environments(2)[index])
    assert f"host {index} of 2: connecting to 127.0.0.1:" in output
    assert "If this process ends within 3 seconds, a host is missing" in output


def test_port_in_use_is_an_error():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        output = fail_to_connect(host_environments(2, port)[0])
    assert re.search(f"ValueError: .*Host 0 cannot use 127.0.0.1:{port}: .*Address already in use", output)


def test_unknown_host_name_is_an_error():
    environment = host_environments(2)[1]
    environment["KERAS_DISTRIBUTION_JOB_ADDRESSES"] = "no.such.host.invalid:1234"
    assert "Host 1 cannot use no.such.host.invalid:1234: " in fail_to_connect(environment)


def test_different_numbers_of_hosts_are_an_error():
    port = free_port()
    environments = [host_environments(2, port)[0], host_environments(3, port)[1]]
    codes, outputs = run_all(connect_and(""), environments)
    for code, output in zip(codes, outputs, strict=True):
        assert code != 0
        assert "KERAS_DISTRIBUTION_NUM_PROCESSES: 2 on host 0, 3 on host 1" in output


FACTS_AND_BYTES = """
index = devices.host_index()
content = bytes(range(256)) * 99
assert devices.broadcast(b"" if index else content) == content
assert devices.broadcast(b"x" * index) == b""
devices.require_same({"same": [1]})
facts = {"keras": "3.15", "training images": "abc"[index:]}
devices.require_same(facts | ({"only here": 1} if index else {}))
"""


def test_hosts_broadcast_bytes_and_refuse_different_facts():
    codes, outputs = run_all(connect_and(FACTS_AND_BYTES), host_environments(2))
    for index, (code, output) in enumerate(zip(codes, outputs, strict=True)):
        assert code == 1
        assert (
            f"training on 2 devices (JAX, CPU) of 2 hosts; this is host {index}; 8 images of each" in output
        )
        assert output.endswith(
            "ValueError: Expected the same settings and versions on all hosts. These differ:\n"
            "  only here: None on host 0, 1 on host 1\n"
            "  training images: 'abc' on host 0, 'bc' on host 1\n"
        )


def test_single_host_needs_no_others():
    devices.require_same({"a": 1})
    assert devices.broadcast(b"x") == b"x"
    assert devices.connect(16) == "training on 1 device (TensorFlow, CPU)"


def test_batch_that_devices_cannot_share_is_an_error(monkeypatch):
    monkeypatch.setattr(devices, "device_count", lambda: 3)
    with pytest.raises(ValueError, match=r"batch_size to be a multiple of 3 \(devices\)\. Received: 16"):
        devices.connect(16)


def test_several_hosts_without_jax_are_an_error(monkeypatch):
    monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", "2")
    with pytest.raises(ValueError, match="Expected KERAS_BACKEND=jax for several hosts. Found tensorflow."):
        devices.connect(16)


@pytest.mark.parametrize(
    ("variable", "wrong"),
    [
        ("JOB_ADDRESSES", "here"),
        ("JOB_ADDRESSES", "here:99999"),
        ("NUM_PROCESSES", "two"),
        ("PROCESS_ID", "2"),
        ("PROCESS_ID", None),
    ],
)
def test_missing_or_wrong_variable_is_an_error(monkeypatch, variable, wrong):
    values = {"JOB_ADDRESSES": "127.0.0.1:1234", "NUM_PROCESSES": "2", "PROCESS_ID": "1", variable: wrong}
    monkeypatch.setattr(devices, "jax", pytest.importorskip("jax"))
    for name, value in values.items():
        if value is not None:
            monkeypatch.setenv(f"KERAS_DISTRIBUTION_{name}", value)
    with pytest.raises(ValueError, match=r"PROCESS_ID \(0 to number of hosts - 1\)\. Received: "):
        devices.connect(16)


def pretend(patch, hosts, index):
    """Makes this process one of several hosts with two devices each."""
    patch.setattr(devices, "host_count", lambda: hosts)
    patch.setattr(devices, "host_index", lambda: index)
    patch.setattr(devices, "device_count", lambda: 2 * hosts)


def batches_of(samples, seed):
    """Returns the labels and the images of each batch of the first epoch; images have two widths."""
    alphabet = Alphabet.from_labels([sample.label for sample in samples])

    def encode(sample):
        return utils.encode_single_sample(sample, alphabet, [80 if sample in samples[:13] else 60], 20, 5)

    data = utils.get_data(samples, encode, 8, seed).take(2 + 3)  # 13 and 17 images
    return [(label.numpy(), inputs["image"].numpy()) for inputs, label in data]


@pytest.mark.parametrize("seed", [None, 3])
def test_shares_of_all_hosts_make_the_batch_of_one(monkeypatch, image_folder, seed):
    samples, _ = utils.find_images(image_folder)
    assert len(samples) == 30
    expected = batches_of(samples, seed)
    shares = []
    for index in range(2):
        with monkeypatch.context() as patch:
            pretend(patch, 2, index)
            shares.append(batches_of(samples, seed))
    sizes = []
    for (label, image), *parts in zip(expected, *shares, strict=True):
        assert len({len(part_label) for part_label, _ in parts}) == 1
        joined_label, joined_image = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        np.testing.assert_array_equal(joined_label[: len(label)], label)
        np.testing.assert_allclose(joined_image[: len(image)], image, atol=1e-6)
        sizes.append(len(joined_label))
        padding = joined_label[len(label) :]
        if seed is None:
            assert (padding == NO_IMAGE).all()
        else:
            assert {tuple(row) for row in padding} <= {tuple(row) for batch, _ in expected for row in batch}
    assert sorted(sizes) == [4, 8, 8, 8, 8]  # 17 images make batches of 8, 8 and 1, which is padded


def test_padding_gives_each_device_an_image(monkeypatch):
    pretend(monkeypatch, 4, 0)
    order = np.array([5, 6, 7])
    assert devices.pad_order(order, repeat=True).tolist() == [5, 6, 7, 5, 6, 7, 5, 6]
    assert devices.pad_order(order, repeat=False).tolist() == [5, 6, 7, -6, -6, -6, -6, -6]
