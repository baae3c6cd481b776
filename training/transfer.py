"""Starts a training from a base reader."""

from snippet_ocr.alphabet import BLANK
from snippet_ocr.terminal import escape

LOGITS_LAYER = "logits"  # the last layer, the only one whose weights depend on the alphabet


def copy_weights(reader, model, alphabet):
    """Copies the weights of a base reader into a new model, whose alphabet may differ.

    Characters of both alphabets keep their weights in the logits layer, even if their class numbers differ.
    New characters keep the model's initial weights.

    Returns:
        A message: how many characters keep their weights, which ones are new, and a warning about the score.

    Raises:
        ValueError: if the base reader is an ONNX file, or its network differs.
    """
    if not hasattr(reader.model, "layers"):
        raise ValueError("Expected base_reader to be a .keras file. An .onnx file cannot be trained.")
    old_layers, new_layers = _layers_below_logits(reader.model), _layers_below_logits(model)
    if _shapes(old_layers) != _shapes(new_layers):
        raise ValueError(
            "Expected base_reader to have the network of the new model, but their weights differ in shape. "
            "Use the build_model and the image height that it was trained with, or no base_reader."
        )
    for old, new in zip(old_layers, new_layers, strict=True):
        new.set_weights(old.get_weights())
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
    return (
        f"base reader: {len(kept)} characters keep their weights, {new_characters}\n"
        "Score, temperature and threshold are too optimistic if the base reader was trained on images that "
        "are now validation or test images."
    )


def _layers_below_logits(model):
    return [layer for layer in model.layers if layer.weights and layer.name != LOGITS_LAYER]


def _shapes(layers):
    return [[tuple(weight.shape) for weight in layer.weights] for layer in layers]
