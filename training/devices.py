"""Training on several devices of one host, or on several hosts.

TensorFlow uses all GPUs of one host, through `tf.distribute.MirroredStrategy`. JAX (`KERAS_BACKEND=jax`)
uses all devices of one or several hosts, through `keras.distribution.DataParallel`. Several hosts connect if
each has the environment variables of `keras.distribution.initialize`: `KERAS_DISTRIBUTION_JOB_ADDRESSES`
(address and port of host 0), `KERAS_DISTRIBUTION_NUM_PROCESSES` (number of hosts) and
`KERAS_DISTRIBUTION_PROCESS_ID` (of this host, from 0).

The devices share each batch, so batch size and learning rate do not change with their number. The training
is equivalent on any number of devices, except that dropout and augmentation draw other random numbers.
"""

import json
import os
import socket

import keras
import numpy as np
import tensorflow as tf

from CTCLayer import CTCLayer
from snippet_ocr.terminal import report

if keras.backend.backend() == "jax":
    import jax
    from jax.experimental import multihost_utils
else:
    jax = None

VARIABLES = tuple(f"KERAS_DISTRIBUTION_{name}" for name in ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID"))
CONNECT_TIMEOUT = 60  # seconds that hosts wait for each other at the start


def connect(batch_size):
    """Connects this host to the others, if there are any, and returns a line that describes the devices.

    Call this before Keras computes anything. A second call changes nothing.

    Args:
        batch_size: the number of images in a batch, over all devices.

    Raises:
        ValueError: if the hosts cannot be connected, or if the devices cannot share a batch equally.
    """
    given = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    if given:
        _connect_hosts(given)
    if jax:
        tf.config.set_visible_devices([], "GPU")  # TensorFlow only prepares the data
    count, hosts = device_count(), host_count()
    if count % hosts:
        raise ValueError(f"Expected the same number of devices on {hosts} hosts. Found {count} in total.")
    if batch_size % count:
        raise ValueError(f"Expected batch_size to be a multiple of {count} (devices). Received: {batch_size}")
    kind = _device_names()[0].split(":")[-2].upper()  # "cpu:0" and "/device:CPU:0" give "CPU"
    line = f"training on {count} device{'s' if count > 1 else ''} ({'JAX' if jax else 'TensorFlow'}, {kind})"
    if hosts > 1:
        line += f" of {hosts} hosts; this is host {host_index()}"
    return f"{line}; {batch_size // count} images of each batch per device" if count > 1 else line


def _connect_hosts(variables):
    """Connects the hosts through JAX. They must all start within `CONNECT_TIMEOUT` seconds."""
    if not jax:
        raise ValueError(f"Expected KERAS_BACKEND=jax for several hosts. Found {keras.backend.backend()}.")
    if jax.distributed.is_initialized():
        return
    name, port, count, index = _parse(variables)
    try:
        socket.getaddrinfo(name, port)
        if index == 0:
            socket.create_server(("", port)).close()
    except OSError as error:
        raise ValueError(
            f"Expected {VARIABLES[0]} to be the address of host 0 and a free port on it. "
            f"Host {index} cannot use {name}:{port}: {error}"
        ) from error
    # If a host is missing, JAX aborts the process with messages about its own code. This line explains them.
    report(
        f"host {index} of {count}: connecting to {name}:{port}. If this process ends within "
        f"{CONNECT_TIMEOUT} seconds, a host is missing, the address is wrong or cannot be reached, "
        f"or the hosts disagree on {VARIABLES[1]}."
    )
    # `keras.distribution.initialize` does the same, but waits for five minutes.
    jax.distributed.initialize(f"{name}:{port}", count, index, initialization_timeout=CONNECT_TIMEOUT)
    # JAX's first exchange fails if a host is 30 seconds late, so exchange now. Later exchanges wait longer.
    require_same({VARIABLES[1]: count})


def _parse(variables):
    """Returns the name and port of host 0, the number of hosts, and the index of this host."""
    try:
        address, count, index = (variables[name] for name in VARIABLES)
        name, port = address.split(",")[0].rsplit(":", 1)
        port, count, index = int(port), int(count), int(index)
        if not (0 < port < 65536 and 0 <= index < count):
            raise ValueError("out of range")
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"Expected {VARIABLES[0]} (host 0, such as 10.0.0.1:1234), {VARIABLES[1]} (number of hosts) and "
            f"{VARIABLES[2]} (0 to number of hosts - 1). Received: {variables}"
        ) from error
    return name, port, count, index


def host_count():
    """Returns the number of hosts that train together."""
    return jax.process_count() if jax else 1


def host_index():
    """Returns the index of this host, from 0. Host 0 writes the run's files."""
    return jax.process_index() if jax else 0


