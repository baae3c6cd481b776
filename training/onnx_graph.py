"""Writes a Keras model as an ONNX graph, layer by layer, with one node for each recurrent layer.

Keras's own exporter is used only for layers that this module does not know: it writes recurrent layers as
loops, which are slow and which `snippet_ocr.safety` refuses.
"""

import contextlib
import json
import logging
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from snippet_ocr.safety import DESCRIPTION

OPSET, IR_VERSION = 18, 9  # of 2022 and 2023; all current runtimes support them
IMAGE = (0, 3, 1, 2)  # the axes of images in ONNX: (batch, features, width, height)
STEPS = (1, 0, 2)  # the axes of sequences in ONNX's recurrent operations: (steps, batch, features)
PADDING = {"same": "SAME_UPPER", "valid": "VALID"}
ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid"}
DROPOUTS = ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianDropout", "GaussianNoise")
GATES = {"GRU": [0, 1, 2], "LSTM": [0, 3, 1, 2]}  # Keras's gates in ONNX's order


class UnknownError(ValueError):
    """A layer, or an option of it, is not one that this module can write."""


def require(known):
    if not known:
        raise UnknownError


class Value(NamedTuple):
    """A tensor of the Keras model in the ONNX graph."""

    name: str
    axes: tuple  # the axes of the Keras tensor, in their order in ONNX
    columns: tuple | None = None  # (height, features) if each column still has to become one axis


class Graph:
    """An ONNX graph, written node by node.

    Attributes:
        nodes, constants: a list of nodes, and a dictionary from names to arrays.
        values: a dictionary from the id of a Keras tensor to its `Value`.
        foldable: a dictionary from the name of a value to the convolution into which a following
            normalisation can be folded, and whether a pooling layer lies between them.
        output: the Keras tensor that is being written.
    """

    def __init__(self):
        self.nodes, self.constants, self.values, self.foldable, self.output = [], {}, {}, {}, None

    def add(self, operation, *inputs, **attributes):
        """Adds a node whose inputs are names of values, or arrays; returns the name of its output."""
        names = [one if isinstance(one, str) else self.constant(one) for one in inputs]
        output = f"{operation}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, names, [output], output, **attributes))
        return output

    def constant(self, array):
        name = f"constant_{len(self.constants)}"
        self.constants[name] = array
        return name

    def get(self, tensor, axes=None):
        """Returns the name of a Keras tensor's value, with its axes in a given order (default: Keras's)."""
        axes = axes or tuple(range(len(tensor.shape)))
        value = self.values[id(tensor)]
        if value.columns:  # from (batch, features, width, height)
            name = self.add("Transpose", value.name, perm=[0, 2, 3, 1])
            name = self.add("Reshape", name, np.array([0, 0, value.columns[0] * value.columns[1]]))
            value = Value(name, (0, 1, 2))
        if value.axes == axes:
            return value.name
        return self.add("Transpose", value.name, perm=[value.axes.index(axis) for axis in axes])

    def features_last(self, tensor):
        """Returns a tensor as a `Value` whose last axis is that of the features."""
        value, rank = self.values[id(tensor)], len(tensor.shape)
        last = value.axes[-1] == rank - 1 and not value.columns
        return value if last else Value(self.get(tensor), tuple(range(rank)))


# One function per type of layer. Each gets the graph, the layer and its inputs, and returns a `Value`.


def _dropout(graph, layer, x):
    """Adds nothing: dropout and noise are for training only."""
    return graph.values[id(x)]


def _rescaling(graph, layer, x):
    require(np.ndim(layer.scale) == np.ndim(layer.offset) == 0)
    value = graph.values[id(x)]
    name = graph.add("Mul", value.name, np.array(layer.scale, "float32"))
    if layer.offset:
        name = graph.add("Add", name, np.array(layer.offset, "float32"))
    return value._replace(name=name)


def _permute(graph, layer, x):
    value = graph.values[id(x)]
    require(not value.columns)
    return value._replace(axes=tuple([0, *layer.dims].index(axis) for axis in value.axes))


def _activate(graph, layer, value):
    """Applies the activation of a layer to a `Value`."""
    name = layer.activation.__name__
    require(name == "linear" or name in ACTIVATIONS)
    return value if name == "linear" else value._replace(name=graph.add(ACTIVATIONS[name], value.name))


