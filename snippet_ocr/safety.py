"""Checks a reader's file before it is loaded, so that it cannot run code or fill the memory.

A Keras file may name only standard classes of Keras, an ONNX file only operations on tensors without loops
and branches. Both contain all the weights that they declare.
"""

import io
import json
import math
import re
import zipfile
from pathlib import Path

from snippet_ocr.onnx_format import message_class

FORMAT = 2  # of readers; a change that earlier versions cannot read increases it
DESCRIPTION = "reader.json"  # the metadata: a member of the Keras archive, or an entry in the ONNX model's
MAX_BYTES = 500_000_000  # of a file
MAX_PIXELS = 2**22  # of an image of the largest width, times the number of widths
MAX_VALUES = 2**28  # in the output of a layer for one image: 1 GB as float32
MAX_DIMENSION = 2**16  # of a width or a height, in pixels

MEMBERS = ("metadata.json", "config.json", "model.weights.h5", DESCRIPTION)  # of a Keras archive


def read_keras(path, trusted=False):
    """Checks a Keras archive before Keras opens it; returns the reader's metadata, as parsed from JSON.

    Of a `trusted` file, only the metadata is read. A `ValueError` has the reason for a refusal.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if trusted:
                return _parse_description(archive.read(DESCRIPTION))[0]
            _check_size(path)
            _check_members(archive.infolist())
            description, width = _parse_description(archive.read(DESCRIPTION))
            config, weights = json.loads(archive.read("config.json")), archive.read("model.weights.h5")
            _check_classes(config)
            _check_weights(weights)
            _check_sizes(config, width, len(weights))
            return description
    except (ValueError, ImportError):
        raise
    except Exception as error:  # zipfile, json and Keras raise exceptions of many types for damaged files
        raise ValueError(f"it is damaged: {type(error).__name__} {error}") from error


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
    if (temperature := description.get("temperature", 1)) != 1:
        remedy = "Train again, or read it with the version that wrote it"
        raise ValueError(f"its temperature is {temperature!r:.20}; this version uses none. {remedy}")
    if not isinstance(widths, list) or not widths or list(map(_number, widths)) != sorted(set(widths)):
        raise ValueError(f"its widths are not an ascending list of whole numbers: {widths!r:.80}")
    return description, len(widths) * widths[-1]  # a reader prepares a batch of each width at once


def _number(value):
    if type(value) is not int or not 1 <= value <= MAX_DIMENSION:
        raise ValueError(f"expected a whole number from 1 to {MAX_DIMENSION:,}; found {value!r:.50}")
    return value


def _check_image(shape, is_bytes, width):
    """Checks the shape of the input, `(None, height, None)`, and its data type."""
    if len(shape) != 3 or shape[0] or shape[2] or not is_bytes or _number(shape[1]) * width > MAX_PIXELS:
        raise ValueError(f"its images are not uint8 of any width, or have a shape out of bounds: {shape}")


def _check_size(path):
    if (size := Path(path).stat().st_size) > MAX_BYTES:
        raise ValueError(f"it has {size:,} bytes; at most {MAX_BYTES:,} are allowed")


def _check_members(members):
    if sorted(member.filename for member in members) != sorted(MEMBERS):
        found = ", ".join(repr(member.filename[:50]) for member in members[:8])
        raise ValueError(f"expected the members {', '.join(MEMBERS)}; found {found}")
    if any(member.compress_type for member in members):
        raise ValueError("expected members that are stored without compression, as Keras does")


def _check_classes(node):
    """Checks that a configuration names only classes of `CLASSES`."""
    if isinstance(node, dict):
        for option, value in node.items():
            # The options create more weights than the layer needs; glu halves the number of classes.
            if (option in ("lora_rank", "quantization_config") and value) or value == "glu":
                raise ValueError(f"the option {option} = {value!r:.80} is not accepted")
        if "class_name" in node:
            name, module, registered = (node.get(key) for key in ("class_name", "module", "registered_name"))
            accepted = CLASSES.get(module, "") if isinstance(module, str | None) else ""
            if not re.fullmatch(accepted, str(name)) or registered not in (None, name):
                raise ValueError(f"{name!r:.80} of {module!r:.80} is not accepted{TRUST}")
        node = list(node.values())
    if isinstance(node, list):
        for inner in node:
            _check_classes(inner)


TRUST = ". If the file is your own, use trusted=True or --trust"
# The classes that a configuration may name, by module: they run no code and open no files.
CLASSES = {
    "keras.layers": r"InputLayer|Rescaling|Permute|Reshape|Flatten|Identity|Activation|ReLU|LeakyReLU|PReLU|"
    r"ELU|Softmax|Dense|(Separable|Depthwise)?Conv[12]D|(Max|Average|GlobalAverage)Pooling[12]D|"
    r"(ZeroPadding|Cropping|UpSampling)[12]D|(Batch|Layer|Group|Unit)Normalization|SpatialDropout[12]D|"
    r"(Gaussian)?Dropout|GaussianNoise|Bidirectional|TimeDistributed|GRU|LSTM|SimpleRNN|MultiHeadAttention|"
    r"Add|Subtract|Multiply|Average|Maximum|Minimum|Concatenate",
    "keras.initializers": r"Constant|Ones|Zeros|Identity|Orthogonal|VarianceScaling|TruncatedNormal|"
    r"(Random|Glorot|He|Lecun)(Normal|Uniform)",
    "keras.regularizers": "L1|L2|L1L2|OrthogonalRegularizer",
    "keras.constraints": "MaxNorm|MinMaxNorm|NonNeg|UnitNorm",
    "keras": "DTypePolicy",
    "keras.src.models.functional": "Functional",
    "keras.src.ops.numpy": "Add|Subtract|Multiply",  # x + y
    None: "__keras_tensor__|__tuple__",
}


def _check_weights(content):
    """Checks that an HDF5 file (bytes) stores each array as it is: no filters, links or other files."""
    import h5py  # not at the top: it comes with Keras, and ONNX files are read without it

    def find_other(name, link):
        item = file[name] if isinstance(link, h5py.HardLink) else None  # other links lead to other files
        if isinstance(item, h5py.Group):
            return None
        # Chunks may have filters that expand a few bytes to gigabytes.
        if not isinstance(item, h5py.Dataset) or item.chunks or item.external or item.is_virtual:
            return name
        plain = item.shape is not None and item.dtype.kind in "fiu" and item.nbytes <= len(content)
        return None if plain else name

    with h5py.File(io.BytesIO(content), "r") as file:
        if name := file.visititems_links(find_other):
            raise ValueError(f"expected {name!r:.80} to be a plain array of numbers in model.weights.h5")


def _check_sizes(config, width, stored):
    """Checks a model's outputs, and that its weights have at most `stored` bytes, without creating them."""
    import keras

    image = config["config"]["layers"][0]["config"]
    shape = image["batch_shape"]
    _check_image(shape, image["dtype"] == "uint8", width)
    shape[2] = width
    try:
        with keras.StatelessScope(initialize_variables=False):
            model = keras.saving.deserialize_keras_object(config, safe_mode=True)
        declared = 4 * sum(math.prod(weight.shape) for weight in model.weights)  # bytes, as float32
        for layer in model.layers:
            for output in keras.tree.flatten(layer.output):
                if not all(output.shape[1:]) or math.prod(output.shape[1:]) > MAX_VALUES:
                    raise ValueError(f"layer {layer.name!r:.50} has an output out of bounds: {output.shape}")
    finally:
        keras.utils.clear_session()  # otherwise, Keras creates the weights later
    if declared > stored:
        raise ValueError(f"it declares {declared:,} bytes of weights, but contains {stored:,}")


