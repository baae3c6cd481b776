import contextlib
import functools
import re
import socket
import sys
import time

import keras
import nbformat
import numpy as np
import pytest
import tensorflow as tf

import utils
from conftest import PROJECT, TINY, user_environment
from hosts import free_port, hosts_of, start
from snippet_ocr.alphabet import Alphabet
from snippet_ocr.reader import Reader
from training import devices

TRAIN = [sys.executable, str(PROJECT / "tests" / "integration" / "train_on_devices.py")]


def train(steps, out, environments, cpus=1):
    """Trains in as many processes as there are environments; returns what they stored."""
    running = [start([*TRAIN, steps, cpus, out], environment) for environment in environments]
    for process in running:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    return dict(np.load(out))


def assert_same_training(one, other):
    # The sums are rounded in another order; a training makes such differences grow.
    np.testing.assert_allclose(one["losses"][:10], other["losses"][:10], rtol=1e-4)
    np.testing.assert_allclose(one["losses"], other["losses"], rtol=0.05)
    np.testing.assert_allclose(one["evaluation"], other["evaluation"], atol=0.02)
    assert one["losses"][-1] < one["losses"][0]


def test_two_devices_of_tensorflow_train_as_one_does(tmp_path):
    environment = user_environment(True, PYTHONPATH=str(PROJECT))
    one = train(50, tmp_path / "one.npz", [environment])
    two = train(50, tmp_path / "two.npz", [environment], cpus=2)
    assert_same_training(one, two)
    assert two["logits"].shape == (3, 20, one["logits"].shape[2])


def test_two_devices_and_two_hosts_of_jax_train_as_one_does(tmp_path):
    environment = user_environment(True, PYTHONPATH=str(PROJECT), KERAS_BACKEND="jax")
    one = train(20, tmp_path / "one.npz", [environment])
    devices = environment | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    assert_same_training(one, train(20, tmp_path / "devices.npz", [devices]))
    hosts = train(20, tmp_path / "hosts.npz", hosts_of(2))
    assert_same_training(one, hosts)