def _convolution(graph, layer, x):
    require(layer.data_format == "channels_last" and layer.groups == 1)
    kernel, *bias = layer.get_weights()
    kernel = kernel.transpose(3, 2, 0, 1)  # (filters, channels, kernel width, kernel height)
    bias = bias[0] if bias else np.zeros(layer.filters, "float32")
    window = {"auto_pad": PADDING[layer.padding], "strides": layer.strides, "dilations": layer.dilation_rate}
    name = graph.add("Conv", graph.get(x, IMAGE), kernel, bias, **window)
    graph.foldable[name] = graph.nodes[-1], False
    return _activate(graph, layer, Value(name, IMAGE))


def _pooling(graph, layer, x):
    require(layer.data_format == "channels_last")
    image = graph.get(x, IMAGE)
    window = {"kernel_shape": layer.pool_size, "strides": layer.strides}
    name = graph.add("MaxPool", image, auto_pad=PADDING[layer.padding], **window)
    if image in graph.foldable:
        graph.foldable[name] = graph.foldable[image][0], True
    return Value(name, IMAGE)


def _batch_normalisation(graph, layer, x):
    """Folds the normalisation into the weights of a convolution if possible; otherwise adds nodes."""
    value, rank = graph.values[id(x)], len(x.shape)
    require(layer.axis in (-1, rank - 1) and not value.columns)
    gamma, beta = _gamma_and_beta(layer, x)
    *_, mean, variance = layer.get_weights()  # each (features,)
    scale = gamma / np.sqrt(variance + layer.epsilon)
    shift = beta - mean * scale
    node, pooled = graph.foldable.get(value.name, (None, False))
    if pooled and (scale <= 0).any():  # a negative factor turns maxima into minima
        node = None
    if node and value.axes[1] == rank - 1:
        kernel, bias = node.input[1:]
        graph.constants[kernel] = graph.constants[kernel] * scale[:, None, None, None]
        graph.constants[bias] = graph.constants[bias] * scale + shift
        return value
    shape = [-1 if axis == rank - 1 else 1 for axis in value.axes]
    name = graph.add("Mul", value.name, scale.reshape(shape))
    return value._replace(name=graph.add("Add", name, shift.reshape(shape)))


def _gamma_and_beta(layer, x):
    """Returns the factors and summands of a normalisation, each of shape `(features,)`."""
    weights, features = layer.get_weights(), x.shape[-1]
    gamma = weights.pop(0) if layer.scale else np.ones(features, "float32")
    return gamma, weights.pop(0) if layer.center else np.zeros(features, "float32")


def _layer_normalisation(graph, layer, x):
    rank, axes = len(x.shape), np.atleast_1d(layer.axis).tolist()
    if axes == [1, 2] and rank == 3 and not (layer.center or layer.scale):
        return _standardisation(graph, layer, x)
    require(axes in ([-1], [rank - 1]) and not getattr(layer, "rms_scaling", False))
    value = graph.features_last(x)
    weights = _gamma_and_beta(layer, x)
    name = graph.add("LayerNormalization", value.name, *weights, epsilon=layer.epsilon)
    return value._replace(name=name)


def _standardisation(graph, layer, x):
    # In single nodes: LayerNormalization of onnxruntime 1.20 is inexact for bright images of little contrast.
    value = graph.values[id(x)]
    require(not value.columns)
    axes = np.array([value.axes.index(1), value.axes.index(2)])
    centred = graph.add("Sub", value.name, graph.add("ReduceMean", value.name, axes))
    variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), axes)
    deviation = graph.add("Sqrt", graph.add("Add", variance, np.array(layer.epsilon, "float32")))
    return value._replace(name=graph.add("Div", centred, deviation))


def _reshape(graph, layer, x):
    shape = graph.output.shape[1:]
    if len(x.shape) == 3 and shape == (*x.shape[1:], 1):
        # An image gets an axis of features. 0 keeps an axis.
        return Value(graph.add("Reshape", graph.get(x), np.array([0, 1, -1, x.shape[2]])), IMAGE)
    if len(x.shape) == 4 and None not in x.shape[2:] and shape == (x.shape[1], x.shape[2] * x.shape[3]):
        return Value(graph.get(x, IMAGE), (), x.shape[2:])
    name = graph.add("Reshape", graph.get(x), np.array([0, *layer.target_shape]))
    return Value(name, tuple(range(len(graph.output.shape))))