# The operations that an ONNX reader may have. None has a subgraph: there are no loops.
OPERATIONS = (
    "Abs|Add|And|AveragePool|BatchNormalization|Cast|Clip|Concat|Conv|Div|Elu|Equal|Erf|Exp|Expand|Flatten|"
    "GRU|Gather|Gemm|GlobalAveragePool|Greater|Identity|LSTM|LayerNormalization|LeakyRelu|Less|Log|LogSoftmax|"
    "MatMul|Max|MaxPool|Min|Mul|Neg|Not|PRelu|Pad|Pow|RNN|Reciprocal|Reduce(Max|Mean|Min|Prod|Sum)|Relu|"
    "Reshape|ReverseSequence|Shape|Sigmoid|Slice|Softmax|Softplus|Split|Sqrt|Squeeze|Sub|Sum|Tanh|Tile|"
    "Transpose|Unsqueeze|Where"
)
UINT8 = 2  # an ONNX data type
BYTES_PER_VALUE = {1: 4, 6: 4, 7: 8, 9: 1, 11: 8}  # of float32, int32, int64, bool and float64


def read_onnx(path, trusted=False):
    """Checks an ONNX model as `read_keras` does; returns its bytes and the reader's metadata."""
    if not trusted:
        _check_size(path)
    content = Path(path).read_bytes()
    model = message_class("Model")()
    try:
        model.ParseFromString(content)
    except Exception as error:  # protobuf's exception class is not public
        raise ValueError(f"it is not an ONNX model: {error}") from error
    entries = {entry.key: entry.value for entry in model.metadata_props}
    description, width = _parse_description(entries.get(DESCRIPTION.encode(), b""))
    if not trusted:
        _check_graph(model, width)
    return content, description


def _check_graph(model, width):
    if model.functions or model.training_info or model.graph.sparse_initializer:
        raise ValueError("it has functions, training information or sparse weights")
    for node in model.graph.node:
        if not re.fullmatch(OPERATIONS, node.op_type) or node.domain not in ("", "ai.onnx"):
            operation = f"{node.op_type!r:.80} of {node.domain!r:.80}"
            raise ValueError(f"the operation {operation} is not accepted{TRUST}")
        for attribute in node.attribute:
            if attribute.t or attribute.g or attribute.tensors or attribute.graphs or attribute.sparse:
                raise ValueError(f"the attribute {attribute.name!r:.80} of {node.op_type} is not accepted")
    for tensor in model.graph.initializer:
        size = math.prod(tensor.dims) * BYTES_PER_VALUE.get(tensor.data_type, -1)
        if tensor.external_data or tensor.data_location or size != len(tensor.raw_data):
            raise ValueError(f"the weights {tensor.name!r:.80} are not in the file, or not as declared")
    for value in model.graph.input:
        tensor = value.type.tensor_type
        shape = [dimension.dim_value for dimension in tensor.shape.dim]  # 0: a free axis
        _check_image(shape, tensor.elem_type == UINT8, width)
