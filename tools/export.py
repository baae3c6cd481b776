"""Exports a reader to one ONNX file, which can be used without Keras and TensorFlow.

Before the file is saved, up to 200 images are read with onnxruntime and with Keras, and compared.
"""

import argparse
import contextlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from snippet_ocr import Reader, files, images
from snippet_ocr.decoding import greedy_decode
from snippet_ocr.model_file import DESCRIPTION, OnnxModel
from training import PROJECT, parameters

OPSET, IR_VERSION = 18, 9  # of 2022 and 2023; all current runtimes support them
MAX_IMAGES, TOLERANCE = 200, 1e-4  # images to compare; accepted difference of log-probabilities, in nats


class Graph:
    """An ONNX graph, written node by node."""

    def __init__(self, value):
        self.nodes, self.constants = [], {}  # a list of nodes, and a dictionary from names to arrays
        self.value = value  # the name of the last output
        self.columns = None  # (height, features) while the last value still has to be cut into columns

    def add(self, operation, *others, first=None, **attributes):
        """Adds a node; returns the name of its output, which becomes the last value.

        Its inputs are the value `first` (default: the last one) and others: names of values, or constants.
        """
        names = [first or self.value]
        for other in others:
            names.append(other if isinstance(other, str) else f"constant_{len(self.constants)}")
            if not isinstance(other, str):
                self.constants[names[-1]] = other
        self.value = f"{operation}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, names, [self.value], self.value, **attributes))
        return self.value


def _input(graph, layer):
    graph.add("Cast", to=TensorProto.FLOAT)


def _rescaling(graph, layer):
    graph.add("Mul", np.array(layer.scale, "float32"))
    if layer.offset:
        graph.add("Add", np.array(layer.offset, "float32"))


def _permute(graph, layer):
    graph.add("Transpose", perm=[0, *layer.dims])


def _convolution(graph, layer):
    if layer.activation.__name__ != "linear" or layer.groups != 1:
        raise ValueError("an activation or groups")
    kernel, *bias = layer.get_weights()
    kernel = kernel.transpose(3, 2, 0, 1)  # (filters, channels, kernel width, kernel height)
    bias = bias[0] if bias else np.zeros(layer.filters, "float32")
    window = {"auto_pad": PADDING[layer.padding], "strides": layer.strides, "dilations": layer.dilation_rate}
    graph.add("Conv", kernel, bias, **window)


def _pooling(graph, layer):
    padding, size, strides = PADDING[layer.padding], layer.pool_size, layer.strides
    graph.add("MaxPool", auto_pad=padding, kernel_shape=size, strides=strides)


def _batch_normalisation(graph, layer):
    """Folds the normalisation into the weights of the previous node if possible; otherwise adds nodes."""
    if not (layer.center and layer.scale):
        raise ValueError("no center or no scale")
    gamma, beta, mean, variance = layer.get_weights()  # each (features,)
    scale = gamma / np.sqrt(variance + layer.epsilon)
    shift = beta - mean * scale
    before = graph.nodes[-1]
    if before.op_type == "MaxPool" and (scale > 0).all():
        before = graph.nodes[-2]  # a positive factor does not change the position of a maximum
    elif [node.op_type for node in graph.nodes[-3:]] == ["Conv", "Squeeze", "Transpose"]:
        before = graph.nodes[-3]  # `_dense` writes these three for columns
    if before.op_type == "Conv":
        kernel, bias = before.input[1:]
        graph.constants[kernel] = graph.constants[kernel] * scale[:, None, None, None]
        graph.constants[bias] = graph.constants[bias] * scale + shift
    elif before.op_type == "MatMul":
        graph.constants[before.input[1]] = graph.constants[before.input[1]] * scale
        graph.add("Add", shift)
    else:
        features_axis = (-1, 1, 1) if len(layer.output.shape) == 4 else (-1,)
        graph.add("Mul", scale.reshape(features_axis))
        graph.add("Add", shift.reshape(features_axis))


def _activation(graph, layer):
    if layer.activation.__name__ != "relu":
        raise ValueError(f"the activation {layer.activation.__name__}")
    graph.add("Relu")


def _reshape(graph, layer):
    _, width, height, *features = layer.input.shape  # the width is None
    if len(layer.output.shape) == 5:  # rows of text
        graph.add("Transpose", perm=[0, 2, 3, 1])  # (batch, width, height, features)
        graph.add("Reshape", np.array([0, 0, *layer.output.shape[2:]]))
    elif features and height is None:  # the rows follow each other
        graph.add("Reshape", np.array([0, -1, math.prod(features)]))
        graph.add("Transpose", perm=[1, 0, 2])  # time first, as GRU expects
    elif not features and layer.output.shape[1:] == (width, height, 1):
        graph.add("Reshape", np.array([0, 1, -1, height]))  # ONNX has channels second; 0 keeps an axis
    elif features and layer.output.shape[1:] == (width, height * features[0]):
        graph.columns = height, *features  # the next dense layer adds the nodes
    else:
        raise ValueError(f"the output shape {layer.output.shape}; expected one vector per column")


