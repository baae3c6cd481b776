"""Training on several devices of one machine.

TensorFlow uses all GPUs (`tf.distribute.MirroredStrategy`); JAX uses all devices (`DataParallel`). They share
each batch, so the training is equivalent on any number, apart from the random numbers of dropout and
augmentation.
"""

import keras
import numpy as np
import tensorflow as tf

from CTCLayer import CTCLayer

ON_JAX = keras.backend.backend() == "jax"


def describe(batch_size):
    """Returns a line that describes the devices. Call this before Keras computes anything.

    Raises ValueError if the devices cannot share a batch of `batch_size` images equally.
    """
    if ON_JAX:
        tf.config.set_visible_devices([], "GPU")  # TensorFlow only prepares the data
    count = device_count()
    if batch_size % count:
        raise ValueError(f"Expected batch_size to be a multiple of {count} (devices). Received: {batch_size}")
    kind = _device_names()[0].split(":")[-2].upper()  # "cpu:0" and "/device:CPU:0" give "CPU"
    kind = f"({'JAX' if ON_JAX else 'TensorFlow'}, {kind})"
    if count == 1:
        return f"training on 1 device {kind}"
    return f"training on {count} devices {kind}; {batch_size // count} images of each batch per device"


def device_count():
    """Returns the number of devices that train together: GPUs, or CPUs if there are none."""
    return len(_device_names())


def _device_names():
    if ON_JAX:
        return keras.distribution.list_devices()
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name for device in devices]


def over_all_devices(model):
    """Returns a copy of a compiled, untrained model that trains on all devices; on one device, the model
    itself.

    Batch normalisation uses the whole batch's statistics. The gradients of all devices are summed, then
    clipped.
    """
    if device_count() == 1:
        return model
    if ON_JAX:
        keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
        return _copy(model, model.get_weights())
    tf.get_logger().setLevel("WARNING")  # at INFO, it logs every all-reduce of gradients
    with tf.distribute.MirroredStrategy(_device_names()).scope():
        copy = _copy(model, model.get_weights())
    _clip_after_sum(copy.optimizer, device_count())
    return copy


class ReplicaCTCLayer(CTCLayer):
    """A `CTCLayer` for TensorFlow's replicas, which share a layer and its list of losses.

    The second replica finds the loss of the first in the list. It is subtracted here.
    """

    def add_loss(self, loss):
        super().add_loss(loss - sum(self.losses))


def on_one_device(model):
    """Returns a copy of a trained model on a single device; if there is only one, the model itself."""
    if device_count() == 1:
        return model
    weights = model.get_weights()
    if ON_JAX:
        keras.distribution.set_distribution(None)
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
    """Makes an optimizer clip the sum of the replicas' gradients. Keras clips them before summing.

    Each replica gets the mean of all gradients, clipped to a share of the norm. Keras adds these up.
    """
    apply = optimizer.apply

    def apply_to_mean(grads, trainable_variables=None):
        mean = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, grads)
        return apply(mean, trainable_variables)

    optimizer.apply = apply_to_mean
    if optimizer.global_clipnorm is not None:
        optimizer.global_clipnorm /= replicas


def pad_order(order, repeat):
    """Pads the indices of images, of shape `(images,)`, to a multiple of the number of devices.

    With `repeat`, as in training, the first images are repeated. Otherwise, the padding is `-1 - i`, for rows
    with image `i`, the first one, and no label.
    """
    total = -(-len(order) // device_count()) * device_count()
    if repeat:
        return np.resize(order, total)
    return np.pad(order, (0, total - len(order)), constant_values=-1 - order[0])
