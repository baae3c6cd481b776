"""The image sizes, chosen from the data: one height, and one width or a few."""

import math
from collections import Counter

import numpy as np
from PIL import Image

from snippet_ocr import images
from training.labels import steps_needed

STEP_WIDTH = 4  # of a time step, in pixels: the two convolutional blocks halve the width twice
MIN_WIDTH, MAX_WIDTH, MIN_HEIGHT, MAX_HEIGHT = (
    16,
    640,
    24,
    64,
)  # of an image size that is chosen from the data, in pixels

WIDTH_FACTOR = 1.25  # from a width to the next, if enough images use both
MIN_SHARE = 0.1  # of the images, that use a width: each width has a last, smaller batch, and is compiled
MAX_SQUEEZED = 0.01  # share of the images that may be wider than the largest width

# Images are reduced as far as all of these allow (compared in `benchmarks/RESULTS.md`).
MIN_REDUCED_HEIGHT = 32  # pixels
MIN_CHARACTER_WIDTH = 40  # pixels for each character of the longest label
MAX_DETAIL_LOSS = 0.2  # see `_detail_loss`
EXAMPLES = 50  # images that are reduced to measure the loss of detail


def max_time_steps(image_width=0):
    """Returns the maximum number of time steps of a model. The argument is that of `choose_size`."""
    return (image_width or MAX_WIDTH) // STEP_WIDTH


def choose_size(samples, image_width=0, image_height=0):
    """Chooses the sizes that images are fitted to: each image to the smallest size that it fits.

    If most images have the same size, that size is used for all. Otherwise, the height is the median height.
    The largest width is the one that 99% of the images do not exceed at that height. Smaller widths follow,
    each by a factor of 1.25, but those that less than 10% of the images would use are left out.

    Images are scaled to a height of 24 to 64 pixels and a width of at most 640, and then reduced as far as
    the text stays legible, because the time of a training step is proportional to the number of pixels. Each
    width is a multiple of 4 and has enough time steps for the labels of its images.

    Args:
        samples: a list of `utils.Sample`s.
        image_width, image_height: the size that the user has set, in pixels; 0 for automatic.

    Returns:
        A tuple of an ascending list of widths, the height, both in pixels, and the reason, a string.
    """
    if image_width and image_height:
        return [image_width], image_height, "set by image_width and image_height"
    width, height, share = _typical_size([sample.size for sample in samples])
    if image_width or image_height:
        scale = image_width / width if image_width else image_height / height
    else:
        scale = min(max(1, MIN_HEIGHT / height), MAX_HEIGHT / height, MAX_WIDTH / width)
        scale *= _reduction(samples, width * scale, height * scale)
    height = image_height or max(round(height * scale), 8)
    widths = [image_width] if image_width else _choose_widths(samples, height)
    if share and not image_width:
        min_width = max(STEP_WIDTH * steps_needed(sample.label) for sample in samples)
        widths = [_round_up(max(width * scale, min_width), STEP_WIDTH)]
    reason = f"the size of {share} images" if share else "the median height, and widths that suit the images"
    return widths, height, reason + (f", scaled by {scale:.2g}" if scale != 1 else "")


def _choose_widths(samples, height):
    """Returns an ascending list of widths for images of different widths."""
    own = np.array([sample.size[0] * height / sample.size[1] for sample in samples])  # at that height
    needed = np.array([STEP_WIDTH * steps_needed(sample.label) for sample in samples])
    largest = max(np.quantile(own, 1 - MAX_SQUEEZED, method="higher"), needed.max())
    candidates = sorted({_round_up(largest / WIDTH_FACTOR**power, 2 * STEP_WIDTH) for power in range(20)})
    widths, smaller = [], 0
    for width in candidates:
        users = (smaller < own) & (own <= width)
        useful = np.mean(users) >= MIN_SHARE and needed[users].max() <= width
        if useful or width == candidates[-1]:
            widths.append(width)
            smaller = width
    return widths


def _round_up(width, multiple):
    return min(multiple * math.ceil(max(width, MIN_WIDTH) / multiple - 1e-6), MAX_WIDTH)


def _reduction(samples, width, height):
    """Returns the smallest factor, at most 1, by which images of a size can be reduced and stay legible."""
    min_width = MIN_CHARACTER_WIDTH * max(len(sample.label) for sample in samples)
    heights = range(MIN_REDUCED_HEIGHT, math.ceil(height), 4)  # both poolings then halve all rows
    factors = [reduced / height for reduced in heights if width * reduced / height >= min_width]
    examples = samples[:: -(-len(samples) // EXAMPLES)] if factors else []
    fitted = [images.load_fitted(one.path, [round(width)], round(height)) for one in examples]
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
    """Returns a typical width and height, not rounded, and how many images have exactly that size.

    The latter is a string such as "9 of 10", empty if most images have other sizes.
    """
    ((size, count),) = Counter(sizes).most_common(1)
    if 2 * count > len(sizes):
        return *size, f"{count} of {len(sizes)}"
    height = float(np.median([height for _, height in sizes]))
    widths = [width * height / own_height for width, own_height in sizes]
    return float(np.quantile(widths, 0.9, method="higher")), height, ""
