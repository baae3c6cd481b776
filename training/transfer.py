"""Starts a training from a base reader."""

import unicodedata
from collections import Counter

from scipy.ndimage import zoom

from snippet_ocr import Reader
from snippet_ocr.alphabet import BLANK
from snippet_ocr.terminal import escape
from training import PROJECT, parameters

COLUMNS_LAYER = "columns"  # flattens each column of the last feature map, (rows, filters)
FEATURES_LAYER = "column_features"  # the layer after it, the only one whose weights depend on the height
LOGITS_LAYER = "logits"  # the last layer, the only one whose weights depend on the alphabet
BASE_READER = PROJECT / "training" / "base.keras"  # trained on drawn text by `make base`


def load_base(base_reader):
    """Returns the `Reader` that the setting `base_reader` names, or None if it is empty."""
    if not base_reader:
        return None
    return Reader.load(BASE_READER if base_reader == "auto" else parameters.resolve(base_reader))


def related_characters(labels, reader):
    """Returns the characters of a base reader (or None) that later images may show, a string.

    A Unicode category, such as digits, of which a character occurs only once is probably incomplete: all its
    characters are returned. Source: I. J. Good, "The Population Frequencies of Species and the Estimation of
    Population Parameters", Biometrika 40, 1953: the share of unseen species is that of single observations.
    """
    if reader is None:
        return ""
    counts = Counter("".join(labels)).items()
    incomplete = {unicodedata.category(character) for character, count in counts if count == 1}
    return "".join(one for one in reader.alphabet.characters if unicodedata.category(one) in incomplete)


def copy_weights(reader, model, alphabet, optional=False):
    """Copies the weights of a base reader into a new model, whose alphabet and image height may differ.

    Characters of both alphabets keep their weights in the logits layer; new ones keep the model's initial
    weights. For another image height, the weights of the rows of a column are interpolated.

    Args:
        reader: the base reader, a `Reader`, or None: the model keeps its initial weights.
        model, alphabet: the Keras model, and its `Alphabet`.
        optional: whether the model keeps its initial weights if its network is not that of the base reader.

    Returns:
        A message for the user.

    Raises:
        ValueError: if the base reader is an ONNX file, or its network differs and it is not optional.
    """
    if reader is None:
        return "no base reader: the weights start at random"
    if not hasattr(reader.model, "layers"):
        raise ValueError("Expected base_reader to be a .keras file. An .onnx file cannot be trained.")
    weights = _weights_below_logits(reader.model, model)
    if weights is None and optional:
        return "base reader: not used, because build_model has another network; the weights start at random"
    if weights is None:
        raise ValueError(
            "Expected base_reader to have the network of the new model, but their weights differ in "
            "shape. Use the build_model that it was trained with, or no base_reader."
        )
    for layer, values in zip(_layers_below_logits(model), weights, strict=True):
        layer.set_weights(values)
    kept = [character for character in alphabet.characters if character in reader.alphabet.characters]
    added = [character for character in alphabet.characters if character not in kept]
    old_classes, new_classes = (
        [BLANK, *(one.classes[character] for character in kept)] for one in (reader.alphabet, alphabet)
    )
    logits = model.get_layer(LOGITS_LAYER)
    old_kernel, old_bias = reader.model.get_layer(LOGITS_LAYER).get_weights()
    kernel, bias = logits.get_weights()  # (features, classes), (classes,)
    kernel[:, new_classes], bias[new_classes] = old_kernel[:, old_classes], old_bias[old_classes]
    logits.set_weights([kernel, bias])
    new_characters = f"{len(added)} new: {escape(' '.join(added))}" if added else "0 new"
    return f"base reader: {len(kept)} characters keep their weights, {new_characters}"


def _weights_below_logits(old_model, new_model):
    """Returns the old model's weights, fitted to the height of the new one; None if the networks differ."""
    old_layers, new_layers = _layers_below_logits(old_model), _layers_below_logits(new_model)
    found = [layer.get_weights() for layer in old_layers]
    expected = [[weight.shape for weight in layer.weights] for layer in new_layers]
    for layer, weights in zip(new_layers, found, strict=False):
        columns = next((one for one in new_model.layers if one.name == COLUMNS_LAYER), None)
        if layer.name == FEATURES_LAYER and columns:
            filters, rows = columns.input.shape[-1], columns.output.shape[-1] // columns.input.shape[-1]
            if weights[0].ndim == 2 and len(weights[0]) % filters == 0:
                weights[0] = _interpolate(weights[0], filters, rows)
    return found if [[weight.shape for weight in weights] for weights in found] == expected else None


def _layers_below_logits(model):
    return [layer for layer in model.layers if layer.weights and layer.name != LOGITS_LAYER]


def _interpolate(kernel, filters, rows):
    """Resizes a kernel of shape (rows × filters, units) to other rows; the sum over the rows is kept."""
    kernel = kernel.reshape(-1, filters, kernel.shape[-1])  # (old rows, filters, units)
    factor = rows / len(kernel)
    resized = zoom(kernel, (factor, 1, 1), order=1, mode="nearest", grid_mode=True)  # (rows, filters, units)
    return resized.reshape(rows * filters, -1) / factor
