"""Every figure of the project, one function each.

Right and wrong, training and validation differ by line style, marker and
word as well as by colour, so that a print in black and white says the same.
The colours are those of Okabe and Ito, which the colour-blind tell apart.
"""

import io

import numpy as np
from IPython.display import Image, display
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from snippet_ocr import files
from snippet_ocr.alphabet import BLANK
from snippet_ocr.decoding import character_steps
from snippet_ocr.terminal import in_kernel
from training import calibration

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#767676"
COLUMNS = 4
MAX_PAIRS = 30
"""The pairs of characters that a confusion matrix shows at most."""

EMPTY = "∅"
"""Stands in the confusion matrix for a character that is not there."""


def show(figure, path=None):
    """Shows a figure in a notebook, and saves the very same picture.

    Args:
        figure: a matplotlib `Figure`.
        path: the `Path` of the PNG to write, or None to show it only.
    """
    picture = io.BytesIO()
    figure.savefig(picture, format="png")  # once: a figure that is drawn again may be laid out anew
    if path is not None:
        with files.atomic_write(path) as unfinished:
            unfinished.write_bytes(picture.getvalue())
    if in_kernel():
        display(Image(picture.getvalue()))


def save(figure, path):
    """Saves a figure as a PNG, which is whole or not there."""
    with files.atomic_write(path) as unfinished:
        figure.savefig(unfinished)


def save_all(folder, **figures):
    """Saves figures in a folder, each as a PNG of the name it is given here."""
    for name, figure in figures.items():
        save(figure, folder / f"{name}.png")


