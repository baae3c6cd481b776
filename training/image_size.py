"""The image sizes, chosen from the data: one height, and one width or a few."""

import math
from collections import Counter

import numpy as np
from PIL import Image

from snippet_ocr import images
from training.labels import MAX_ROWS, steps_needed

STEP_WIDTH = 4  # of a time step, in pixels: the two convolutional blocks halve the width twice
FEATURE_HEIGHT = 4  # of a row of features, in pixels: they halve the height twice, too
MIN_WIDTH, MAX_WIDTH = 16, 640  # pixels, of a size that is chosen from the data
MIN_HEIGHT, MAX_HEIGHT = 24, 64
WIDTH_FACTOR = 1.25  # from a width to the next, if enough images use both
MIN_SHARE_OF_ROWS = 0.05  # of labels with line breaks; fewer may be mistakes
MIN_SHARE = 0.1  # of the images, that use a width: each width has a last, smaller batch, and is compiled
MAX_SQUEEZED = 0.01  # share of the images that may be wider than the largest width

# Images are reduced as far as all of these allow (compared in `benchmarks/RESULTS.md`).
MIN_REDUCED_HEIGHT = 32  # pixels
MIN_CHARACTER_WIDTH = 40  # pixels for each character of the longest label
MAX_DETAIL_LOSS = 0.2  # see `_detail_loss`
EXAMPLES = 50  # images that are reduced to measure the loss of detail
NARROW, MIN_CHARACTERS = 0.3, 4  # a character's width relative to the image's height, of texts of a length


def max_time_steps(image_width=0):
    """Returns the maximum number of time steps of a row of text. The argument is that of `choose_size`."""
    return (image_width or MAX_WIDTH) // STEP_WIDTH


def choose_rows(samples, rows=0):
    """Chooses the number of rows of text in an image: `rows`, if it is not 0, or the most lines of a label.

    Returns:
        A tuple of the number and a message with the reason, which suggests two rows if the labels of
        `samples` have no line breaks and the images are narrow for their texts.

    Raises:
        ValueError: if a label has more lines than `rows`.
    """
    longest = max(samples, key=lambda sample: sample.label.count("\n"))
    lines, several = longest.label.count("\n") + 1, sum("\n" in sample.label for sample in samples)
    if lines > (rows or MAX_ROWS):
        raise ValueError(
            f"Expected labels of at most {rows or MAX_ROWS} lines (rows). Found {lines} in the label of "
            f"{longest.path}: {longest.label!r}. Set rows to 0 or {lines}, or correct the label."
        )
    if rows or several:
        reason = "set by rows" if rows else f"{several} of {len(samples)} labels have line breaks"
        if not rows and several < MIN_SHARE_OF_ROWS * len(samples):
            advice = "if the others show one row, they are cut through the middle: remove the line breaks"
            reason += f", such as that of {longest.path.name}. WARNING: {advice}"
        return rows or lines, f"rows of text in an image: {rows or lines} ({reason})"
    long = [one for one in samples if len(one.label) >= MIN_CHARACTERS]
    widths = [one.size[0] / one.size[1] / len(one.label) for one in long]
    advice = "; the images are narrow for their texts: if they show two rows of text, set rows to 2"
    narrow = len(widths) > 0 and np.median(widths) < NARROW
    return 1, f"rows of text in an image: 1 (no label has a line break{advice if narrow else ''})"