TWO_CPUS = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
"""


def test_notebook_that_was_killed_on_one_device_goes_on_with_two(project, image_folder):
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
    output, _ = start(command, environment, project).communicate(timeout=300)
    assert "trains on 2 devices, with tensorflow: 4 images of each batch per device" in output
    assert f"goes on with the unfinished run: {project / 'runs' / 'run'}" in output
    assert re.findall(r"(?m)^epoch +(\d)/2", output) == ["2"]
    reader = Reader.load(project / "runs" / "run" / "reader.keras")
    assert reader.read(sorted(image_folder.iterdir())[:2])
    kinds = [layer for layer in reader.model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert kinds and not any(layer.synchronized for layer in kinds)


def connect(environment, wait=3):
    """Lets a host connect that does not wait for long; returns what it printed."""
    code = f"from training import devices; devices.CONNECT_TIMEOUT = {wait}; print(devices.connect(16))"
    started = time.monotonic()
    output, _ = start([sys.executable, "-c", code], environment).communicate(timeout=100)
    assert time.monotonic() - started < 60
    return output


def test_port_in_use_is_an_error():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        found = connect(hosts_of(2, port)[0])
    assert re.search(f"ValueError: .*127.0.0.1:{port}. Host 0 found: .*Address already in use", found)


def test_host_that_does_not_come_is_named():
    assert "Host 0 found: after 3 seconds, these have not come: 1, 2." in connect(hosts_of(3)[0])


def test_wrong_address_is_an_error():
    assert re.search("Host 1 found: .*Connection refused", connect(hosts_of(2)[1]))
    unknown = hosts_of(2)[1] | {"KERAS_DISTRIBUTION_JOB_ADDRESSES": "no.such.host.invalid:1234"}
    assert re.search("ValueError: .*no.such.host.invalid:1234. Host 1 found", connect(unknown))


def test_hosts_that_were_told_different_numbers_do_not_wait_for_each_other():
    port = free_port()
    first = start(
        [
            sys.executable,
            "-c",
            "from training import devices; devices.CONNECT_TIMEOUT = 12; devices.connect(16)",
        ],
        hosts_of(2, port)[0],
    )
    second = connect(hosts_of(3, port)[1], wait=30)
    assert "or has another number of hosts" in second
    output, _ = first.communicate(timeout=100)
    assert "after 12 seconds, these have not come: 1." in output


def test_different_facts_are_an_error_on_every_host():
    code = (
        "from training import devices; devices.connect(16); host = devices.host(); "
        "devices.require_same({'same': [1]}); print('the same'); "
        "devices.require_same({'keras': '3.15', 'training images': 'abc'[host:], **{'only here': 1} * host})"
    ).replace("**{'only here': 1} * host", "**({'only here': 1} if host else {})")
    running = [start([sys.executable, "-c", code], environment) for environment in hosts_of(2)]
    for process in running:
        output, _ = process.communicate(timeout=100)
        assert process.returncode == 1 and "the same" in output
        assert "training images: 'abc' on host 0, 'bc' on host 1" in output
        assert "only here: None on host 0, 1 on host 1" in output
        assert "keras:" not in output


def test_bytes_of_the_first_host_reach_all():
    code = (
        "from training import devices; devices.connect(16); host = devices.host(); "
        "assert devices.broadcast(b'' if host else bytes(range(256)) * 99) == bytes(range(256)) * 99; "
        "assert devices.broadcast(b'x' * host) == b''"
    )
    running = [start([sys.executable, "-c", code], environment) for environment in hosts_of(2)]
    for process in running:
        output, _ = process.communicate(timeout=100)
        assert process.returncode == 0, output


def test_one_host_alone_compares_with_nobody():
    devices.require_same({"a": 1})
    assert devices.broadcast(b"x") == b"x"
    assert devices.connect(16) == "trains on one device, with tensorflow"


def test_batch_that_cannot_be_divided_is_an_error(monkeypatch):
    monkeypatch.setattr(devices, "devices", lambda: 3)
    with pytest.raises(ValueError, match="that 3 devices can share equally. Received: 16"):
        devices.connect(16)


def test_several_hosts_ask_for_jax(monkeypatch):
    monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", "2")
    with pytest.raises(ValueError, match="Expected KERAS_BACKEND=jax for several hosts. Found tensorflow."):
        devices.connect(16)


@pytest.mark.parametrize(
    ("variable", "wrong"),
    [("JOB_ADDRESSES", "here"), ("NUM_PROCESSES", "two"), ("PROCESS_ID", "2"), ("PROCESS_ID", None)],
)
def test_variable_that_is_missing_or_wrong_is_an_error(monkeypatch, variable, wrong):
    given = {"JOB_ADDRESSES": "127.0.0.1:1234", "NUM_PROCESSES": "2", "PROCESS_ID": "1", variable: wrong}
    monkeypatch.setattr(devices.keras.backend, "backend", lambda: "jax")
    for name, value in given.items():
        if value is not None:
            monkeypatch.setenv(f"KERAS_DISTRIBUTION_{name}", value)
    with pytest.raises(
        ValueError, match="KERAS_DISTRIBUTION_PROCESS_ID, from 0 to one less than their number"
    ):
        devices.connect(16)


@contextlib.contextmanager
def pretending(monkeypatch, hosts, host):
    """This process takes itself for one of several hosts, each with two devices."""
    with monkeypatch.context() as patch:
        patch.setattr(devices, "hosts", lambda: hosts)
        patch.setattr(devices, "host", lambda: host)
        patch.setattr(devices, "devices", lambda: 2 * hosts)
        yield


def batches(samples, seed):
    """What is fed: a list of batches, each an array of labels and one of images."""
    alphabet = Alphabet.from_labels([sample.label for sample in samples])
    encode = functools.partial(
        utils.encode_single_sample, alphabet=alphabet, image_width=80, image_height=20, max_label_length=5
    )
    data = utils.get_data(samples, encode, 8, seed).take(-(-len(samples) // 8))
    return [(label.numpy(), inputs["image"].numpy()) for inputs, label in data]


@pytest.mark.parametrize("seed", [None, 3])
def test_shares_of_all_hosts_are_the_batch_of_one(monkeypatch, image_folder, seed):
    samples, _ = utils.find_images(image_folder)  # 30
    expected = batches(samples, seed)
    shares = []
    for host in range(2):
        with pretending(monkeypatch, 2, host):
            shares.append(batches(samples, seed))
    rows = 0
    for (label, image), *parts in zip(expected, *shares, strict=True):
        assert len({len(part[0]) for part in parts}) == 1
        both = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
        np.testing.assert_array_equal(both[0][: len(label)], label)
        np.testing.assert_array_equal(both[1][: len(image)], image)
        rows += len(both[0])
    assert rows == 32
    more = both[0][len(label) :]  # fills up the last batch
    assert len(more) == 2
    if seed is None:
        assert not more.any()
    else:
        np.testing.assert_array_equal(more, expected[0][0][:2])


def test_few_images_are_repeated_until_each_device_has_one(monkeypatch):
    with pretending(monkeypatch, 4, 0):
        assert devices.pad_order(tf.constant([5, 6, 7]), repeat=True).numpy().tolist() == [
            *(5, 6, 7, 5, 6, 7, 5, 6)
        ]
        assert devices.pad_order(tf.constant([5, 6, 7]), repeat=False).numpy().tolist() == [
            *(5, 6, 7, -1, -1, -1, -1, -1)
        ]
