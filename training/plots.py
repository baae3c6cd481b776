"""Figures for colour and for black and white; each function but `show` and `save_all` returns a `Figure`."""

import base64
import io
import textwrap
from collections import Counter

import matplotlib
import numpy as np
import PIL.Image
from IPython.display import display
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from snippet_ocr import files
from snippet_ocr.terminal import in_kernel
from training import calibration
from training.labels import MIN_CHARACTER_COUNT

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#767676"
COLUMNS = 4  # of a grid of images
MAX_PAIRS = 30  # of characters, in a confusion matrix
MAX_CHARACTERS = 60  # whose counts are drawn
EMPTY = "∅"  # stands for an empty text, and for a missed or invented character
OTHER_SCRIPTS = [  # fonts of Linux, Windows and macOS, used for characters that matplotlib's font lacks
    *("Noto Sans CJK JP", "Noto Sans Devanagari", "Noto Sans Thai", "Noto Sans Bengali", "Noto Sans Tamil"),
    *("Microsoft YaHei", "Malgun Gothic", "Nirmala UI", "Leelawadee UI"),
    *("Hiragino Sans", "Apple SD Gothic Neo", "Kohinoor Devanagari", "Thonburi"),
]
_installed = [name for name in OTHER_SCRIPTS if name in font_manager.get_font_names()]
matplotlib.rcParams["font.family"] = ["sans-serif", *_installed]
MONOSPACE = ["monospace", *_installed]


def show(figure, description, path=None):
    """Shows a figure with a description for screen readers, and saves it as a PNG if a `Path` is given."""
    drawn, picture = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn)  # once, because the layout may change when it is drawn again
    # Greys and the shades of two colours fit in 256 colours, and take less than half of the space.
    reduced = PIL.Image.open(drawn).convert("RGB").quantize(256, dither=PIL.Image.Dither.NONE)
    reduced.save(picture, "PNG", optimize=True)
    if path is not None:
        with files.atomic_write(path) as unfinished:
            unfinished.write_bytes(picture.getvalue())
    if in_kernel():
        content = {"image/png": base64.b64encode(picture.getvalue()).decode(), "text/plain": description}
        display(content, metadata={"image/png": {"alt": description}}, raw=True)


def save_all(folder, **figures):
    """Saves figures as PNG files in a folder, each under the name of its keyword."""
    for name, figure in figures.items():
        with files.atomic_write(folder / f"{name}.png") as unfinished:
            figure.savefig(unfinished)


def new_figure(width, height):
    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def draw_image(axis, image, caption, **options):
    axis.imshow(image, cmap="gray", **options)
    axis.set_title(caption, fontsize=11, family=MONOSPACE, parse_math=False)
    axis.set(xticks=[], yticks=[])


def show_text(text):
    """Returns a text as it is shown in one line, with symbols for line breaks and for an empty text."""
    return text.replace("\n", "↵") or EMPTY


def caption_of(reading):
    return f"{show_text(reading.text)} {reading.confidence:.0%}"


