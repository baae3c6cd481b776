"""What a reader's file may hold: files from strangers are data, not code.

A reader is a row of a few kinds of layers, with as many weights as the layers
declare. Whatever else a file holds (code, a class from elsewhere, a link to
another file, a shape that would fill the memory) is refused before anything
is built of it.
"""

import functools
import io
import json
import math
import os
import struct
import zipfile
import zlib
from pathlib import Path

MEMBERS = {
    "metadata.json": 100_000,
    "config.json": 2_000_000,
    "reader.json": 2_000_000,
    "model.weights.h5": 500_000_000,
}
"""What a Keras archive of a reader consists of, and the most bytes that each may have, unpacked."""

MAX_ONNX_BYTES = 500_000_000
"""Bytes."""

DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, OSError, RuntimeError)
"""What zipfile raises on damaged archives."""

MAX_VALUES = 2**28
"""The most values that a layer may give for one image: 1 GB of them."""

MAX_DIMENSION = 2**16
"""Of filters, units, and the sizes of kernels."""

INITIALIZERS = (
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Ones",
    "Orthogonal",
    "Zeros",
)


def check_keras(path):
    """Checks a Keras archive before Keras opens it.

    Args:
        path: the file.

    Returns:
        The bytes of its member `reader.json`.

    Raises:
        ValueError: if it holds anything that a reader does not need, or if its
            weights are not those that its layers declare. The message is the
            reason, without the path.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sorted(member.filename for member in members) != sorted(MEMBERS):
                found = ", ".join(repr(member.filename[:50]) for member in members[:8])
                raise ValueError(f"expected the members {', '.join(MEMBERS)}; found {found}")
            for member in members:
                most = MEMBERS[member.filename]
                if member.file_size > most:
                    raise ValueError(
                        f"{member.filename} has {member.file_size:,} bytes; at most {most:,} are allowed"
                    )
            config, description = (archive.read(name) for name in ("config.json", "reader.json"))
            stored = _stored_shapes(archive.read("model.weights.h5"))
    except DAMAGED as error:
        raise ValueError(f"it is no whole archive: {error}") from error
    declared = declared_shapes(config)
    if sorted(declared) != sorted(stored):
        different = sorted(set(declared) ^ set(stored))[:4] or "as many of each"
        raise ValueError(f"its layers declare other weights than are stored: {different}")
    return description


def declared_shapes(config):
    """The shapes of the weights that the layers of a Keras model declare.

    Args:
        config: the bytes of the archive's `config.json`.

    Returns:
        A list of tuples of integers.

    Raises:
        ValueError: if the model is not a row of layers that a reader may have.
    """
    try:
        model = json.loads(config)
        _check_classes(model)
        layers = model["config"]["layers"]
        (first, *others) = layers
        none, *shape = first["config"]["batch_shape"]
        if first["class_name"] != "InputLayer" or none is not None or len(shape) != 3:
            raise ValueError("expected an InputLayer of images first")
        shape = tuple(map(_number, shape))
        weights = []
        for before, layer in zip(layers, others, strict=False):
            (node,) = layer["inbound_nodes"]
            (tensor,) = node["args"]
            if tensor["config"]["keras_history"] != [before["name"], 0, 0]:
                raise ValueError(f"expected layers in one row; {layer['name']!r:.50} is not in it")
            _check_build(layer, shape)
            of_layer, shape = LAYERS[layer["class_name"]](layer["config"], shape)
            weights += of_layer
            if min(shape) < 1 or math.prod(shape) > MAX_VALUES:
                raise ValueError(f"the layer {layer['name']!r:.50} gives values of the absurd shape {shape}")
        if len(shape) != 2:
            raise ValueError(f"expected logits of shape (steps, classes); found {shape}")
        return weights
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"config.json describes no reader: {type(error).__name__} {error}") from error


def _check_classes(node):
    """Refuses every object in a configuration that is not of a class that a reader needs."""
    if isinstance(node, dict):
        if "class_name" in node:
            name, module, registered = (node.get(key) for key in ("class_name", "module", "registered_name"))
            if name not in CLASSES.get(module, ()) or registered not in (None, name):
                known = ", ".join(LAYERS)
                raise ValueError(f"{name!r:.80} of {module!r:.80} is not accepted; layers may be {known}")
        node = list(node.values())
    if isinstance(node, list):
        for inner in node:
            _check_classes(inner)


def _check_build(node, shape):
    """Checks the shape that Keras would build a layer, and those in it, for."""
    if isinstance(node, dict):
        if node.get("build_config") not in (None, {"input_shape": [None, *shape]}):
            raise ValueError(
                f"the layer {node.get('name')!r:.50} is to be built for another shape than {shape}"
            )
        for inner in node.values():
            _check_build(inner, shape)


def _number(value):
    if type(value) is not int or not 1 <= value <= MAX_DIMENSION:
        raise ValueError(f"expected a whole number from 1 to {MAX_DIMENSION:,}; found {value!r:.50}")
    return value


# Each takes a layer's configuration and the shape of what it is given, without the batch, and
# returns the shapes of its weights, and the shape of what it gives.


def _same(config, shape):
    return [], shape


def _window_output_size(config, shape, window):
    """The shape of what a window gives that slides over the first two axes."""
    if config["padding"] not in ("same", "valid") or config["data_format"] != "channels_last":
        raise ValueError("expected the padding same or valid, and channels last")
    width, height, _ = shape
    strides = map(_number, config["strides"])
    return tuple(
        -(-size // stride) if config["padding"] == "same" else (size - width) // stride + 1
        for size, width, stride in zip((width, height), window, strides, strict=True)
    )


def _convolution(config, shape):
    if config["groups"] != 1 or config["dilation_rate"] != [1, 1]:
        raise ValueError("expected a convolution without groups and dilation")
    kernel, filters = tuple(map(_number, config["kernel_size"])), _number(config["filters"])
    biases = [(filters,)] if config["use_bias"] else []
    return [(*kernel, shape[-1], filters), *biases], (*_window_output_size(config, shape, kernel), filters)


def _pooling(config, shape):
    return [], (*_window_output_size(config, shape, tuple(map(_number, config["pool_size"]))), shape[-1])


def _batch_normalisation(config, shape):
    _check_axis(config, shape)
    return [shape[-1:]] * (2 + bool(config["center"]) + bool(config["scale"])), shape


def _layer_normalisation(config, shape):
    _check_axis(config, shape)
    return [shape[-1:]] * (bool(config["center"]) + bool(config["scale"])), shape


def _check_axis(config, shape):
    if config["axis"] not in (-1, [-1], len(shape), [len(shape)]):
        raise ValueError("expected a normalisation of the last axis")


def _reshape(config, shape):
    target = tuple(map(_number, config["target_shape"]))
    if math.prod(target) != math.prod(shape):
        raise ValueError(f"expected a reshape of as many values; found {shape} to {target}")
    return [], target


def _dense(config, shape):
    units = _number(config["units"])
    return [(shape[-1], units)] + [(units,)] * bool(config["use_bias"]), (*shape[:-1], units)


def _bidirectional(config, shape):
    weights, features = [], 0
    for direction in (config["layer"], config["backward_layer"]):
        inner, units = direction["config"], _number(direction["config"]["units"])
        gates = {"GRU": 3, "LSTM": 4}[direction["class_name"]]
        weights += [(shape[-1], gates * units), (units, gates * units)]
        if inner["use_bias"]:
            weights.append((2, gates * units) if inner.get("reset_after") else (gates * units,))
        if not inner["return_sequences"] or inner["return_state"] or inner["stateful"] or inner["unroll"]:
            raise ValueError("expected a recurrent layer that returns its sequence, and no more")
        features += units
    if config["merge_mode"] != "concat":
        raise ValueError("expected a Bidirectional layer that concatenates")
    return weights, (*shape[:-1], features)


LAYERS = {
    "InputLayer": _same,
    "Conv2D": _convolution,
    "MaxPooling2D": _pooling,
    "AveragePooling2D": _pooling,
    "BatchNormalization": _batch_normalisation,
    "LayerNormalization": _layer_normalisation,
    "Activation": _same,
    "Reshape": _reshape,
    "Dense": _dense,
    "Dropout": _same,
    "Bidirectional": _bidirectional,
}
"""The layers that a reader may have."""

CLASSES = {
    "keras.layers": (*LAYERS, "GRU", "LSTM"),
    "keras.initializers": INITIALIZERS,
    "keras": ("DTypePolicy",),
    "keras.src.models.functional": ("Functional",),
    None: ("__keras_tensor__",),
}
"""The classes of Keras's configurations that are accepted, by their module."""


