"""Checks a reader's file before it is loaded, so that an untrusted file cannot run code.

A Keras file may contain a chain of layers of a few types, with exactly the weights that they declare. An
ONNX file may contain a few operations, with all weights in the file. Everything else (code, other classes,
links to other files, very large inputs) is refused before the model is built.
"""

import functools
import io
import json
import math
import re
import struct
import zipfile
import zlib
from pathlib import Path

FORMAT = 2  # of readers; a change that earlier versions cannot read increases it
DESCRIPTION = "reader.json"  # the metadata: a member of the Keras archive, or an entry in the ONNX model's
MAX_ONNX_BYTES = 500_000_000
MAX_VALUES = 2**28  # in the output of a layer for one image: 1 GB as float32
MAX_DIMENSION = 2**16  # of a filter count, a unit count, a kernel size or an axis

MEMBERS = {
    "metadata.json": 100_000,
    "config.json": 2_000_000,
    DESCRIPTION: 2_000_000,
    "model.weights.h5": 500_000_000,
}
"""The members of a reader's Keras archive, and their maximum sizes in bytes, uncompressed."""

ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError)
"""The exceptions that zipfile raises for damaged archives."""


def check_keras(path):
    """Checks a Keras archive before Keras opens it; returns the reader's metadata, as parsed from JSON.

    Raises:
        ValueError: if the archive contains anything that a reader does not need, or if its weights do not
            match its layers. The message is the reason, without the path.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members([(member.filename, member.file_size) for member in archive.infolist()])
            description, width = _parse_description(archive.read(DESCRIPTION))
            config, stored = archive.read("config.json"), _stored_shapes(archive.read("model.weights.h5"))
    except ZIP_ERRORS as error:
        raise ValueError(f"it is not a complete archive: {error}") from error
    declared = declared_shapes(config, width)
    if sorted(declared) != sorted(stored):
        different = sorted(set(declared) ^ set(stored))[:4] or "their number"
        raise ValueError(f"its weights do not match its layers; the shapes that differ: {different}")
    return description


def _parse_description(content):
    """Parses a reader's metadata (bytes of JSON); returns it and a bound on the width of images."""
    try:
        description = json.loads(content)
        found, widths = description.get("format"), description.get("widths")
    except (ValueError, RecursionError, AttributeError) as error:
        raise ValueError(f"its {DESCRIPTION} is missing or is not JSON: {error}") from error
    if found != FORMAT:
        remedy = "Version 1.0 wrote format 1: read such a file with that version, or train again"
        raise ValueError(f"it has format {found!r:.20}, but this version reads format {FORMAT}. {remedy}")
    if not isinstance(widths, list) or not widths or list(map(_number, widths)) != sorted(set(widths)):
        raise ValueError(f"its widths are not an ascending list of whole numbers: {widths!r:.80}")
    return description, len(widths) * widths[-1]  # a reader prepares a batch of each width at once


def _check_members(members):
    """Checks the names and uncompressed sizes of an archive's members, before any is read."""
    if sorted(name for name, _ in members) != sorted(MEMBERS):
        found = ", ".join(repr(name[:50]) for name, _ in members[:8])
        raise ValueError(f"expected the members {', '.join(MEMBERS)}; found {found}")
    for name, size in members:
        if size > MEMBERS[name]:
            raise ValueError(f"{name} has {size:,} bytes; at most {MEMBERS[name]:,} are allowed")


def declared_shapes(config, width):
    """Returns the shapes of the weights that a Keras `config.json` (bytes) declares, as a list of tuples.

    Raises:
        ValueError: if it is not a chain of layers that a reader may have, within bounds at the given width.
    """
    try:
        model = json.loads(config)
        _check_classes(model)
        layers = model["config"]["layers"]
        (first, *others) = layers
        batch, *shape = first["config"]["batch_shape"]
        found = first["class_name"], batch, shape[1:], first["config"]["dtype"]
        if found != ("InputLayer", None, [None], "uint8"):
            raise ValueError("expected an InputLayer of uint8 images of any width first")
        shape = _number(shape[0]), width  # of one image: shapes below have no batch axis
        weights = []
        for previous, layer in zip(layers, others, strict=False):
            _check_input(layer, previous["name"], shape)
            layer_weights, shape = LAYERS[layer["class_name"]](layer["config"], shape)
            weights += layer_weights
            if min(shape) < 1 or math.prod(shape) > MAX_VALUES:
                raise ValueError(f"layer {layer['name']!r:.50} has an output shape out of bounds: {shape}")
        if len(shape) != 2:
            raise ValueError(f"expected logits of shape (steps, classes); found {shape}")
        return weights
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"config.json does not describe a reader: {type(error).__name__} {error}") from error