def choose_size(samples, image_width=0, image_height=0, rows=1, base=None):
    """Chooses the sizes that images are fitted to: each image to the smallest size that it fits.

    If most images have the same size, that size is used for all. Otherwise, the height is the median height.
    The largest width is the one that 99% of the images do not exceed at that height. Smaller widths follow,
    each by a factor of 1.25, but those that less than 10% of the images would use are left out.

    Images are scaled to a height of 24 to 64 pixels and a width of at most 640, and then reduced as far as
    the text stays legible, because the time of a training step is proportional to the number of pixels. Each
    width is a multiple of 4 and has enough time steps for the labels of its images. With several rows of
    text, these heights are those of a row, and the height is a multiple of 4 for each row.

    Args:
        samples: a list of `utils.Sample`s.
        image_width, image_height: the size that the user has set, in pixels; 0 for automatic.
        rows: the number of rows of text in an image, which are read one after another.
        base: the base reader, or None. Smaller images are enlarged to its height: it reads such images best.

    Returns:
        A tuple of an ascending list of widths, the height, both in pixels, and the reason, a string.

    Raises:
        ValueError: if the user has set a height that cannot be divided into `rows`.
    """
    if rows > 1 and image_height % (rows * FEATURE_HEIGHT):
        raise ValueError(
            f"Expected an image_height that is a multiple of {rows * FEATURE_HEIGHT} for {rows} rows, or 0. "
            f"Received: {image_height}."
        )
    if image_width and image_height:
        return [image_width], image_height, "set by image_width and image_height"
    # From here on, sizes and heights are those of a row of text.
    samples = [one._replace(size=(one.size[0], one.size[1] / rows)) for one in samples]
    width, height, share = _typical_size([sample.size for sample in samples])
    if image_width or image_height:
        scale = image_width / width if image_width else image_height / rows / height
    else:
        scale = min(max(1, MIN_HEIGHT / height), MAX_HEIGHT / height, MAX_WIDTH / width)
        scale *= _reduction(samples, width * scale, height * scale, rows)
        if base:
            base_rows = max(base.time_steps // (base.widths[-1] // STEP_WIDTH), 1)
            scale = max(scale, min(base.image_height / base_rows / height, MAX_WIDTH / width))
    multiple = 1 if rows == 1 else FEATURE_HEIGHT
    height = image_height / rows or max(multiple * round(height * scale / multiple), 8)
    widths = [image_width] if image_width else _choose_widths(samples, height)
    if share and not image_width:
        min_width = max(STEP_WIDTH * steps_needed(sample.label) for sample in samples)
        widths = [_round_up(max(width * scale, min_width), STEP_WIDTH)]
    reason = f"the size of {share} images" if share else "the median height, and widths that suit the images"
    return widths, round(rows * height), reason + (f", scaled by {scale:.2g}" if scale != 1 else "")


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


def _reduction(samples, width, height, rows):
    """Returns the smallest factor, at most 1, by which rows of a size can be reduced and stay legible."""
    min_width = MIN_CHARACTER_WIDTH * max(len(row) for one in samples for row in one.label.split("\n"))
    heights = range(MIN_REDUCED_HEIGHT, math.ceil(height), 4)  # both poolings then halve all rows
    factors = [reduced / height for reduced in heights if width * reduced / height >= min_width]
    examples = samples[:: -(-len(samples) // EXAMPLES)] if factors else []
    fitted = [images.load_fitted(one.path, [round(width)], round(rows * height)) for one in examples]
    for factor in factors:
        if np.median([_detail_loss(pixels, factor) for pixels in fitted]) <= MAX_DETAIL_LOSS:
            return factor
    return 1.0


def _detail_loss(pixels, factor):
    """Returns how much of its standard deviation an image loses if it is reduced and enlarged again."""
    image = Image.fromarray(pixels)
    reduced = image.resize([max(round(side * factor), 1) for side in image.size], Image.Resampling.BILINEAR)
    change = pixels - np.asarray(reduced.resize(image.size, Image.Resampling.BICUBIC), "float32")
    return change.std() / max(pixels.std(), 1.0)


def _typical_size(sizes):
    """Returns a typical width and height, and a string such as "9 of 10" if most images have it."""
    ((size, count),) = Counter(sizes).most_common(1)
    if 2 * count > len(sizes):
        return *size, f"{count} of {len(sizes)}"
    height = float(np.median([height for _, height in sizes]))
    widths = [width * height / own_height for width, own_height in sizes]
    return float(np.quantile(widths, 0.9, method="higher")), height, ""