def _dense(graph, layer, x):
    value = graph.values[id(x)]
    kernel, *bias = layer.get_weights()  # (inputs, units), (units,)
    if not value.columns:
        value = graph.features_last(x)
        name = graph.add("MatMul", value.name, kernel)
        name = graph.add("Add", name, *bias) if bias else name
        return _activate(graph, layer, value._replace(name=name))
    # A dense layer over a column is a convolution with the column's height. This saves a copy.
    kernel = kernel.reshape(*value.columns, -1).transpose(2, 1, 0)  # (units, features, height)
    bias = bias[0] if bias else np.zeros(layer.units, "float32")
    name = graph.add("Conv", value.name, kernel[:, :, None, :], bias)  # (batch, units, width, 1)
    node = graph.nodes[-1]
    name = graph.add("Squeeze", name, np.array([3]))  # (batch, units, width)
    graph.foldable[name] = node, False
    return _activate(graph, layer, Value(name, (0, 2, 1)))


def _recurrent(graph, layer, x):
    """Writes a GRU or an LSTM, in one direction or in both, as one node."""
    both = type(layer) is keras.layers.Bidirectional
    require(not both or layer.merge_mode == "concat")
    directions = (layer.forward_layer, layer.backward_layer) if both else (layer,)
    kind, units = type(directions[0]).__name__, directions[0].units
    for backwards, one in enumerate(directions):
        require(type(one).__name__ == kind and kind in GATES and one.units == units)
        require(one.return_sequences and not one.return_state and one.go_backwards == bool(backwards))
        require((one.activation.__name__, one.recurrent_activation.__name__) == ("tanh", "sigmoid"))
    weights = map(np.stack, zip(*(_recurrent_weights(one, kind) for one in directions), strict=True))
    options = {"hidden_size": units, "direction": "bidirectional" if both else "forward"}
    if kind == "GRU":
        options["linear_before_reset"] = int(directions[0].reset_after)
    name = graph.add(kind, graph.get(x, STEPS), *weights, **options)  # (steps, directions, batch, units)
    name = graph.add("Transpose", name, perm=[0, 2, 1, 3])  # (steps, batch, directions, units)
    return Value(graph.add("Reshape", name, np.array([0, 0, len(directions) * units])), STEPS)


def _recurrent_weights(layer, kind):
    """Returns kernel, recurrent kernel and bias of one direction, as ONNX expects them."""

    def gates(array):
        parts = np.split(array, len(GATES[kind]), axis=-1)
        return np.concatenate([parts[number] for number in GATES[kind]], axis=-1)

    kernel, recurrent, *bias = layer.get_weights()  # (inputs, gates × units), (units, gates × units)
    bias = bias[0] if bias else np.zeros(kernel.shape[1], "float32")
    if bias.ndim == 1:  # ONNX has a second bias, of the recurrent product
        bias = np.stack([bias, np.zeros_like(bias)])
    return gates(kernel).T, gates(recurrent).T, gates(bias).reshape(-1)


def _sum(graph, layer, *inputs):
    """Writes the sum of tensors of equal shape, as in a residual connection."""
    require(len(inputs) > 1 and len({one.shape for one in inputs}) == 1)
    values = [graph.values[id(one)] for one in inputs]
    if len({value.axes for value in values}) > 1 or any(value.columns for value in values):
        values = [Value(graph.get(one), tuple(range(len(one.shape)))) for one in inputs]
    name = values[0].name
    for value in values[1:]:
        name = graph.add("Add", name, value.name)
    return values[0]._replace(name=name)


WRITERS = {  # functions that add a Keras layer to a graph, by the name of its class
    "Rescaling": _rescaling,
    "Permute": _permute,
    "Conv2D": _convolution,
    "MaxPooling2D": _pooling,
    "BatchNormalization": _batch_normalisation,
    "Activation": lambda graph, layer, x: _activate(graph, layer, graph.values[id(x)]),
    "Reshape": _reshape,
    "Dense": _dense,
    "LayerNormalization": _layer_normalisation,
    **dict.fromkeys(("Bidirectional", *GATES), _recurrent),
    "Add": _sum,
    **dict.fromkeys(DROPOUTS, _dropout),
}


