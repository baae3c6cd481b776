"""Training on several devices of one host, or of several hosts, with the engines that Keras has for it.

On TensorFlow, several GPUs of one host train under `tf.distribute.MirroredStrategy`. On JAX
(`KERAS_BACKEND=jax`), the devices of one host or of several train under `keras.distribution.DataParallel`.
A host of several is told who it is by the three variables of `keras.distribution.initialize`:
`KERAS_DISTRIBUTION_JOB_ADDRESSES` (address and port of the first host), `KERAS_DISTRIBUTION_NUM_PROCESSES`
and `KERAS_DISTRIBUTION_PROCESS_ID` (from 0).

The batch is that of all devices together, and is divided among them: its size, the learning rate and, but for
dropout, the course of the training stay those of a single device.
"""

import json
import os
import socket

import keras
import numpy as np

from CTCLayer import CTCLayer
from snippet_ocr.terminal import report

VARIABLES = tuple(f"KERAS_DISTRIBUTION_{name}" for name in ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID"))

CONNECT_TIMEOUT = 60
"""Seconds that hosts wait for each other at the start."""


def connect(batch_size):
    """Connects this host to the others, if there are others, and says what the training will run on.

    To be called before Keras computes anything. Called again, it changes nothing.

    Args:
        batch_size: the size of the batch, which is divided among all devices.

    Returns:
        A line that says what the training will run on.

    Raises:
        ValueError: if the hosts cannot find each other, or if the batch cannot
            be divided.
    """
    given = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    if given:
        _connect_hosts(given)
    if keras.backend.backend() == "jax":
        import tensorflow as tf

        tf.config.set_visible_devices([], "GPU")  # TensorFlow feeds, and no more
    count = devices()
    if count % hosts():
        raise ValueError(f"Expected as many devices on each of {hosts()} hosts. Found {count} in all.")
    if batch_size % count:
        raise ValueError(
            f"Expected a batch_size that {count} devices can share equally. Received: {batch_size}"
        )
    if count == 1:
        return f"trains on one device, with {keras.backend.backend()}"
    where = f" of {hosts()} hosts, of which this is number {host()}" if hosts() > 1 else ""
    share = f"{batch_size // count} images of each batch per device"
    return f"trains on {count} devices{where}, with {keras.backend.backend()}: {share}"


def _connect_hosts(given):
    """Connects the hosts through JAX, within `CONNECT_TIMEOUT` seconds."""
    if keras.backend.backend() != "jax":
        raise ValueError(f"Expected KERAS_BACKEND=jax for several hosts. Found {keras.backend.backend()}.")
    import jax

    if jax.distributed.is_initialized():
        return
    try:
        address, count, number = (given[name] for name in VARIABLES)
        name, port = address.split(",")[0].rsplit(":", 1)
        count, number, port = int(count), int(number), int(port)
        assert 0 <= number < count and 0 < port < 65536
    except (KeyError, ValueError, AssertionError) as error:
        raise ValueError(
            f"Expected {VARIABLES[0]} (such as 10.0.0.1:1234, the first host), {VARIABLES[1]} and "
            f"{VARIABLES[2]}, from 0 to one less than their number. Received: {given}"
        ) from error
    try:
        socket.getaddrinfo(name, port)
        if number == 0:
            socket.create_server(("", port)).close()
    except OSError as error:
        raise ValueError(
            f"Expected {VARIABLES[0]} to be the address of host 0 and a free port on it. "
            f"Host {number} cannot use {address}: {error}"
        ) from error
    # Where a host is missing, JAX ends the process with a trace of its own code. This line explains it.
    report(
        f"host {number} of {count} connects to {name}:{port}. If this process ends within {CONNECT_TIMEOUT} s, "
        f"a host is missing, the address is wrong or not reachable, or the hosts disagree on {VARIABLES[1]}."
    )
    # `keras.distribution.initialize` does the same, but waits for five minutes.
    jax.distributed.initialize(f"{name}:{port}", count, number, initialization_timeout=CONNECT_TIMEOUT)
    # The first exchange has a timeout of 30 s; later ones wait for the slowest host to check its images.
    _gather(b"")


def hosts():
    """The number of hosts that train together."""
    if keras.backend.backend() != "jax":
        return 1
    import jax

    return jax.process_count()


def host():
    """This host's number among them, from 0. The first one writes what the training leaves."""
    if keras.backend.backend() != "jax":
        return 0
    import jax

    return jax.process_index()


def devices():
    """The number of devices that train together, on all hosts: accelerators, or CPUs where there are none."""
    if keras.backend.backend() == "jax":
        return len(keras.distribution.list_devices())
    return len(_tensorflow_devices())


def _tensorflow_devices():
    import tensorflow as tf

    kinds = (tf.config.list_logical_devices(kind) for kind in ("GPU", "CPU"))
    return [device.name for device in next(filter(None, kinds))]


def over_all_devices(model):
    """Spreads a model over all devices, to be trained there.

    Each device holds all weights and takes an equal share of each batch; the
    gradients are added up. Batch normalisation takes its statistics over the
    whole batch, and the length at which gradients are cut is that of their
    sum: so any number of devices trains as one does, and a run may go on with
    another number of them.

    Args:
        model: a compiled Keras model, not trained yet.

    Returns:
        A compiled copy of it; with a single device, the model itself.
    """
    if devices() == 1:
        return model
    if keras.backend.backend() == "jax":
        # Each host makes its own share of a batch, so Keras need not divide it.
        keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
        return _compiled_copy(model)
    import tensorflow as tf

    tf.get_logger().setLevel("WARNING")  # it would report every gradient that is added up
    with tf.distribute.MirroredStrategy(_tensorflow_devices()).scope():
        spread = _compiled_copy(model)
    _synchronise(spread, True)
    _add_up_before_clipping(spread.optimizer, devices())
    return spread


class ReplicaCTCLayer(CTCLayer):
    """A `CTCLayer` that one replica after the other passes through.

    Keras forgets a layer's losses when a model is called. Where replicas wait
    for each other within a call, as they do to normalise a batch, the second
    one would find the loss of the first beside its own: here that is taken off.
    """

    def add_loss(self, loss):
        super().add_loss(loss - sum(self.losses))


def on_one_device(model):
    """Brings a trained model back to one device of each host; the hosts then go on by themselves.

    Args:
        model: what `over_all_devices` gave.

    Returns:
        A copy of it that is not compiled; with a single device, the model itself.
    """
    if devices() == 1:
        return model
    weights = model.get_weights()
    if keras.backend.backend() == "jax":
        keras.distribution.set_distribution(None)
        if hosts() > 1:
            import jax

            jax.distributed.shutdown()
    alone = keras.models.clone_model(model, clone_function=_copy_layer)
    alone.set_weights(weights)
    _synchronise(alone, False)
    return alone


def _compiled_copy(model):
    copy = keras.models.clone_model(model, clone_function=_copy_layer)
    copy.set_weights(model.get_weights())
    copy.compile_from_config(model.get_compile_config())
    return copy


def _copy_layer(layer):
    import tensorflow as tf

    if isinstance(layer, CTCLayer):
        return (ReplicaCTCLayer if tf.distribute.has_strategy() else CTCLayer)(name=layer.name)
    return layer.__class__.from_config(layer.get_config())


def _synchronise(model, synchronized):
    """Whether batch normalisation takes its statistics over all replicas of TensorFlow; JAX always does."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = synchronized


def _add_up_before_clipping(optimizer, replicas):
    """Has an optimizer cut the length of the sum of the replicas' gradients.

    Keras cuts each replica's own before it adds them up, which is another
    training. Here each replica gets their mean, cut at an equal share of the
    length; Keras then adds up as many of those as there are replicas.
    """
    import tensorflow as tf

    apply = optimizer.apply

    def apply_to_mean(grads, trainable_variables=None):
        mean = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, grads)
        return apply(mean, trainable_variables)

    optimizer.apply = apply_to_mean
    if optimizer.global_clipnorm is not None:
        optimizer.global_clipnorm /= replicas


def pad_order(order, repeat):
    """Fills up the images of an epoch, so that all devices get as many.

    Args:
        order: an integer tensor of shape `(images,)`.
        repeat: whether the first images fill it up, for training; or else -1
            does, which stands for no image.

    Returns:
        An integer tensor whose length is a multiple of the number of devices.
    """
    import tensorflow as tf

    images = order.shape[0]
    total = -(-images // devices()) * devices()
    if repeat:
        return tf.gather(order, tf.range(total) % images)
    return tf.concat([order, tf.fill([total - images], -1)], axis=0)


def local_share(batch):
    """The part of a batch that this host feeds to its devices.

    Args:
        batch: a tensor of shape `(batch, …)`, of which each host has the same.

    Returns:
        A tensor of shape `(batch / hosts, …)`.
    """
    import tensorflow as tf

    share = tf.shape(batch)[0] // hosts()
    return batch[host() * share : (host() + 1) * share]


def require_same(facts):
    """Makes sure that all hosts train the same thing.

    Args:
        facts: a dictionary that JSON can hold, the same on each host.

    Raises:
        ValueError: on every host, if a fact differs; it names the facts.
    """
    if hosts() == 1:
        return
    found = [json.loads(content) for content in _gather(json.dumps(facts).encode())]
    differing = [
        name for name in set().union(*found) if len({json.dumps(one.get(name)) for one in found}) > 1
    ]
    if differing:
        lines = ["Expected the same on all hosts. They differ:"]
        for name in sorted(differing):
            values = (f"{one.get(name)!r} on host {number}" for number, one in enumerate(found))
            lines.append(f"  {name}: {', '.join(values)}")
        raise ValueError("\n".join(lines))


def broadcast(content):
    """Gives every host the bytes that the first one has.

    Args:
        content: bytes; those of the other hosts are left aside.

    Returns:
        The bytes of host 0.
    """
    return content if hosts() == 1 else _gather(content if host() == 0 else b"")[0]


def _gather(content):
    """Gives every host the bytes of each, a list in the order of the hosts."""
    from jax.experimental import multihost_utils

    sizes = multihost_utils.process_allgather(np.array([len(content)], "int32"))
    filled = np.zeros(int(sizes.max()), "uint8")
    filled[: len(content)] = np.frombuffer(content, "uint8")
    rows = multihost_utils.process_allgather(filled)
    return [row[: int(size)].tobytes() for row, size in zip(rows, sizes.ravel(), strict=True)]
