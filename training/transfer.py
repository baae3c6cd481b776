"""Going on from a reader that exists already."""

from snippet_ocr.alphabet import BLANK

LOGITS_LAYER = "logits"
"""The layer whose outputs are the classes; all others know nothing of the alphabet."""


def copy_weights(reader, model, alphabet):
    """Copies what a reader has learnt into a new model, character by character.

    A character that both know keeps its weights, wherever its class number has
    moved to. A new one begins with the new model's own first weights.

    Args:
        reader: the `reader.Reader` to start from.
        model: the new model; its weights are changed.
        alphabet: the `Alphabet` of the new model.

    Returns:
        Two lines that say what was kept, what is new, and what to mind.

    Raises:
        ValueError: if the reader's network is another than the model's.
    """
    if not hasattr(reader.model, "layers"):
        raise ValueError("Expected base_reader to be a .keras file. One in ONNX can read, but not learn.")
    old_layers = [layer for layer in reader.model.layers if layer.weights]
    new_layers = [layer for layer in model.layers if layer.weights]
    old_shapes, new_shapes = (
        [tuple(weight.shape) for layer in layers if layer.name != LOGITS_LAYER for weight in layer.weights]
        for layers in (old_layers, new_layers)
    )
    if old_shapes != new_shapes:
        raise ValueError(
            "Expected base_reader to be a reader with the network of the new model, layer for layer. "
            "The shapes of their weights differ: "
            "it was trained with another build_model, or another image height."
        )
    for old, new in zip(old_layers, new_layers, strict=True):
        if new.name != LOGITS_LAYER:
            new.set_weights(old.get_weights())
    kept = [character for character in alphabet.characters if character in reader.alphabet.characters]
    old_classes = [BLANK, *reader.alphabet.encode(kept)]
    new_classes = [BLANK, *alphabet.encode(kept)]
    head = model.get_layer(LOGITS_LAYER)
    kernel, bias = head.get_weights()
    old_kernel, old_bias = reader.model.get_layer(LOGITS_LAYER).get_weights()
    kernel[:, new_classes] = old_kernel[:, old_classes]
    bias[new_classes] = old_bias[old_classes]
    head.set_weights([kernel, bias])
    added = [character for character in alphabet.characters if character not in kept]
    new = f"{len(added)} new: {' '.join(added)}" if added else "none is new"
    return (
        f"starts from a reader: {len(kept)} characters keep their weights, {new}\n"
        "Images that it was trained on flatter the score, the temperature and the threshold "
        "where they are now among the validation or test images."
    )
