"""A reader as a file for other programs: ONNX, or TensorFlow's SavedModel.

    python -m tools.export MODEL --to onnx
    python -m tools.export MODEL --to savedmodel

Both take float32 images of shape `(batch, image_width, image_height, 1)` and
give the log-probabilities of each step, `(batch, steps, classes)`. The file is
loaded by its own runtime and compared with Keras before it gets its name.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import onnx
from keras import layers
from onnx import TensorProto, helper, numpy_helper

from snippet_ocr import images
from snippet_ocr.decoding import greedy_decode, log_softmax
from snippet_ocr.model_file import DESCRIPTION, OnnxModel
from snippet_ocr.reader import Reader
from training import PROJECT

SHIPPED = PROJECT / "captcha_images"
OPSET, IR_VERSION = 18, 9
"""Of 2022 and 2023: every runtime of today knows them."""

IMAGES, TOLERANCE = 200, 1e-4
"""How many images are compared, and how far log-probabilities may differ, in nats."""


class Graph:
    """An ONNX graph that is written from its beginning, one node after the other.

    Attributes:
        nodes: the nodes so far.
        weights: the constants so far, a dictionary from name to array.
        value: the name of the last node's output.
        columns: the height and features of the columns that the last value
            still has to be cut into, or None.
    """

    def __init__(self, value):
        self.nodes, self.weights, self.value, self.columns = [], {}, value, None

    def add(self, operation, *arrays, **attributes):
        """Adds a node that takes the last value and some constants; its output becomes the last value."""
        names = [f"constant_{len(self.weights) + number}" for number in range(len(arrays))]
        self.weights.update(zip(names, arrays, strict=True))
        output = f"{operation}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, [self.value, *names], [output], output, **attributes))
        self.value = output


def _input(graph, layer):
    _, width, height, channels = layer.output.shape
    # (batch, width, height, 1) and (batch, 1, width, height) hold the same numbers in the same order.
    graph.add("Reshape", np.array([-1, channels, width, height]))


def _convolution(graph, layer):
    if layer.activation is not keras.activations.linear or layer.groups != 1:
        raise ValueError("an activation of its own, or groups")
    kernel = np.array(layer.kernel).transpose(3, 2, 0, 1)
    bias = np.array(layer.bias) if layer.use_bias else np.zeros(len(kernel), "float32")
    padding = {"same": "SAME_UPPER", "valid": "VALID"}[layer.padding]
    graph.add("Conv", kernel, bias, auto_pad=padding, strides=layer.strides, dilations=layer.dilation_rate)


def _batch_normalisation(graph, layer):
    scale = np.array(layer.gamma) / np.sqrt(np.array(layer.moving_variance) + layer.epsilon)
    shift = np.array(layer.beta) - np.array(layer.moving_mean) * scale
    before = graph.nodes[-1]
    if before.op_type == "MaxPool" and (scale > 0).all():
        before = graph.nodes[-2]  # a positive factor does not change which value is the largest
    elif [node.op_type for node in graph.nodes[-3:]] == COLUMNS_TO_STEPS:
        before = graph.nodes[-3]
    if before.op_type == "Conv":
        kernel, bias = before.input[1:]
        graph.weights[kernel] = graph.weights[kernel] * scale[:, None, None, None]
        graph.weights[bias] = graph.weights[bias] * scale + shift
    elif before.op_type == "MatMul":
        graph.weights[before.input[1]] = graph.weights[before.input[1]] * scale
        graph.add("Add", shift)
    else:
        features = (-1, 1, 1) if len(layer.output.shape) == 4 else (-1,)
        graph.add("Mul", scale.reshape(features))
        graph.add("Add", shift.reshape(features))


def _pooling(graph, layer):
    padding = {"same": "SAME_UPPER", "valid": "VALID"}[layer.padding]
    graph.add("MaxPool", auto_pad=padding, kernel_shape=layer.pool_size, strides=layer.strides)


def _activation(graph, layer):
    if layer.activation is not keras.activations.relu:
        raise ValueError(f"the activation {layer.activation.__name__}")
    graph.add("Relu")


def _columns(graph, layer):
    _, width, height, features = layer.input.shape
    if tuple(layer.output.shape) != (None, width, height * features):
        raise ValueError(f"a shape that is not that of columns: {layer.output.shape}")
    graph.columns = height, features


COLUMNS_TO_STEPS = ["Conv", "Squeeze", "Transpose"]
"""The nodes that a dense layer over columns becomes."""


def _dense(graph, layer):
    if layer.activation is not keras.activations.linear:
        raise ValueError("an activation of its own")
    kernel, bias = np.array(layer.kernel), np.array(layer.bias) if layer.use_bias else None
    if graph.columns:
        # Over a whole column, it is a convolution as high as the column, which needs no copy of the
        # columns: (batch, features, width, height) becomes (width, batch, units), time first.
        kernel = kernel.reshape(*graph.columns, -1).transpose(2, 1, 0)[:, :, None, :]
        graph.add("Conv", kernel, np.zeros(len(kernel), "float32") if bias is None else bias)
        graph.add("Squeeze", np.array([3]))
        graph.add("Transpose", perm=[2, 0, 1])
        graph.columns = None
    else:
        graph.add("MatMul", kernel)
        if bias is not None:
            graph.add("Add", bias)


def _layer_normalisation(graph, layer):
    if not (layer.center and layer.scale):
        raise ValueError("no centre or no scale")
    graph.add("LayerNormalization", np.array(layer.gamma), np.array(layer.beta), epsilon=layer.epsilon)


def _bidirectional_gru(graph, layer):
    directions = (layer.forward_layer, layer.backward_layer)
    for gru in directions:
        if not isinstance(gru, layers.GRU) or not (gru.reset_after and gru.use_bias and gru.return_sequences):
            raise ValueError("a recurrent layer that is no GRU with reset_after, bias and return_sequences")
        activations = (gru.activation, gru.recurrent_activation)
        if activations != (keras.activations.tanh, keras.activations.sigmoid) or layer.merge_mode != "concat":
            raise ValueError("other activations than tanh and sigmoid, or another merge_mode than concat")
    # Both have the gates in one order: update, reset, candidate.
    kernel, recurrent, bias = (
        np.stack(arrays)
        for arrays in zip(
            *(
                (np.array(cell.kernel).T, np.array(cell.recurrent_kernel).T, np.array(cell.bias).ravel())
                for cell in (gru.cell for gru in directions)
            ),
            strict=True,
        )
    )
    units = layer.forward_layer.units
    graph.add(
        "GRU", kernel, recurrent, bias, hidden_size=units, direction="bidirectional", linear_before_reset=1
    )
    graph.add("Transpose", perm=[0, 2, 1, 3])
    graph.add("Reshape", np.array([0, 0, 2 * units]))


def _nothing(graph, layer):
    """Dropout does nothing in reading."""


WRITERS = {
    layers.InputLayer: _input,
    layers.Conv2D: _convolution,
    layers.BatchNormalization: _batch_normalisation,
    layers.MaxPooling2D: _pooling,
    layers.Activation: _activation,
    layers.Reshape: _columns,
    layers.Dense: _dense,
    layers.LayerNormalization: _layer_normalisation,
    layers.Bidirectional: _bidirectional_gru,
    layers.Dropout: _nothing,
}


def build_onnx(model, description):
    """Writes a reading model as an ONNX graph.

    Args:
        model: a reading model, whose layers stand in one row.
        description: what a reader needs besides the model, a dictionary; it
            goes into the file's metadata.

    Returns:
        An `onnx.ModelProto` from `image` to `log_probabilities`.

    Raises:
        ValueError: if a layer is of a kind that cannot be written.
    """
    graph = Graph("image")
    for layer in model.layers:
        write = WRITERS.get(type(layer))
        try:
            if write is None:
                raise ValueError(f"a layer of the type {type(layer).__name__}")
            write(graph, layer)
        except ValueError as error:
            known = ", ".join(kind.__name__ for kind in WRITERS)
            raise ValueError(
                f"Expected layers that can be written as ONNX: {known}. "
                f"The layer {layer.name!r} of this model is or has {error}."
            ) from error
    graph.add("Transpose", perm=[1, 0, 2])
    graph.add("LogSoftmax", axis=-1)
    graph.nodes[-1].output[0] = "log_probabilities"
    _, steps, classes = model.output_shape
    written = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "reader",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", *model.input_shape[1:]])],
            [
                helper.make_tensor_value_info(
                    "log_probabilities", TensorProto.FLOAT, ["batch", steps, classes]
                )
            ],
            [
                numpy_helper.from_array(np.ascontiguousarray(array), name)
                for name, array in graph.weights.items()
            ],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(written, {DESCRIPTION: json.dumps(description, ensure_ascii=False)})
    onnx.checker.check_model(written, full_check=True)
    return written


def write_onnx(reader, path):
    """Writes the reader as an ONNX file; returns it as its runtime loads it."""
    path.write_bytes(build_onnx(reader.model, reader.metadata()).SerializeToString())
    return OnnxModel(path)


def compare(model, exported, prepared):
    """Compares a reading model with what was exported.

    Args:
        model: the reading model of Keras.
        exported: the other one, from the same images to log-probabilities.
        prepared: float32 of shape `(batch, image_width, image_height, 1)`.

    Returns:
        The largest difference of a log-probability, in nats.

    Raises:
        ValueError: if a text is read differently, or a log-probability
            differs by more than `TOLERANCE`.
    """
    expected = log_softmax(model.predict_on_batch(prepared))
    found = exported.predict_on_batch(prepared)
    difference = float(np.abs(expected - found).max())
    texts = zip(greedy_decode(expected), greedy_decode(found), strict=True)
    different = sum(not np.array_equal(*pair) for pair in texts)
    if different or not difference <= TOLERANCE:
        raise ValueError(
            f"Expected the exported model to read as Keras does. Of {len(prepared)} images {different} are "
            f"read differently; log-probabilities differ by up to {difference:.1e}, not {TOLERANCE:.0e}."
        )
    return difference


def export(reader, path, prepared):
    """Exports a reader, if the result reads as the reader does.

    Args:
        reader: the `Reader`.
        path: the file or folder to write, which is not there yet.
        prepared: the images to compare on, as in `compare`.

    Returns:
        The largest difference of a log-probability, in nats.

    Raises:
        ValueError: if the reader is not of Keras, if something is there already, if the model has a layer
            that cannot be written, or if the result reads differently.
    """
    if not isinstance(reader.model, keras.Model):
        raise ValueError("Expected a reader of Keras, a .keras file, to export.")
    if path.exists():
        raise ValueError(f"Expected nothing at {path} yet. Delete it, or say --out.")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        unfinished = Path(folder, path.name)
        difference = compare(reader.model, write_onnx(reader, unfinished), prepared)
        os.rename(unfinished, path)
    return difference


def prepare(files, reader):
    """Prepares the first 200 images that can be read: an array as in `compare`."""
    prepared = []
    for file in files:
        with contextlib.suppress(ValueError):
            prepared.append(images.prepare_image(file, reader.image_width, reader.image_height))
        if len(prepared) == IMAGES:
            break
    if not prepared:
        raise ValueError(f"Expected images to compare on. None of {len(files)} can be read.")
    return np.stack(prepared)


def main(arguments=None):
    """Runs the command line and returns the exit code."""
    parser = argparse.ArgumentParser(prog="export", description="Exports a reader for other programs.")
    parser.add_argument("model", metavar="MODEL", type=Path, help="a saved reader, runs/…/reader.keras")
    parser.add_argument("--out", type=Path, help="what to write; beside MODEL if it is not said")
    parser.add_argument(
        "--images", type=Path, default=SHIPPED, help="a folder of images to compare on; captcha_images"
    )
    options = parser.parse_args(arguments)
    out = (options.out or options.model.with_suffix(".onnx")).absolute()
    try:
        reader = Reader.load(options.model)
        prepared = prepare(images.find_files([options.images]), reader)
        difference = export(reader, out, prepared)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{out}: reads {len(prepared)} images as Keras does, log-probabilities within {difference:.1e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
