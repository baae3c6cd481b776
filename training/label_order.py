"""The order of characters in the labels of right-to-left scripts: logical, as typed, or visual, as seen."""

import numpy as np

from snippet_ocr import images
from snippet_ocr.alphabet import is_right_to_left, reorder

LOGICAL, VISUAL, AUTO = "logical", "visual", "auto"
WIDTH, HEIGHT = 96, 32  # pixels: images are compared at this size
MIN_IMAGES, MAX_IMAGES = 40, 2000  # images that are compared
RIDGE = 0.03  # compared in benchmarks/RESULTS.md
MIN_GAIN = 0.02  # by which visual order must explain the images better than logical order


def find_order(samples, order=AUTO):
    """Finds out whether labels of a right-to-left script are in logical or in visual order.

    Programs store such texts in logical order, as they are typed. Annotation from left to right gives visual
    order. With `"auto"`, the images decide: the left part of an image shows the first character of labels in
    visual order, and the right part the last one.

    Returns a tuple of `"logical"` or `"visual"` (also if no character is right-to-left), and a line for the
    user.
    """
    labels = [sample.label for sample in samples]
    if not any(map(is_right_to_left, labels)):
        return VISUAL, "label order: from left to right"
    reason = "as set by label_order"
    if order == AUTO:
        order, reason = _order_in_images(samples)
    line = f"label order: {order}, {reason}"
    if order == LOGICAL:
        moved = next((label for label in labels if reorder(label) != label), labels[0])
        line += f"; from left to right, {moved!r} is {' '.join(reorder(moved))}"
        lost = [label for label in labels if reorder(reorder(label)) != label]
        if lost:
            line += f"\nWARNING: {len(lost)} labels cannot be returned as they are, such as {lost[0]!r}"
    return order, line


def _order_in_images(samples):
    """Returns the order that explains the images better, and the reason."""
    unclear = "the usual order; if labels are written from left to right, set label_order to visual"
    usable = [sample for sample in samples if reorder(sample.label) != sample.label]
    if len(usable) < MIN_IMAGES:
        return LOGICAL, unclear
    spread = np.linspace(0, len(usable) - 1, min(len(usable), MAX_IMAGES)).astype(int)
    usable = [usable[number] for number in spread]
    pixels = np.stack([images.load_fitted(sample.path, [WIDTH], HEIGHT) for sample in usable])
    halves = [half.reshape(len(pixels), -1) for half in np.split(pixels, 2, axis=2)]  # (images, pixels)
    shares = {}
    for order, convert in ((LOGICAL, reorder), (VISUAL, str)):
        shown = [convert(sample.label) for sample in usable]
        ends = [text[0] for text in shown], [text[-1] for text in shown]
        shares[order] = np.mean([_predictable(*pair) for pair in zip(halves, ends, strict=True)])
    best = VISUAL if shares[VISUAL] > shares[LOGICAL] + MIN_GAIN else LOGICAL
    return best, (
        f"because the images tell {shares[VISUAL]:.0%} of the first and last characters if the labels are in "
        f"visual order, and {shares[LOGICAL]:.0%} if they are in logical order"
    )


def _predictable(pixels, characters):
    """Returns the share of characters that ridge regression tells from pixels, each from the other images."""
    pixels = pixels.astype("float64") - pixels.mean(axis=1, keepdims=True)
    pixels /= np.linalg.norm(pixels, axis=1, keepdims=True) + 1e-9
    targets = np.equal.outer(characters, sorted(set(characters))).astype(float)  # (images, characters)
    similar = pixels @ pixels.T  # (images, images)
    fitted = similar @ np.linalg.inv(similar + RIDGE * np.eye(len(pixels)))
    # Leave-one-out without a fit for each image: Hastie et al., "The Elements of Statistical Learning", 7.10.
    own = np.diag(fitted)[:, None]  # (images, 1)
    predicted = (fitted @ targets - own * targets) / (1 - own)  # (images, characters)
    return np.mean(predicted.argmax(axis=1) == targets.argmax(axis=1))