def _stored_shapes(content):
    """The shapes of the weights in a file of Keras.

    Args:
        content: the bytes of `model.weights.h5`.

    Returns:
        A list of tuples of integers.

    Raises:
        ValueError: if the file is damaged, or takes anything from another file.
    """
    import h5py  # comes with Keras, which reading from ONNX lives without

    shapes, wrong = [], []

    def look(name, item):
        if isinstance(item, h5py.Dataset):
            shapes.append(item.shape)
            if item.external or item.is_virtual or item.dtype != "float32":
                wrong.append(name)

    def look_at_link(name, link):
        if not isinstance(link, h5py.HardLink):
            wrong.append(name)

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            file.visititems_links(look_at_link)
            file.visititems(look)
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"model.weights.h5 is damaged: {error}") from error
    if wrong:
        raise ValueError(f"expected the weights {wrong[0]!r:.80} to be stored in it, as float32")
    if 4 * sum(map(math.prod, shapes)) > len(content):
        raise ValueError("model.weights.h5 declares more weights than it holds")
    return shapes


OPERATIONS = {
    *("Add", "AveragePool", "Conv", "GRU", "LayerNormalization", "LogSoftmax"),
    *("MatMul", "MaxPool", "Mul", "Relu", "Reshape", "Squeeze", "Transpose"),
}
"""The operations of an ONNX reader: those that `tools.export` writes."""

