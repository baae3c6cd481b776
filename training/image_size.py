"""The size of the model's images and of its time steps, chosen from the data."""

import math
from collections import Counter

import numpy as np

from training.labels import steps_needed

NARROW_STEP, WIDE_STEP = 4, 8
"""Pixels of the image's width that can make one time step."""

STEPS_PER_CHARACTER = 8
"""The steps that a label's characters should have on average, for neighbours that touch to be told apart."""

MIN_HEIGHT, MAX_HEIGHT, MAX_WIDTH = 24, 64, 640
"""Pixels. The bounds of a model's image size that is chosen from the data."""


def max_time_steps(image_width=0, base_reader=None):
    """The time steps that a model can have at most: no label may need more.

    Args:
        image_width: the width that is set, in pixels, or 0.
        base_reader: the `reader.Reader` to start from, or None. Its steps are kept.

    Returns:
        An integer.
    """
    return base_reader.time_steps if base_reader else (image_width or MAX_WIDTH) // NARROW_STEP


def choose_step_width(samples, image_width, base_reader=None):
    """Chooses how many pixels of the image's width make one time step: 4, or 8 where characters are wide.

    Half the steps make training faster. They serve as long as the longest
    label still has `STEPS_PER_CHARACTER` for each of its characters:
    text rarely fills its image, and of two letters `m` that touch, each needs
    its own step, with a blank between them (`benchmarks/RESULTS.md`, the recipe).

    Args:
        samples: the list of `utils.Sample`s.
        image_width: the model's image width, in pixels.
        base_reader: the `reader.Reader` to start from, or None. Its steps are kept.

    Returns:
        4 or 8.
    """
    if base_reader is not None:
        return WIDE_STEP if base_reader.time_steps == base_reader.image_width // WIDE_STEP else NARROW_STEP
    longest = max(steps_needed(sample.label) for sample in samples)
    return WIDE_STEP if STEPS_PER_CHARACTER * longest <= image_width // WIDE_STEP else NARROW_STEP


def choose_size(samples, image_width=0, image_height=0, base_reader=None):
    """Chooses the size that all images are fitted to.

    What is set is taken; what is 0 follows the images. If most of them have one
    size, it is that. Otherwise it is the median height and, at that height, the
    width that nine of ten images keep within. Images higher than
    `MAX_HEIGHT` or wider than `MAX_WIDTH` are scaled down, tiny ones
    up; the width becomes a multiple of 8 that has a time step for each
    character of the longest label. A reader to start from keeps its size.

    Args:
        samples: the list of `utils.Sample`s.
        image_width: the width that is set, in pixels, or 0.
        image_height: the height that is set, in pixels, or 0.
        base_reader: the `reader.Reader` to start from, or None.

    Returns:
        A tuple of width, height (in pixels) and the reason, a string.

    Raises:
        ValueError: if a size is set that is not that of the reader to start from.
    """
    if base_reader is not None:
        width, height = base_reader.image_width, base_reader.image_height
        if image_width not in (0, width) or image_height not in (0, height):
            raise ValueError(
                f"Expected the image size of the reader to start from, {width}×{height}. Received "
                f"image_width {image_width} and image_height {image_height}. "
                "Leave both at 0: the reader's size is taken."
            )
        return width, height, "that of the reader to start from"
    if image_width and image_height:
        return image_width, image_height, "as set"
    (size, count), *_ = Counter(sample.size for sample in samples).most_common(1)
    if 2 * count > len(samples):
        width, height = size
        reason = f"the size of {count} of {len(samples)} images"
    else:
        height = float(np.median([sample.size[1] for sample in samples]))
        widths = [sample.size[0] * height / sample.size[1] for sample in samples]
        width = float(np.quantile(widths, 0.9, method="higher"))
        reason = "the median height, and the width that 9 of 10 images keep within"
    if image_width or image_height:
        scale = image_width / width if image_width else image_height / height
    else:
        scale = min(max(1, MIN_HEIGHT / height), MAX_HEIGHT / height, MAX_WIDTH / width)
    if scale != 1:
        reason += f", scaled by {scale:.2g}"
    longest = max(steps_needed(sample.label) for sample in samples)
    columns = max(width * scale, NARROW_STEP * longest, 2 * WIDE_STEP)
    width = min(WIDE_STEP * math.ceil(columns / WIDE_STEP - 1e-6), MAX_WIDTH)
    return image_width or width, image_height or max(round(height * scale), 8), reason