def _check_classes(node):
    """Checks that a configuration names only classes and activations that a reader needs."""
    if isinstance(node, dict):
        for name in (node.get("activation"), node.get("recurrent_activation")):
            if name not in ACTIVATIONS:
                raise ValueError(f"the activation {name!r:.80} is not accepted")
        if "class_name" in node:
            name, module, registered = (node.get(key) for key in ("class_name", "module", "registered_name"))
            if name not in CLASSES.get(module, ()) or registered not in (None, name):
                allowed = ", ".join(LAYERS)
                raise ValueError(f"{name!r:.80} of {module!r:.80} is not accepted; layers may be {allowed}")
        node = list(node.values())
    if isinstance(node, list):
        for inner in node:
            _check_classes(inner)


def _check_input(layer, previous, shape):
    """Checks that the input of a layer is the output of the previous layer, by name and shape."""
    (node,) = layer["inbound_nodes"]
    (tensor,) = node["args"]
    if tensor["config"]["keras_history"] != [previous, 0, 0]:
        raise ValueError(f"expected a chain of layers; {layer['name']!r:.50} breaks it")
    _check_build(layer, shape)


def _check_build(node, shape):
    """Checks the shape for which Keras would build a layer and the layers inside it; None is a free axis."""
    if isinstance(node, dict):
        expected = [None, *shape]
        built = (node.get("build_config") or {"input_shape": expected})["input_shape"]
        same = [size in (None, own) for size, own in zip(built, expected, strict=False)]
        if len(built) != len(expected) or not all(same):
            raise ValueError(f"the build_config of {node.get('name')!r:.50} has another shape than {shape}")
        for inner in node.values():
            _check_build(inner, shape)


def _number(value):
    if type(value) is not int or not 1 <= value <= MAX_DIMENSION:
        raise ValueError(f"expected a whole number from 1 to {MAX_DIMENSION:,}; found {value!r:.50}")
    return value


# One function per type of layer. Each takes the layer's configuration and input shape, and returns a tuple:
# the shapes of its weights (a list) and its output shape.


def _same_shape(config, shape):
    return [], shape


def _convolution(config, shape):
    if config["groups"] != 1 or config["dilation_rate"] != [1, 1]:
        raise ValueError("expected a convolution without groups and dilation")
    kernel, filters = tuple(map(_number, config["kernel_size"])), _number(config["filters"])
    biases = [(filters,)] if config["use_bias"] else []
    return [(*kernel, shape[-1], filters), *biases], (*_window_output_size(config, shape, kernel), filters)


def _pooling(config, shape):
    window = tuple(map(_number, config["pool_size"]))
    return [], (*_window_output_size(config, shape, window), shape[-1])