ATTRIBUTES = {
    *("auto_pad", "axis", "dilations", "direction", "epsilon"),
    *("hidden_size", "kernel_shape", "linear_before_reset", "perm", "strides"),
}
"""Their attributes."""

BYTES_OF_TYPE = {1: 4, 7: 8}
"""Of ONNX's data types: float32 and int64."""


def check_onnx(path):
    """Checks an ONNX model before onnxruntime opens it.

    Args:
        path: the file.

    Returns:
        The bytes of the file.

    Raises:
        ValueError: if it holds anything that a reader does not need. The
            message is the reason, without the path.
    """
    size = os.path.getsize(path)
    if size > MAX_ONNX_BYTES:
        raise ValueError(f"it has {size:,} bytes; at most {MAX_ONNX_BYTES:,} are allowed")
    content = Path(path).read_bytes()
    model = _onnx_message("Model")()
    try:
        model.ParseFromString(content)
    except Exception as error:  # protobuf's own kind, which has no public name
        raise ValueError(f"it is no ONNX model: {error}") from error
    if model.functions or model.training_info or model.graph.sparse_initializer:
        raise ValueError("it defines functions, training or sparse weights")
    for node in model.graph.node:
        if node.op_type not in OPERATIONS or node.domain not in ("", "ai.onnx"):
            raise ValueError(
                f"the operation {node.op_type!r:.80} of {node.domain!r:.80} is not accepted; "
                f"operations may be {', '.join(sorted(OPERATIONS))}"
            )
        unknown = [one.name for one in node.attribute if one.name not in ATTRIBUTES or one.t or one.g]
        if unknown:
            raise ValueError(f"the attribute {unknown[0]!r:.80} of {node.op_type} is not accepted")
    for tensor in model.graph.initializer:
        size = math.prod(tensor.dims) * BYTES_OF_TYPE.get(tensor.data_type, -1)
        if tensor.external_data or tensor.data_location or size != len(tensor.raw_data):
            raise ValueError(f"the weights {tensor.name!r:.80} are not stored in it, or not as declared")
    for value in model.graph.input:
        sizes = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        if len(sizes) != 4 or math.prod(sizes[1:]) > MAX_VALUES or max(sizes) > MAX_DIMENSION:
            raise ValueError(f"it takes images of the absurd shape {sizes}")
    return content


ONNX_FIELDS = {
    "Model": {"graph": (7, "Graph"), "training_info": (20, "*bytes"), "functions": (25, "*bytes")},
    "Graph": {
        "node": (1, "*Node"),
        "initializer": (5, "*Tensor"),
        "sparse_initializer": (15, "*bytes"),
        "input": (11, "*Value"),
    },
    "Node": {"op_type": (4, "string"), "domain": (7, "string"), "attribute": (5, "*Attribute")},
    "Attribute": {"name": (1, "string"), "t": (5, "*bytes"), "g": (6, "*bytes")},
    "Tensor": {
        "dims": (1, "*int64"),
        "data_type": (2, "int32"),
        "name": (8, "string"),
        "raw_data": (9, "bytes"),
        "external_data": (13, "*bytes"),
        "data_location": (14, "int32"),
    },
    "Value": {"type": (2, "Type")},
    "Type": {"tensor_type": (1, "TensorType")},
    "TensorType": {"shape": (2, "Shape")},
    "Shape": {"dim": (1, "*Dimension")},
    "Dimension": {"dim_value": (1, "int64")},
}
"""The part of ONNX's messages (https://onnx.ai/onnx/repo-docs/IR.html) that is checked: number and
type of each field, a star for repeated ones. The package onnx knows them all, but reading has to
live without it; protobuf comes with onnxruntime."""


@functools.cache
def _onnx_message(name):
    """The protobuf class of a message in `ONNX_FIELDS`."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="reader.proto", package="reader", syntax="proto2")
    for message, fields in ONNX_FIELDS.items():
        described = file.message_type.add(name=message)
        for field, (number, kind) in fields.items():
            label = kinds.LABEL_REPEATED if kind.startswith("*") else kinds.LABEL_OPTIONAL
            added = described.field.add(name=field, number=number, label=label)
            kind = kind.removeprefix("*")
            if kind in ONNX_FIELDS:
                added.type, added.type_name = kinds.TYPE_MESSAGE, f".reader.{kind}"
            else:
                added.type = getattr(kinds, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"reader.{name}"))