def _insert(graph, inputs, output):
    """Adds the part of a Keras model between some of its tensors, as Keras's own exporter writes it."""
    inputs = list({id(one): one for one in inputs}.values())
    part = keras.Model(inputs, output)
    part([np.zeros([size or 64 for size in one.shape], one.dtype) for one in inputs])  # the exporter needs it
    names, prefix = [graph.get(one) for one in inputs], f"part_{len(graph.nodes)}_"
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about an attribute that NumPy no longer has
        path = str(Path(folder) / "part.onnx")
        part.export(path, format="onnx", verbose=False, opset_version=OPSET)
        written = onnx.compose.add_prefix(onnx.load(path), prefix).graph
    for name, one in zip(names, written.input, strict=True):
        graph.nodes.append(helper.make_node("Identity", [name], [one.name]))
    for constant in written.initializer:
        graph.constants[constant.name] = numpy_helper.to_array(constant)
    for node in written.node:
        if node.op_type == "Erfc":  # of GELU: tf2onnx copies this operation, but ONNX has only Erf
            erf = graph.add("Erf", node.input[0])
            node = helper.make_node("Sub", [graph.constant(np.array(1, "float32")), erf], node.output)
        graph.nodes.append(node)
    return Value(written.output[0].name, tuple(range(len(output.shape))))


def write(model, description, by_layer=True):
    """Converts a reading model to ONNX.

    Args:
        model: a Keras model from images `(batch, height, width)` to logits `(batch, steps, classes)`.
        description: `Reader.metadata()`, a dictionary; it is stored in the file's metadata.
        by_layer: whether to write known layers one by one. Otherwise, Keras's own exporter writes them all.

    Returns:
        An `onnx.ModelProto`, from `image`, uint8, to `log_probabilities`, float32, of the same shapes.

    Raises:
        Exception: of any type, if Keras or tf2onnx cannot export a layer.
    """
    image, logits = model.inputs[0], model.outputs[0]
    calls = [_call(layer) for layer in model.operations if not isinstance(layer, keras.layers.InputLayer)]
    uses = Counter(id(one) for _, inputs, _ in calls for one in inputs)
    graph = Graph()
    graph.values[id(image)] = Value("image", (0, 1, 2))
    if by_layer:
        graph.values[id(image)] = Value(graph.add("Cast", "image", to=TensorProto.FLOAT), (0, 1, 2))
        for layer, inputs, output in calls:
            value = graph.values[id(output)] = _write_layer(graph, layer, inputs, output)
            if uses[id(output)] != 1:
                graph.foldable.pop(value.name, None)  # something else needs the value as it is
    else:
        graph.values[id(logits)] = _insert(graph, [image], logits)
    graph.add("LogSoftmax", graph.get(logits), axis=-1)
    graph.nodes[-1].output[0] = "log_probabilities"
    return _to_model(graph, model, description)


def _call(layer):
    # `_insert` calls the layer again, so `layer.input` is undefined later; the first call is the model's.
    node = layer._inbound_nodes[0]
    return layer, node.input_tensors, node.output_tensors[0]


def _write_layer(graph, layer, inputs, output):
    before, graph.output = (len(graph.nodes), dict(graph.constants)), output
    with contextlib.suppress(UnknownError):
        require(type(layer).__name__ in WRITERS)
        return WRITERS[type(layer).__name__](graph, layer, *inputs)
    del graph.nodes[before[0] :]
    graph.constants = before[1]
    return _insert(graph, inputs, output)


def _to_model(graph, model, description):
    """Returns the `onnx.ModelProto` of a graph."""
    in_shape, out_shape = ["batch", model.input_shape[1], "width"], ["batch", "steps", model.output_shape[2]]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, in_shape)
    output = helper.make_tensor_value_info("log_probabilities", TensorProto.FLOAT, out_shape)
    arrays = graph.constants.items()
    constants = [numpy_helper.from_array(np.array(array, order="C"), name) for name, array in arrays]
    written = helper.make_graph(graph.nodes, "reader", [image], [output], constants)
    opsets = [helper.make_opsetid("", OPSET)]
    converted = helper.make_model(written, opset_imports=opsets, ir_version=IR_VERSION)
    helper.set_model_props(converted, {DESCRIPTION: json.dumps(description, ensure_ascii=False)})
    onnx.checker.check_model(converted)
    return converted