def _window_output_size(config, shape, window):
    """Returns the spatial output size of a convolution or pooling."""
    if config["padding"] not in ("same", "valid") or config["data_format"] != "channels_last":
        raise ValueError("expected the padding same or valid, and channels last")
    width, height, _ = shape
    strides = map(_number, config["strides"])
    return tuple(
        -(-size // stride) if config["padding"] == "same" else (size - extent) // stride + 1
        for size, extent, stride in zip((width, height), window, strides, strict=True)
    )


def _rescaling(config, shape):
    if {type(config["scale"]), type(config["offset"])} - {int, float}:
        raise ValueError("expected a rescaling by numbers")
    return [], shape


def _permute(config, shape):
    if sorted(config["dims"]) != list(range(1, len(shape) + 1)):
        raise ValueError(f"expected a permutation of {len(shape)} axes; found {config['dims']}")
    return [], tuple(shape[axis - 1] for axis in config["dims"])


def _layer_normalisation(config, shape):
    if config["axis"] == [1, 2] and not (config["center"] or config["scale"]):
        return [], shape  # of a whole image
    if config["axis"] not in (-1, [-1], len(shape), [len(shape)]):
        raise ValueError("expected a normalisation over the last axis")
    return [shape[-1:]] * (bool(config["center"]) + bool(config["scale"])), shape


def _batch_normalisation(config, shape):
    weights, shape = _layer_normalisation(config, shape)
    return [*weights, shape[-1:], shape[-1:]], shape  # moving mean and variance


def _reshape(config, shape):
    free, *target = config["target_shape"]
    size = math.prod(map(_number, target))
    if free != -1 or math.prod(shape) % size:
        raise ValueError(f"expected a reshape to (-1, …) that fits; found {shape} to {(free, *target)}")
    return [], (math.prod(shape) // size, *target)


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
            raise ValueError("expected a recurrent layer that returns only its sequence and keeps no state")
        features += units
    if config["merge_mode"] != "concat":
        raise ValueError("expected a Bidirectional layer that concatenates")
    return weights, (*shape[:-1], features)


LAYERS = {
    "InputLayer": _same_shape,
    "Rescaling": _rescaling,
    "Permute": _permute,
    "Conv2D": _convolution,
    "MaxPooling2D": _pooling,
    "AveragePooling2D": _pooling,
    "BatchNormalization": _batch_normalisation,
    "LayerNormalization": _layer_normalisation,
    "Activation": _same_shape,
    "Reshape": _reshape,
    "Dense": _dense,
    "Dropout": _same_shape,
    "Bidirectional": _bidirectional,
}
"""The layers that a reader may have."""

ACTIVATIONS = (None, "linear", "relu", "elu", "gelu", "silu", "sigmoid", "tanh", "softmax", "log_softmax")
"""The activations that a reader may have. They keep the shape of their input."""

CLASSES = {
    "keras.layers": (*LAYERS, "GRU", "LSTM"),
    "keras.initializers": (
        *("Constant", "Ones", "Zeros", "Orthogonal"),
        *("GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform"),
    ),
    "keras": ("DTypePolicy",),
    "keras.src.models.functional": ("Functional",),
    None: ("__keras_tensor__",),
}
"""The classes that a configuration may name, by module."""


def _stored_shapes(content):
    """Returns the shapes of the weights in a `model.weights.h5` (bytes) without links, a list of tuples."""
    import h5py  # not at the top: it comes with Keras, and ONNX files are read without it

    shapes, refused = [], []

    def check_item(name, item):
        if isinstance(item, h5py.Dataset):
            shapes.append(item.shape)
            if item.external or item.is_virtual or item.dtype != "float32":
                refused.append(name)

    def check_link(name, link):
        if not isinstance(link, h5py.HardLink):
            refused.append(name)

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            file.visititems_links(check_link)
            file.visititems(check_item)
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"model.weights.h5 is damaged: {error}") from error
    if refused:
        raise ValueError(f"expected {refused[0]!r:.80} to be stored in model.weights.h5 itself, as float32")
    if 4 * sum(map(math.prod, shapes)) > len(content):
        raise ValueError("model.weights.h5 declares more weights than it contains")
    return shapes


OPERATIONS = {
    *("Add", "AveragePool", "Cast", "Conv", "Div", "GRU", "LayerNormalization", "LogSoftmax", "MatMul"),
    *("MaxPool", "Mul", "ReduceMean", "Relu", "Reshape", "Sqrt", "Squeeze", "Sub", "Transpose"),
}
ATTRIBUTES = {
    *("auto_pad", "axis", "dilations", "direction", "epsilon"),
    *("hidden_size", "kernel_shape", "linear_before_reset", "perm", "strides", "to"),
}
"""The operations of an ONNX reader, and their attributes: those that `tools.export` writes."""

UINT8, BYTES_PER_VALUE = 2, {1: 4, 7: 8}  # ONNX data types: 1 is float32, 2 is uint8, 7 is int64


def check_onnx(path):
    """Checks an ONNX model before onnxruntime opens it; returns its bytes and the reader's metadata.

    Raises:
        ValueError: if the model has anything that a reader does not need; the message is only the reason.
    """
    if (size := Path(path).stat().st_size) > MAX_ONNX_BYTES:
        raise ValueError(f"it has {size:,} bytes; at most {MAX_ONNX_BYTES:,} are allowed")
    content = Path(path).read_bytes()
    model = _onnx_message("Model")()
    try:
        model.ParseFromString(content)
    except Exception as error:  # protobuf's exception class is not public
        raise ValueError(f"it is not an ONNX model: {error}") from error
    entries = {entry.key: entry.value for entry in model.metadata_props}
    description, width = _parse_description(entries.get(DESCRIPTION.encode(), b""))
    if model.functions or model.training_info or model.graph.sparse_initializer:
        raise ValueError("it has functions, training information or sparse weights")
    for node in model.graph.node:
        _check_node(node)
    for tensor in model.graph.initializer:
        size = math.prod(tensor.dims) * BYTES_PER_VALUE.get(tensor.data_type, -1)
        if tensor.external_data or tensor.data_location or size != len(tensor.raw_data):
            raise ValueError(f"the weights {tensor.name!r:.80} are not in the file, or not as declared")
    for value in model.graph.input:
        tensor = value.type.tensor_type
        sizes = [dimension.dim_value for dimension in tensor.shape.dim]  # 0: a free axis
        out_of_bounds = len(sizes) != 3 or sizes[0] or sizes[2] or _number(sizes[1]) * width > MAX_VALUES
        if out_of_bounds or tensor.elem_type != UINT8:
            raise ValueError(f"its images are not uint8, or have a shape out of bounds: {sizes}")
    return content, description


def _check_node(node):
    if node.op_type not in OPERATIONS or node.domain not in ("", "ai.onnx"):
        operation, allowed = f"{node.op_type!r:.80} of {node.domain!r:.80}", ", ".join(sorted(OPERATIONS))
        raise ValueError(f"the operation {operation} is not accepted; operations may be {allowed}")
    for attribute in node.attribute:
        if attribute.name not in ATTRIBUTES or attribute.t or attribute.g:
            raise ValueError(f"the attribute {attribute.name!r:.80} of {node.op_type} is not accepted")


# The part of ONNX's format (https://onnx.ai/onnx/repo-docs/IR.html) that is checked. It is repeated here so
# that reading does not need the package onnx; protobuf is installed with onnxruntime. Messages that a reader
# must not contain are declared as bytes, because only their presence matters.
ONNX_MESSAGES = """
message Model { optional Graph graph = 7; repeated bytes training_info = 20; repeated bytes functions = 25;
                repeated Entry metadata_props = 14; }
message Entry { optional bytes key = 1; optional bytes value = 2; }
message Graph { repeated Node node = 1; repeated Tensor initializer = 5; repeated Value input = 11;
                repeated bytes sparse_initializer = 15; }
message Node { optional string op_type = 4; optional string domain = 7; repeated Attribute attribute = 5; }
message Attribute { optional string name = 1; repeated bytes t = 5; repeated bytes g = 6; }
message Tensor { optional string name = 8; repeated int64 dims = 1; optional int32 data_type = 2;
                 optional bytes raw_data = 9; repeated bytes external_data = 13;
                 optional int32 data_location = 14; }
message Value { optional Type type = 2; }
message Type { optional TensorType tensor_type = 1; }
message TensorType { optional int32 elem_type = 1; optional Shape shape = 2; }
message Shape { repeated Dimension dim = 1; }
message Dimension { optional int64 dim_value = 1; }
"""


@functools.cache
def _onnx_message(name):
    """Returns the protobuf class of a message in `ONNX_MESSAGES`."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="reader.proto", package="reader", syntax="proto2")
    for message, fields in re.findall(r"message (\w+) {(.*?)}", ONNX_MESSAGES, re.DOTALL):
        descriptor = file.message_type.add(name=message)
        for label, kind, field, number in re.findall(r"(\w+) (\w+) (\w+) = (\d+);", fields):
            added = descriptor.field.add(name=field, number=int(number))
            added.label = kinds.Label.Value(f"LABEL_{label.upper()}")
            if kind[0].isupper():
                added.type, added.type_name = kinds.TYPE_MESSAGE, f".reader.{kind}"
            else:
                added.type = kinds.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"reader.{name}"))