def _dense(graph, layer):
    if layer.activation.__name__ != "linear":
        raise ValueError("an activation")
    kernel, *bias = layer.get_weights()  # (inputs, units), (units,)
    if graph.columns:
        # A dense layer over a column is a convolution with the column's height. This saves a copy.
        kernel = kernel.reshape(*graph.columns, -1).transpose(2, 1, 0)  # (units, features, height)
        bias = bias[0] if bias else np.zeros(layer.units, "float32")
        graph.add("Conv", kernel[:, :, None, :], bias)  # (batch, units, width, 1)
        graph.add("Squeeze", np.array([3]))  # (batch, units, width)
        graph.add("Transpose", perm=[2, 0, 1])  # (steps, batch, units): time first, as GRU expects
        graph.columns = None
    else:
        graph.add("MatMul", kernel)
        if bias:
            graph.add("Add", *bias)


def _layer_normalisation(graph, layer):
    if layer.axis == [1, 2] and not (layer.center or layer.scale):
        _standardisation(graph, layer)
    elif layer.center and layer.scale:
        graph.add("LayerNormalization", *layer.get_weights(), epsilon=layer.epsilon)
    else:
        raise ValueError("no center or no scale")


def _standardisation(graph, layer):
    # In single nodes: LayerNormalization of onnxruntime 1.20 is inexact for bright images of little contrast.
    image, axes = graph.value, np.array([1, 2])
    centred = graph.add("Sub", graph.add("ReduceMean", axes), first=image)  # (batch, height, width)
    graph.add("Mul", centred)
    graph.add("ReduceMean", axes)  # the variance
    graph.add("Add", np.array(layer.epsilon, "float32"))
    graph.add("Div", graph.add("Sqrt"), first=centred)


def _bidirectional_gru(graph, layer):
    directions = layer.forward_layer, layer.backward_layer
    for gru in directions:
        if type(gru).__name__ != "GRU" or not (gru.reset_after and gru.use_bias and gru.return_sequences):
            raise ValueError("a recurrent layer other than a GRU with reset_after, bias and return_sequences")
        activations = gru.activation.__name__, gru.recurrent_activation.__name__
        if activations != ("tanh", "sigmoid") or layer.merge_mode != "concat":
            raise ValueError("activations other than tanh and sigmoid, or a merge_mode other than concat")
    # In Keras and in ONNX, the order of the gates is update, reset, candidate.
    kernel, recurrent, bias = map(np.stack, zip(*(gru.get_weights() for gru in directions), strict=True))
    kernel = kernel.transpose(0, 2, 1)  # (2, 3 × units, inputs)
    recurrent = recurrent.transpose(0, 2, 1)  # (2, 3 × units, units)
    bias = bias.reshape(2, -1)  # (2, 6 × units)
    units = layer.forward_layer.units
    attributes = {"hidden_size": units, "direction": "bidirectional", "linear_before_reset": 1}
    graph.add("GRU", kernel, recurrent, bias, **attributes)  # (steps, 2, batch, units)
    graph.add("Transpose", perm=[0, 2, 1, 3])  # (steps, batch, 2, units)
    graph.add("Reshape", np.array([0, 0, 2 * units]))  # (steps, batch, 2 × units)


def _dropout(graph, layer):
    """Adds nothing: dropout is for training only."""


PADDING = {"same": "SAME_UPPER", "valid": "VALID"}

WRITERS = {
    "InputLayer": _input,
    "Rescaling": _rescaling,
    "Permute": _permute,
    "Conv2D": _convolution,
    "MaxPooling2D": _pooling,
    "BatchNormalization": _batch_normalisation,
    "Activation": _activation,
    "Reshape": _reshape,
    "Dense": _dense,
    "LayerNormalization": _layer_normalisation,
    "Bidirectional": _bidirectional_gru,
    "Dropout": _dropout,
}
"""Functions that add a Keras layer to a graph, by the name of its class."""


