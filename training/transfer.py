"""Starts a training from a base reader."""

import unicodedata

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
    """Returns the `Reader` that the parameter `base_reader` names, or None if it is empty."""
    if not base_reader:
        return None
    return Reader.load(BASE_READER if base_reader == "auto" else parameters.resolve(base_reader))


def related_characters(labels, reader):
    """Returns the characters of a base reader (or None) in the Unicode categories of the labels, a string.

    Later images may show them: all digits if a label has a digit, and so on.
    """
    if reader is None:
        return ""
    categories = set(map(unicodedata.category, "".join(labels)))
    return "".join(one for one in reader.alphabet.characters if unicodedata.category(one) in categories)


def copy_weights(reader, model, alphabet):
    """Copies the weights of a base reader into a new model, whose alphabet and image height may differ.

    Characters of both alphabets keep their weights in the logits layer; new ones keep the model's initial
    weights. For another image height, the weights of the rows of a column are interpolated. Without a base
    reader (None), the model keeps its initial weights.

    Raises:
        ValueError: if the base reader is an ONNX file, or its network differs.
    """
    if reader is None:
        return
    if not hasattr(reader.model, "layers"):
        raise ValueError("Expected base_reader to be a .keras file. An .onnx file cannot be trained.")
    old_layers, new_layers = _layers_below_logits(reader.model), _layers_below_logits(model)
    for old, new in zip(old_layers, new_layers, strict=False):
        weights, initial = old.get_weights(), new.get_weights()
        if old.name == new.name == FEATURES_LAYER:
            filters = model.get_layer(COLUMNS_LAYER).input.shape[-1]
            weights[0] = _interpolate(weights[0], filters, len(initial[0]) // filters)
        shapes, expected = ([weight.shape for weight in one] for one in (weights, initial))
        if len(old_layers) != len(new_layers) or shapes != expected:
            raise ValueError(
                "Expected base_reader to have the network of the new model, but their weights differ in "
                "shape. Use the build_model that it was trained with, or no base_reader."
            )
        new.set_weights(weights)
    kept = [character for character in alphabet.characters if character in reader.alphabet.characters]
    old_classes, new_classes = (
        [BLANK, *(one.classes[character] for character in kept)] for one in (reader.alphabet, alphabet)
    )
    logits = model.get_layer(LOGITS_LAYER)
    old_kernel, old_bias = reader.model.get_layer(LOGITS_LAYER).get_weights()
    kernel, bias = logits.get_weights()  # (features, classes), (classes,)
    kernel[:, new_classes], bias[new_classes] = old_kernel[:, old_classes], old_bias[old_classes]
    logits.set_weights([kernel, bias])


def describe(reader, alphabet):
    """Returns a message about the base reader of a training, or None."""
    if reader is None:
        return "no base reader: the weights start at random"
    added = sorted({*alphabet.characters} - {*reader.alphabet.characters})
    kept = len(alphabet.characters) - len(added)
    new_characters = f"{len(added)} new: {escape(' '.join(added))}" if added else "0 new"
    return (
        f"base reader: {kept} characters keep their weights, {new_characters}\n"
        "Score and threshold are too optimistic if the base reader was trained on images that "
        "are now validation or test images."
    )


def _layers_below_logits(model):
    return [layer for layer in model.layers if layer.weights and layer.name != LOGITS_LAYER]


def _interpolate(kernel, filters, rows):
    """Resizes a kernel of shape (rows × filters, units) to other rows; the sum over the rows is kept."""
    kernel = kernel.reshape(-1, filters, kernel.shape[-1])  # (old rows, filters, units)
    factor = rows / len(kernel)
    resized = zoom(kernel, (factor, 1, 1), order=1, mode="nearest", grid_mode=True)  # (rows, filters, units)
    return resized.reshape(rows * filters, -1) / factor