def labelled_grid(images, labels):
    """Draws at least one image, uint8 of shape `(height, width)`, in rows of four, each below its label."""
    rows = -(-len(images) // COLUMNS)
    shares = [image.shape[0] / image.shape[1] for image in images]  # wider images than the median are smaller
    figure = new_figure(10, rows * (2.4 * float(np.median(shares)) + 0.45))
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axis in axes[len(images) :]:
        axis.set_visible(False)
    for axis, image, label in zip(axes[: len(images)], images, labels, strict=True):
        draw_image(axis, image, show_text(label))
    return figure


def data_overview(samples, images, labels):
    """Draws at most ten images and labels, and the lengths, sizes and characters of all `samples`."""
    figure = new_figure(10, 6.5)
    above, below = figure.subfigures(2, 1, height_ratios=(1, 2))
    for number, axis in enumerate(above.subplots(2, 5).ravel()):
        axis.set_visible(number < len(images))
        if number < len(images):
            caption = textwrap.shorten(show_text(labels[number]), 16, placeholder="…")
            draw_image(axis, images[number], caption)
    axes = below.subplot_mosaic([["lengths", "sizes"], ["characters", "characters"]])
    length_axis, size_axis = axes["lengths"], axes["sizes"]
    lengths = Counter(len(sample.label) for sample in samples)
    length_axis.bar(lengths.keys(), lengths.values(), color=BLUE)
    length_axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    length_axis.set(xlabel="characters in a label", ylabel="images")
    length_axis.set_xlim(min(lengths) - 1, max(lengths) + 1)
    sizes = Counter(sample.size for sample in samples)
    areas = [20 + 400 * count / len(samples) for count in sizes.values()]
    size_axis.scatter(*zip(*sizes, strict=True), s=areas, color=BLUE, alpha=0.5)
    limits = [(0, 1.2 * side) for side in map(max, zip(*sizes, strict=True))]
    size_axis.set(xlabel="width of an image (pixels)", ylabel="height", xlim=limits[0], ylim=limits[1])
    _draw_counts(axes["characters"], Counter("".join(sample.label for sample in samples)))
    return figure


def _draw_counts(axis, counts):
    pairs = sorted(counts.items())
    if len(pairs) > MAX_CHARACTERS:  # the rarest ones need attention
        pairs = sorted(pairs, key=lambda pair: pair[1])[:MAX_CHARACTERS]
    bars = axis.bar(range(len(pairs)), [count for _, count in pairs], color=BLUE)
    axis.set_xticks(range(len(pairs)), [repr(c) if c.isspace() else c for c, _ in pairs], parse_math=False)
    for bar, (_, count) in zip(bars, pairs, strict=True):
        if count < MIN_CHARACTER_COUNT:
            bar.set(color=ORANGE, hatch="//", edgecolor="white")
    more = f"; the {MAX_CHARACTERS} rarest of {len(counts)}" if len(counts) > MAX_CHARACTERS else ""
    axis.set(xlabel=f"character{more} (hatched: fewer than {MIN_CHARACTER_COUNT})")
    smallest, largest = pairs and min(counts.values()), pairs and max(counts.values())
    if largest > 10 * smallest:
        axis.set(yscale="log", ylim=(0.5, None))
    axis.set(ylabel="count")


def result_grid(images, labels, readings):
    """Draws images with their `Reading`s. A wrong reading has a frame and shows the label."""
    figure = labelled_grid(images, map(caption_of, readings))
    for axis, label, reading in zip(figure.axes[: len(images)], labels, readings, strict=True):
        if reading.text != label:
            axis.title.set(text=f"{caption_of(reading)}\n✗ label {show_text(label)}", color=ORANGE)
            for spine in axis.spines.values():
                spine.set(edgecolor=ORANGE, linewidth=3)
    return figure


def learning_curves(history, best_epoch, monitor="val_clipped_loss"):
    """Draws the losses, exact match and learning rate of each epoch of `Checkpoint.history`.

    `best_epoch` is counted from 1, and chosen by the loss `monitor`. The first epoch with a validation image
    read correctly is marked.
    """
    figure = new_figure(10, 3.6)
    axes = loss_axis, match_axis, rate_axis = figure.subplots(1, 3, width_ratios=(3, 3, 2))
    epochs = [row["epoch"] for row in history]
    for axis, name, label, colour, style in (
        (loss_axis, "loss", "training (augmented)", BLUE, ".--"),
        (loss_axis, "val_loss", "validation", GREY, "."),
        (loss_axis, "val_clipped_loss", "validation, clipped", ORANGE, "o-"),
        (match_axis, "val_exact_match", "validation", ORANGE, "o-"),
        (rate_axis, "learning_rate", "learning rate", BLUE, ".-"),
    ):
        label += ": decides" if name == monitor else ""
        axis.plot(epochs, [row[name] for row in history], style, color=colour, label=label, markersize=4)
    loss_axis.set(xlabel="epoch", ylabel="CTC loss, mean per image (nats)", yscale="log")
    match_axis.set(xlabel="epoch", ylabel="exact match", ylim=(-0.02, 1.02))
    match_axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    rate_axis.set(xlabel="epoch", ylabel="learning rate", ylim=(0, None))
    rate_axis.ticklabel_format(axis="y", style="sci", scilimits=(-3, -3))
    if taken_off := next((row["epoch"] for row in history if row["val_exact_match"] > 0), None):
        style = {"color": BLUE, "linestyle": "--", "linewidth": 0.8}
        match_axis.axvline(taken_off, label=f"take-off ({taken_off})", **style)
    for axis in (loss_axis, match_axis):
        axis.axvline(best_epoch, color=GREY, linestyle=":", label=f"best epoch ({best_epoch})")
        axis.legend(fontsize=8)
    for axis in axes:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    return figure


def confusion_matrix(confusions):
    """Draws the most frequent of the pairs of characters that `metrics.confusions` returns."""
    shown = dict(confusions.most_common(MAX_PAIRS))
    expected = sorted({pair[0] for pair in shown})
    read = sorted({pair[1] for pair in shown})
    counts = np.array([[confusions[row, column] for column in read] for row in expected])
    # The minimum leaves space for the title and the axis labels.
    figure = new_figure(max(3.2, 1.6 + 0.42 * len(read)), max(2.4, 1.5 + 0.42 * len(expected)))
    axis = figure.subplots()
    if not confusions:
        axis.text(0.5, 0.5, "no character was misread", ha="center", va="center")
        axis.set_axis_off()
        return figure
    more = len(confusions) - len(shown)
    title = "Misread characters" + (f"\n({more} rarer pairs not shown)" if more else "")
    axis.imshow(counts, cmap="Blues", vmin=0, vmax=counts.max() * 1.5)
    for row, column in np.argwhere(counts):
        axis.text(column, row, counts[row, column], ha="center", va="center")
    axis.set_xticks(range(len(read)), list(map(show_text, read)), family=MONOSPACE)
    axis.set_yticks(range(len(expected)), list(map(show_text, expected)), family=MONOSPACE)
    axis.set(xlabel="read", ylabel="label", title=title)
    return figure


def reliability(confidences, right, threshold):
    """Draws a reliability diagram, and the precision over the share of readings that a threshold accepts.

    Arguments are those of `calibration.check`.
    """
    figure = new_figure(10, 3.6)
    bin_axis, precision_axis = figure.subplots(1, 2)
    _draw_bins(bin_axis, calibration.reliability_bins(confidences, right))
    _draw_precision(precision_axis, confidences, right, threshold)
    for axis in (bin_axis, precision_axis):
        axis.xaxis.set_major_formatter(PercentFormatter(1.0))
        axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axis.grid(alpha=0.3)
    return figure


def _draw_bins(axis, bins):
    axis.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfect calibration")
    points = [row["confidence"] for row in bins], [row["right"] for row in bins]
    areas = [30 + 300 * row["images"] / sum(row["images"] for row in bins) for row in bins]
    axis.scatter(*points, areas, color=BLUE, alpha=0.7, label="readings of similar confidence")
    for row in bins:
        point, text = (row["confidence"], row["right"]), f"{row['images']} "
        axis.annotate(text, point, xytext=(-6, 0), textcoords="offset points", ha="right", va="center")
    axis.set(xlabel="confidence", ylabel="share of correct readings", xlim=(-0.02, 1.02), ylim=(-0.05, 1.05))
    axis.legend(loc="best")


def _draw_precision(axis, confidences, right, threshold):
    accepted = np.arange(1, len(right) + 1)
    precision = np.cumsum(right[np.argsort(-confidences, kind="stable")]) / accepted
    axis.plot(accepted / len(right), precision, color=BLUE, label="precision of the most confident readings")
    if threshold is not None:
        share = (confidences >= threshold).mean()
        axis.axvline(share, color=ORANGE, linestyle="--", label=f"threshold: {share:.0%} accepted")
    axis.set(xlabel="share of readings accepted", ylabel="precision", xlim=(0, 1.01))
    axis.set_ylim(min(0.94, precision.min() - 0.02), 1.005)
    axis.legend(loc="lower right")