def device_count():
    """Returns the number of devices that train together, over all hosts: GPUs, or CPUs if there are none."""
    return len(_device_names())


def _device_names():
    if jax:
        return keras.distribution.list_devices()
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name for device in devices]


def over_all_devices(model):
    """Returns a copy of a model that trains on all devices; on a single device, the model itself.

    Each device has all weights and gets an equal share of each batch. Batch normalisation uses the
    statistics of the whole batch. The gradients of all devices are added up and then clipped.

    Args:
        model: a compiled Keras model, not yet trained.
    """
    if device_count() == 1:
        return model
    if jax:
        # Keras must not divide a batch: each host loads only its own share.
        keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
        return _copy(model, model.get_weights())
    tf.get_logger().setLevel("WARNING")  # at INFO, it logs every all-reduce of gradients
    with tf.distribute.MirroredStrategy(_device_names()).scope():
        copy = _copy(model, model.get_weights())
    _clip_after_sum(copy.optimizer, device_count())
    return copy


class ReplicaCTCLayer(CTCLayer):
    """A `CTCLayer` for TensorFlow's replicas.

    Replicas share a layer and its list of losses. Batch normalisation makes
    them wait for each other within a call of the model, so the second replica
    finds the loss of the first in the list. It is subtracted here.
    """

    def add_loss(self, loss):
        super().add_loss(loss - sum(self.losses))


def on_one_device(model):
    """Returns a copy of a trained model on a single device of each host, and disconnects the hosts.

    If there is only one device, returns the model itself.
    """
    if device_count() == 1:
        return model
    weights = model.get_weights()
    if jax:
        keras.distribution.set_distribution(None)
        if host_count() > 1:
            jax.distributed.shutdown()
    return _copy(model, weights)


def _copy(model, weights):
    """Copies a model, and compiles the copy if the model is compiled."""
    copy = keras.models.clone_model(model, clone_function=_copy_layer)
    copy.set_weights(weights)
    return copy


def _copy_layer(layer):
    replicas, config = tf.distribute.has_strategy(), layer.get_config()
    if isinstance(layer, CTCLayer):
        return (ReplicaCTCLayer if replicas else CTCLayer)(name=layer.name)
    if isinstance(layer, keras.layers.BatchNormalization):
        config["synchronized"] = replicas  # whether it uses the whole batch; on JAX, it always does
    return layer.__class__.from_config(config)


def _clip_after_sum(optimizer, replicas):
    """Makes an optimizer clip the sum of the replicas' gradients.

    Keras clips the gradients of each replica before summing them, which gives a
    different result than on one device. Here, each replica gets the mean of all gradients,
    clipped to the norm divided by the number of replicas. Keras adds these up.
    """
    apply = optimizer.apply

    def apply_to_mean(grads, trainable_variables=None):
        mean = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, grads)
        return apply(mean, trainable_variables)

    optimizer.apply = apply_to_mean
    if optimizer.global_clipnorm is not None:
        optimizer.global_clipnorm /= replicas


def pad_order(order, repeat):
    """Pads the indices of images to a multiple of the number of devices.

    Args:
        order: the indices of the images, integers of shape `(images,)`.
        repeat: whether the first images are repeated, as for training. Otherwise, the padding is `-1 - i`,
            where `i` is the first index, for rows with that image and without a label.
    """
    total = -(-len(order) // device_count()) * device_count()
    if repeat:
        return np.resize(order, total)
    return np.pad(order, (0, total - len(order)), constant_values=-1 - order[0])


def require_same(facts):
    """Checks that all hosts pass the same dictionary of JSON values.

    Raises:
        ValueError: on every host, if values differ; the message lists them.
    """
    if host_count() == 1:
        return
    found = [json.loads(content) for content in _gather(json.dumps(facts).encode())]
    problem = ""
    for name in sorted(set().union(*found)):
        values = [host.get(name) for host in found]
        if any(value != values[0] for value in values):
            listed = (f"{value!r} on host {index}" for index, value in enumerate(values))
            problem += f"\n  {name}: {', '.join(listed)}"
    if problem:
        raise ValueError(f"Expected the same settings and versions on all hosts. These differ:{problem}")


def broadcast(content):
    """Returns, on every host, the bytes that host 0 passed."""
    return content if host_count() == 1 else _gather(content if host_index() == 0 else b"")[0]


def _gather(content):
    """Returns the bytes of all hosts, a list in the order of the hosts."""
    sizes = multihost_utils.process_allgather(np.array([len(content)], "int32"))  # (hosts, 1)
    padded = np.zeros(int(sizes.max()), "uint8")
    padded[: len(content)] = np.frombuffer(content, "uint8")
    rows = multihost_utils.process_allgather(padded)  # (hosts, bytes)
    return [row[: int(size)].tobytes() for row, size in zip(rows, sizes.ravel(), strict=True)]
