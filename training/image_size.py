"""The image size, chosen from the data."""

import math
from collections import Counter

import numpy as np
from PIL import Image

from snippet_ocr import images
from training.labels import steps_needed

STEP_WIDTH = 4  # of a time step, in pixels: the two convolutional blocks halve the width twice
MIN_HEIGHT, MAX_HEIGHT, MAX_WIDTH = 24, 64, 640  # of an image size that is chosen from the data, in pixels

# Images are reduced as far as all of these allow (compared in `benchmarks/RESULTS.md`).
MIN_REDUCED_HEIGHT = 32  # pixels
MIN_CHARACTER_WIDTH = 24  # pixels for each character of the longest label
MAX_DETAIL_LOSS = 0.2  # see `_detail_loss`
EXAMPLES = 50  # images that are reduced to measure the loss of detail


def max_time_steps(image_width=0, base_reader=None):
    """Returns the maximum number of time steps of a model. The arguments are those of `choose_size`."""
    return base_reader.time_steps if base_reader else (image_width or MAX_WIDTH) // STEP_WIDTH


def choose_size(samples, image_width=0, image_height=0, base_reader=None):
    """Chooses the size that all images are fitted to.

    If most images have the same size, that size is used. Otherwise, it is the median height, and the width
    that 90% of the images do not exceed at that height. It is scaled to a height of 24 to 64 pixels and a
    width of at most 640, and then reduced as far as the text stays legible, because the time of a training
    step is proportional to the number of pixels. The width is a multiple of 4 and has enough time steps for
    every label.

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
        scale *= _reduction(samples, width * scale, height * scale)
    if scale != 1:
        reason += f", scaled by {scale:.2g}"
    min_width = max(width * scale, STEP_WIDTH * _max_steps(samples), 4 * STEP_WIDTH)
    width = min(STEP_WIDTH * math.ceil(min_width / STEP_WIDTH - 1e-6), MAX_WIDTH)
    return image_width or width, image_height or max(round(height * scale), 8), reason


def _reduction(samples, width, height):
    """Returns the smallest factor, at most 1, by which images of a size can be reduced and stay legible."""
    min_width = MIN_CHARACTER_WIDTH * max(len(sample.label) for sample in samples)
    heights = range(MIN_REDUCED_HEIGHT, math.ceil(height), 4)  # both poolings then halve all rows
    factors = [reduced / height for reduced in heights if width * reduced / height >= min_width]
    examples = samples[:: -(-len(samples) // EXAMPLES)] if factors else []
    fitted = [images.load_fitted(one.path, round(width), round(height)) for one in examples]
    for factor in factors:
        if np.median([_detail_loss(pixels, factor) for pixels in fitted]) <= MAX_DETAIL_LOSS:
            return factor
    return 1.0


def _detail_loss(pixels, factor):
    """Returns how much an image changes if it is reduced by a factor and enlarged again.

    Thin strokes lose more than thick ones. The result is the standard deviation of the change, relative to
    that of the image.
    """
    image = Image.fromarray(pixels)
    reduced = image.resize([max(round(side * factor), 1) for side in image.size], Image.Resampling.BILINEAR)
    change = pixels - np.asarray(reduced.resize(image.size, Image.Resampling.BICUBIC), "float32")
    return change.std() / max(pixels.std(), 1.0)


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