def build_onnx(model, description):
    """Converts a reading model to ONNX.

    Args:
        model: a Keras model without branches, from images to logits.
        description: `Reader.metadata()`, a dictionary; it is stored in the file's metadata.

    Returns:
        An `onnx.ModelProto`, from `image`, uint8 of shape `(batch, image_height, width)`,
        to `log_probabilities`, float32 of shape `(batch, steps, classes)`.

    Raises:
        ValueError: if a layer cannot be converted.
    """
    graph = Graph("image")
    for layer in model.layers:
        kind = type(layer).__name__
        try:
            if kind not in WRITERS:
                raise ValueError(f"the type {kind}")
            if graph.columns and kind not in ("Dense", "Dropout"):
                raise ValueError("columns as its input, but only a Dense layer can follow them")
            WRITERS[kind](graph, layer)
        except ValueError as error:
            supported = f"Expected layers that can be exported: {', '.join(WRITERS)}."
            raise ValueError(f"{supported} Layer {layer.name!r} has {error}.") from error
    graph.add("Transpose", perm=[1, 0, 2])  # (batch, steps, classes)
    graph.add("LogSoftmax", axis=-1)
    graph.nodes[-1].output[0] = "log_probabilities"
    image, output = (
        helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in (
            ("image", TensorProto.UINT8, ["batch", model.input_shape[1], "width"]),
            ("log_probabilities", TensorProto.FLOAT, ["batch", "steps", model.output_shape[2]]),
        )
    )
    constants = [
        numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in graph.constants.items()
    ]
    converted = helper.make_model(
        helper.make_graph(graph.nodes, "reader", [image], [output], constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(converted, {DESCRIPTION: json.dumps(description, ensure_ascii=False)})
    onnx.checker.check_model(converted, full_check=True)
    return converted


def export(reader, path, prepared):
    """Exports a `Reader` with a Keras model to a new file, and checks that it reads `prepared` like Keras.

    Returns:
        The maximum absolute difference of the log-probabilities, in nats.

    Raises:
        ValueError: if the reader is an ONNX file already, if `path` exists, if a layer cannot be converted,
            if a text is read differently, or if the difference exceeds `TOLERANCE`.
    """
    if isinstance(reader.model, OnnxModel):
        raise ValueError("Expected a .keras file. This reader is already an ONNX file.")
    if path.suffix != ".onnx":
        raise ValueError(f"Expected a file that ends in .onnx. Received: {path}")
    if path.exists():
        raise ValueError(f"{path} already exists. Delete it, or choose another file with --out.")
    with files.atomic_write(path) as unfinished:
        unfinished.write_bytes(build_onnx(reader.model, reader.metadata()).SerializeToString())
        exported = Reader(OnnxModel(unfinished), reader.alphabet, reader.widths)
        rows = [one.log_probabilities(prepared, 1.0) for one in (reader, exported)]  # (steps, classes) each
        difference = float(max(np.abs(expected - found).max() for expected, found in zip(*rows, strict=True)))
        texts = [greedy_decode(pair) for pair in zip(*rows, strict=True)]
        different = sum(not np.array_equal(*pair) for pair in texts)
        if different or not difference <= TOLERANCE:  # also if it is NaN
            raise ValueError(
                f"Expected the exported reader to read like Keras. It reads {different} of {len(prepared)} "
                "images differently; log-probabilities differ by up to "
                f"{difference:.1e}, not {TOLERANCE:.0e}."
            )
    return difference


def prepare(paths, reader):
    """Prepares the first `MAX_IMAGES` readable images; returns a list of them, as `Reader.prepare` does."""
    prepared = []
    for path in paths:
        with contextlib.suppress(ValueError):
            prepared.append(images.load_fitted(path, reader.widths, reader.image_height))
        if len(prepared) == MAX_IMAGES:
            break
    if not prepared:
        raise ValueError(f"Expected images to compare. None of {len(paths)} can be read. Set --images.")
    return prepared


def training_folder(reader):
    """Returns the folder of images that a reader was trained on, or `captcha_images` if it is missing."""
    with contextlib.suppress(KeyError, TypeError):  # not every reader was trained by the notebook
        folder = parameters.resolve(reader.provenance["parameters"]["data_dir"])
        if folder.is_dir():
            return folder
    return PROJECT / "captcha_images"


def main(arguments=None):
    """Runs the command line and returns the exit code."""
    example = "Example: python -m tools.export runs/meters-1/reader.keras --images ~/meters"
    parser = argparse.ArgumentParser("python -m tools.export", description=__doc__, epilog=example)
    option = parser.add_argument
    option("reader", metavar="READER.keras", type=Path, help="the reader to export")
    option("--out", metavar="FILE.onnx", type=Path, help="the new file (default: next to the reader)")
    images_help = "images for the comparison (default: the training's if found, otherwise captcha_images)"
    option("--images", metavar="FOLDER", type=Path, help=images_help)
    options = parser.parse_args(arguments)
    try:
        reader = Reader.load(options.reader)
        out = (options.out or options.reader.with_suffix(".onnx")).absolute()
        folder = options.images or training_folder(reader)
        prepared = prepare(images.find_files([folder]), reader)
        difference = export(reader, out, prepared)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"compared {len(prepared)} images of {folder}: same texts, log-probabilities ± {difference:.1e}")
    print(f"exported: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
