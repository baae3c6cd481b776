"""Image size and width of a time step, chosen from the data."""

import math
from collections import Counter

import numpy as np

from training.labels import steps_needed

NARROW_STEP, WIDE_STEP = 4, 8  # the possible widths of a time step, in pixels
STEPS_PER_CHARACTER = 8  # enough for characters that touch (see `benchmarks/RESULTS.md`)
MIN_HEIGHT, MAX_HEIGHT, MAX_WIDTH = 24, 64, 640  # of an image size that is chosen from the data, in pixels


def max_time_steps(image_width=0, base_reader=None):
    """Returns the maximum number of time steps of a model. The arguments are those of `choose_size`."""
    return base_reader.time_steps if base_reader else (image_width or MAX_WIDTH) // NARROW_STEP


def choose_step_width(samples, image_width, base_reader=None):
    """Chooses the width of a time step: 8 pixels if every label then has enough time steps, otherwise 4.

    Half the number of steps makes training faster. A base reader's step width is kept. The arguments are
    those of `choose_size`, but `image_width` is the width that it returned.
    """
    if base_reader is not None:
        return WIDE_STEP if base_reader.time_steps == base_reader.image_width // WIDE_STEP else NARROW_STEP
    return WIDE_STEP if STEPS_PER_CHARACTER * _max_steps(samples) <= image_width // WIDE_STEP else NARROW_STEP


def choose_size(samples, image_width=0, image_height=0, base_reader=None):
    """Chooses the size that all images are fitted to.

    If most images have the same size, that size is used. Otherwise, it is the median height, and the width
    that 90% of the images do not exceed at that height. It is scaled to a height of 24 to 64 pixels and a
    width of at most 640. The width is a multiple of 8 and has enough time steps for every label.

    Args:
        samples: a list of `utils.Sample`s.
        image_width, image_height: the size that the user has set, in pixels; 0 for automatic.
        base_reader: the `Reader` that training starts from, or None. Its size is kept.

    Returns:
        A tuple of width and height, in pixels, and the reason, a string.

    Raises:
        ValueError: if the user has set another size than that of `base_reader`.
    """
    if base_reader is not None:
        width, height = base_reader.image_width, base_reader.image_height
        if image_width not in (0, width) or image_height not in (0, height):
            raise ValueError(
                f"Expected the image size of the base reader, {width}×{height}. Received: image_width "
                f"{image_width} and image_height {image_height}. Set both to 0 to use the base reader's size."
            )
        return width, height, "the size of the base reader"
    if image_width and image_height:
        return image_width, image_height, "set by image_width and image_height"
    width, height, reason = _typical_size([sample.size for sample in samples])
    if image_width or image_height:
        scale = image_width / width if image_width else image_height / height
    else:
        scale = min(max(1, MIN_HEIGHT / height), MAX_HEIGHT / height, MAX_WIDTH / width)
    if scale != 1:
        reason += f", scaled by {scale:.2g}"
    min_width = max(width * scale, NARROW_STEP * _max_steps(samples), 2 * WIDE_STEP)
    width = min(WIDE_STEP * math.ceil(min_width / WIDE_STEP - 1e-6), MAX_WIDTH)
    return image_width or width, image_height or max(round(height * scale), 8), reason


def _typical_size(sizes):
    """Returns a width and a height, not rounded, and a description of them."""
    ((size, count),) = Counter(sizes).most_common(1)
    if 2 * count > len(sizes):
        return *size, f"the size of {count} of {len(sizes)} images"
    height = float(np.median([height for _, height in sizes]))
    widths = [width * height / own_height for width, own_height in sizes]
    width = float(np.quantile(widths, 0.9, method="higher"))
    return width, height, "the median height, and the width that 90% of the images do not exceed"


def _max_steps(samples):
    return max(steps_needed(sample.label) for sample in samples)