def _grid(prepared, captions):
    """Draws images in rows of four, a caption above each; returns the figure and its axes."""
    rows = max(1, -(-len(prepared) // COLUMNS))
    first = prepared[0] if len(prepared) else np.zeros((1, 4))
    height, width = first.shape if first.ndim == 2 else first.shape[1::-1]
    figure = Figure(figsize=(10, rows * (2.4 * height / width + 0.45)), dpi=100, layout="constrained")
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axis in axes[len(prepared) :]:
        axis.set_visible(False)
    for axis, image, caption in zip(axes, prepared, captions, strict=False):
        # A model's input has the width first and dark pixels positive: (width, height, 1).
        shown = image if image.ndim == 2 else -image[:, :, 0].T
        axis.imshow(shown, cmap="gray", aspect="equal")
        axis.set_title(caption, fontsize=11, family="monospace", parse_math=False)
        axis.set(xticks=[], yticks=[])
    return figure, axes


def labelled_grid(prepared, labels):
    """Draws images with their labels.

    Args:
        prepared: float32 of shape `(images, width, height, 1)`.
        labels: a list of as many strings.

    Returns:
        A matplotlib `Figure`.
    """
    return _grid(prepared, labels)[0]


def result_grid(prepared, labels, readings):
    """Draws images with what was read in them; a wrong one is framed and tells its label.

    Args:
        prepared: float32 of shape `(images, width, height, 1)`.
        labels: a list of as many strings.
        readings: a list of as many `reader.Reading`s.

    Returns:
        A matplotlib `Figure`.
    """
    captions = [
        f"{reading.text or EMPTY} {reading.confidence:.0%}"
        + ("" if reading.text == label else f"\n✗ label {label}")
        for label, reading in zip(labels, readings, strict=True)
    ]
    figure, axes = _grid(prepared, captions)
    for axis, label, reading in zip(axes, labels, readings, strict=False):
        if reading.text != label:
            axis.title.set_color(ORANGE)
            for spine in axis.spines.values():
                spine.set(edgecolor=ORANGE, linewidth=3)
    return figure


def schedule(rates):
    """Draws the learning rate of each epoch.

    Args:
        rates: a list of the learning rates, that of the first epoch first.

    Returns:
        A matplotlib `Figure`.
    """
    figure = Figure(figsize=(6, 3), dpi=100, layout="constrained")
    axis = figure.subplots()
    axis.plot(range(1, len(rates) + 1), rates, color=BLUE, marker=".")
    axis.set(xlabel="epoch", ylabel="learning rate", ylim=(0, None))
    axis.ticklabel_format(axis="y", style="sci", scilimits=(-3, -3))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    return figure


def learning_curves(history, best_epoch):
    """Draws loss and exact match over the epochs.

    Args:
        history: a list with a dictionary for each epoch, as `Checkpoint.history`.
        best_epoch: the epoch whose weights were kept, counted from 1.

    Returns:
        A matplotlib `Figure`.
    """
    figure = Figure(figsize=(10, 3.6), dpi=100, layout="constrained")
    loss_axis, match_axis = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    curves = (("training (augmented)", "", BLUE, "--", "."), ("validation", "val_", ORANGE, "-", "o"))
    for label, prefix, colour, line, marker in curves:
        style = {"label": label, "color": colour, "linestyle": line, "marker": marker, "markersize": 4}
        loss_axis.plot(epochs, [row[f"{prefix}loss"] for row in history], **style)
        match_axis.plot(epochs, [row[f"{prefix}exact_match"] for row in history], **style)
    loss_axis.set(xlabel="epoch", ylabel="CTC loss, mean per image (nats)", yscale="log")
    match_axis.set(xlabel="epoch", ylabel="exact match", ylim=(-0.02, 1.02))
    match_axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    for axis in (loss_axis, match_axis):
        axis.axvline(best_epoch, color=GREY, linestyle=":", label=f"best epoch ({best_epoch})")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
        axis.legend()
    return figure


def confusion_matrix(confusions):
    """Draws how often each character was read as each other one, for the most frequent pairs.

    Args:
        confusions: a `Counter` of pairs `(character of the label, character
            read)`, with `""` for none, as `metrics.confusions` gives it.

    Returns:
        A matplotlib `Figure` of those characters that were confused.
    """
    shown = dict(confusions.most_common(MAX_PAIRS))
    expected = sorted({pair[0] for pair in shown})
    read = sorted({pair[1] for pair in shown})
    counts = np.array([[confusions[row, column] for column in read] for row in expected])
    # Never narrower than the title and the axis' names need.
    size = max(3.2, 1.6 + 0.42 * len(read)), max(2.4, 1.5 + 0.42 * len(expected))
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    axis = figure.subplots()
    if not confusions:
        axis.text(0.5, 0.5, "no character was misread", ha="center", va="center")
        axis.set_axis_off()
        return figure
    more = len(confusions) - len(shown)
    title = "Misread characters" + (f",\nwithout {more} rarer pairs" if more else "")
    axis.imshow(counts, cmap="Blues", vmin=0, vmax=counts.max() * 1.5)
    for row, column in np.argwhere(counts):
        axis.text(column, row, counts[row, column], ha="center", va="center")
    axis.set_xticks(range(len(read)), [character or EMPTY for character in read], family="monospace")
    axis.set_yticks(range(len(expected)), [character or EMPTY for character in expected], family="monospace")
    axis.set(xlabel="read", ylabel="label", title=title)
    return figure


def reliability(observations, temperature, threshold=None):
    """Draws what confidence is worth: a reliability diagram, and precision over the share that is accepted.

    Args:
        observations: `calibration.Observations`, at least one.
        temperature: the reader's temperature.
        threshold: the reader's threshold, or None.

    Returns:
        A matplotlib `Figure`.
    """
    figure = Figure(figsize=(10, 3.6), dpi=100, layout="constrained")
    bin_axis, share_axis = figure.subplots(1, 2)
    bin_axis.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="as often right as sure")
    right, confidences = observations.right, observations.confidences(temperature)
    for shown, label, colour, style in (
        (observations.confidences(1.0), "before the temperature", BLUE, "x--"),
        (confidences, f"after (temperature {temperature:.2f})", ORANGE, "o-"),
    ):
        bins = calibration.reliability_bins(shown, right)
        shares = [one["right"] for one in bins]
        bin_axis.plot([one["confidence"] for one in bins], shares, style, color=colour, label=label)
    for one in bins:
        bin_axis.annotate(
            f"{one['images']} ",
            (one["confidence"], one["right"]),
            xytext=(-6, 0),
            textcoords="offset points",
            horizontalalignment="right",
            verticalalignment="center",
        )
    order = np.argsort(-confidences, kind="stable")
    accepted = np.arange(1, len(order) + 1)
    precision = np.cumsum(right[order]) / accepted
    share_axis.plot(accepted / len(order), precision, color=BLUE, label="precision of the surest readings")
    if threshold is not None:
        share = (confidences >= threshold).mean()
        share_axis.axvline(share, color=ORANGE, linestyle="--", label=f"threshold: {share:.0%} accepted")
    bin_axis.set(xlabel="confidence", ylabel="share that is right", xlim=(-0.02, 1.02), ylim=(-0.05, 1.05))
    share_axis.set(xlabel="accepted share", ylabel="precision", xlim=(0, 1.01))
    share_axis.set_ylim(min(0.94, precision.min() - 0.02), 1.005)
    for axis in (bin_axis, share_axis):
        axis.xaxis.set_major_formatter(PercentFormatter(1.0))
        axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axis.grid(alpha=0.3)
        axis.legend(loc="lower right" if axis is share_axis else "upper left")
    return figure


def character_positions(reader, sources, inches=3.4, top=1):
    """Draws where in images each character is read.

    Args:
        reader: a `reader.Reader`.
        sources: a list of images, as `Reader.read` takes them, at least one.
        inches: the width of each image in the figure.
        top: as in `Reader.read`: with more than 1, texts are found as they are there.

    Returns:
        A matplotlib `Figure`: under each image the probabilities of its
        characters and of the blank, step by step; above each character its
        confidence if it is below 99.5 %.
    """
    prepared = reader.prepare(sources)
    readings = reader.read_prepared(prepared, top=top, characters=True)
    figure = Figure(figsize=(inches * len(sources), 3.0), dpi=100, layout="constrained")
    axes = figure.subplots(2, len(sources), squeeze=False, height_ratios=(1, 1.6))
    rows = reader.log_probabilities(prepared)
    for (above, below), image, row, reading in zip(axes.T, prepared, rows, readings, strict=True):
        # Each step stands under the pixels that it stands for.
        extent = (-0.5, len(row) - 0.5, image.shape[1], 0)
        above.imshow(image[:, :, 0].T, cmap="gray_r", aspect="auto", extent=extent)
        caption = f"{reading.text or EMPTY} {reading.confidence:.0%}"
        above.set_title(caption, fontsize=11, family="monospace", parse_math=False)
        above.set(xticks=[], yticks=[])
        classes = reader.alphabet.encode(reading.text)
        below.plot(np.exp(row[:, BLANK]), color=GREY, linestyle=":")
        for number in set(classes):
            below.plot(np.exp(row[:, number]), color=BLUE)
        places = zip(character_steps(row, classes), reading.text, reading.character_confidences, strict=True)
        for step, character, confidence in places:
            doubt = f"{confidence:.0%}\n" if confidence < 0.995 else ""
            below.text(step, 1.05, doubt + character, ha="center", va="bottom", parse_math=False)
        below.set(xlim=extent[:2], ylim=(0, 1.5), yticks=(0, 0.5, 1), xlabel="time step")
    axes[1, 0].set_ylabel("probability\n(blank dotted)")
    return figure
