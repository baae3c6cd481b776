"""Figures of what CTC computes: its table on paper, the network, and how images are read."""

import io
from collections import Counter

import keras
import numpy as np
import PIL.Image
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from snippet_ocr import files
from snippet_ocr.alphabet import BLANK
from training.plots import BLUE, GREY, MONOSPACE, ORANGE, caption_of, draw_image, new_figure, show_text

FILM_EPOCHS = (1, 2, 3, 5, 10)
MIN_SHOWN, MAX_SHOWN = 0.1, 16  # the probability of a character that a heat map shows, and their number


def lattice(forward, states):
    """Draws the table of the forward algorithm of CTC, with an arrow for each move of a path.

    Args:
        forward: floats of shape `(steps, states)`: the total probability of all ways into each cell.
        states: the label with blanks (`-`) between and around its characters, a string.
    """
    steps = len(forward)
    longest = [  # move from each state: a path skips a blank only between different characters
        2 if symbol != "-" and states[state + 2 : state + 3] not in ("", symbol) else 1
        for state, symbol in enumerate(states)
    ]
    can_end = np.zeros_like(forward, bool)  # whether a path through a cell can still finish the label
    can_end[-1, -2:] = True
    for step in reversed(range(steps - 1)):
        for state, move in enumerate(longest):
            can_end[step, state] = can_end[step + 1, state : state + move + 1].any()
    figure = new_figure(8, 4.2)
    axis = figure.subplots()
    axis.imshow(np.where(can_end, forward, 0).T, cmap="Blues", aspect="auto", vmax=1.6 * forward.max())
    for step, state in np.argwhere(forward):
        color = "black" if can_end[step, state] else GREY
        text = f"{forward[step, state]:.3f}"
        axis.text(step, state, text, ha="center", va="center", fontsize=10, color=color)
        for move in range(longest[state] + 1):
            ends = (step + 0.77, state + move), (step + 0.23, state)
            if step + 1 < steps and can_end[step + 1, state + move : state + move + 1].any():
                style = {"arrowstyle": "->", "color": ORANGE if move == 2 else GREY, "alpha": 0.8}
                axis.annotate("", *ends, arrowprops=style)
    for state in (len(states) - 1, len(states) - 2):
        axis.add_patch(Rectangle((steps - 1.5, state - 0.5), 1, 1, fill=False, edgecolor=ORANGE, linewidth=2))
    axis.set_xticks(range(steps), range(1, steps + 1))
    axis.set_yticks(range(len(states)), states, family=MONOSPACE, fontsize=12)
    title = "orange: skips a blank; grey cells are too late to finish; the framed cells add up to P(label)"
    axis.set(xlabel="time step", ylabel="label with blanks")
    axis.set_title(title, fontsize=10)
    return figure


def network(model, image, step_width):
    """Draws an image cut into time steps, and the layers that it passes with the shapes of their outputs:
    width, height and features of an image, then steps and features.

    Args:
        model: the training model.
        image: uint8 of shape `(height, width)`.
        step_width: the pixels of a time step.
    """
    kinds = (keras.layers.MaxPooling2D, keras.layers.Dense, keras.layers.Bidirectional)
    layers = [layer for layer in model.layers if isinstance(layer, kinds) or layer.name == "columns"]
    outputs = keras.Model(model.inputs[0], [layer.output for layer in layers])(image[None])
    stages, count = [("image", image.shape[::-1])], Counter()
    for layer, output in zip(layers, outputs, strict=True):
        count[type(layer)] += 1
        name = {"MaxPooling2D": "block", "Bidirectional": "bidirectional_GRU"}.get(type(layer).__name__)
        stages.append((f"{name} {count[type(layer)]}" if name else layer.name, output.shape[1:]))
    figure = new_figure(10, 3)
    above, below = figure.subplots(2, 1, height_ratios=(2, 1))
    draw_image(above, image, f"{step_width} columns of pixels become one time step")
    above.vlines(np.arange(0, image.shape[1], step_width) - 0.5, -0.5, len(image) - 0.5, BLUE, linewidth=0.5)
    for place, (name, shape) in enumerate(stages):
        text = f"{name.replace('_', chr(10))}\n\n{'×'.join(map(str, shape))}"
        box = {"boxstyle": "round", "facecolor": "white", "edgecolor": BLUE}
        options = {"ha": "center", "va": "center", "fontsize": 8, "linespacing": 0.9, "bbox": box}
        if place:
            arrow = {"arrowstyle": "->", "color": GREY}
            below.annotate("", (place - 0.3, 0.5), (place - 0.55, 0.5), arrowprops=arrow)
        below.text(place, 0.5, text, **options)
    below.set(xlim=(-0.5, len(stages) - 0.5), ylim=(0, 1))
    below.set_axis_off()
    return figure


def choose_example(reader, samples):
    """Returns the one of at most 100 samples that three quarters of them are read more confidently than."""
    readings = reader.read([sample.path for sample in samples[:100]])
    order = sorted(range(len(readings)), key=lambda number: readings[number].confidence)
    return samples[order[len(order) // 4]]


def _best_path(probabilities):
    """Returns the best class of each step, and whether it is kept in the text."""
    best = probabilities.argmax(axis=1)  # (steps,)
    return best, (best != BLANK) & (best != np.insert(best[:-1], 0, BLANK))


def _characters(frames):
    """Returns the classes to draw, from left to right: characters that reach `MIN_SHOWN` at some step.

    `frames` are probabilities of shape `(frames, steps, classes)`. Of too many characters, those that the
    last frame shows come first.
    """
    highest = frames.max(axis=0)  # (steps, classes)
    order = np.argsort(-(highest + frames[-1]).max(axis=0), kind="stable")
    shown = [number for number in order if number != BLANK and highest[:, number].max() >= MIN_SHOWN]
    return sorted(shown[:MAX_SHOWN], key=highest.argmax(axis=0).__getitem__)


def _draw_heat_map(above, below, probabilities, image, alphabet, characters, rows):
    """Draws an image, and below it the probability of the blank and of some characters at each time step.

    Args:
        above, below: the two axes.
        probabilities: floats of shape `(steps, classes)`.
        image: uint8 of shape `(height, width)`.
        alphabet, characters: the `Alphabet`, and the classes to draw, a list.
        rows: the number of rows of text. They are drawn next to each other, as the network reads them.
    """
    extent = (-0.5, len(probabilities) - 0.5)
    draw_image(above, np.hstack(np.vsplit(image, rows)), "", aspect="auto", extent=(*extent, 1, 0))
    names = ["blank", *(show_text(alphabet.characters[number - 1]) for number in characters)]
    options = {"cmap": "Blues", "aspect": "auto", "vmin": 0, "vmax": 1, "interpolation": "nearest"}
    shown = probabilities[:, [BLANK, *characters]].T  # (1 + characters, steps)
    below.imshow(shown, extent=(*extent, len(names) - 0.5, -0.5), **options)
    below.set_yticks(range(len(names)), names, family=MONOSPACE, fontsize=9, parse_math=False)


def reading(reader, image, rows=1, label=""):
    """Draws how an image is read: its time steps, their probabilities, the best path and the text.

    Args:
        reader, image: a `Reader`, and uint8 of shape `(height, width)`, as `Reader.prepare` returns it.
        rows: the number of rows of text that the reader reads.
        label: the text that the image shows, for the title.
    """
    probabilities = np.exp(reader.log_probabilities([image])[0])  # (steps, classes)
    (best, kept), characters = _best_path(probabilities), _characters(probabilities[None])
    figure = new_figure(10, 3.2 + 0.2 * len(characters))
    heights = (4, 2 + len(characters), 2.5)
    above, below, path = figure.subplots(3, 1, height_ratios=heights, sharex=True)
    _draw_heat_map(above, below, probabilities, image, reader.alphabet, characters, rows)
    title = f"read {caption_of(reader.read(image))}{f', label {show_text(label)}' if label else ''}"
    above.set_title(title, family=MONOSPACE, fontsize=13, parse_math=False)
    above.vlines(np.arange(len(best)) - 0.5, 0, 1, BLUE, linewidth=0.4, alpha=0.6)
    for step, number in enumerate(best):
        symbol = "-" if number == BLANK else show_text(reader.alphabet.characters[number - 1])
        style = {"ha": "center", "color": ORANGE if kept[step] else GREY, "parse_math": False}
        path.text(step, 0.65, symbol, fontsize=9, **style)
        path.text(step, 0.05, symbol if kept[step] else "", fontsize=14, weight="bold", **style)
    path.set(ylim=(0, 1), xticks=[], yticks=(0.2, 0.75))
    path.set_yticklabels(("text", "best path"), fontsize=9)
    path.spines[:].set_visible(False)
    return figure


def film(frames, image, alphabet, rows=1):
    """Draws the heat maps of an image after the epochs `FILM_EPOCHS` and the last one, with their texts.

    Arguments are those of `_draw_heat_map`; `frames` is `Film.frames`, of shape `(epochs, steps, classes)`.
    """
    shown = [epoch for epoch in FILM_EPOCHS if epoch < len(frames)] + [len(frames)]
    columns, characters = 3, _characters(frames[[epoch - 1 for epoch in shown]])
    lines = -(-len(shown) // columns)
    figure = new_figure(10, lines * (1.5 + 0.16 * len(characters)))
    parts = figure.subfigures(lines, columns, squeeze=False).ravel()
    for part, epoch in zip(parts, shown, strict=False):
        _draw_frame(part, frames, epoch, image, alphabet, characters, rows)
    return figure


def _draw_frame(figure, frames, epoch, image, alphabet, characters, rows):
    best, kept = _best_path(frames[epoch - 1])
    above, below = figure.subplots(2, 1, height_ratios=(4, 2 + len(characters)), sharex=True)
    _draw_heat_map(above, below, frames[epoch - 1], image, alphabet, characters, rows)
    title = f"epoch {epoch}: {show_text(alphabet.decode(best[kept]))}"
    above.set_title(title, family=MONOSPACE, fontsize=10, parse_math=False)
    below.set_xticks([])


def save_film(frames, image, alphabet, rows, path):
    """Saves the heat maps after each epoch as an animated GIF; arguments are those of `film`."""
    pictures, characters = [], _characters(frames)
    for epoch in range(1, len(frames) + 1):
        figure = new_figure(6.4, 2 + 0.2 * len(characters))
        _draw_frame(figure, frames, epoch, image, alphabet, characters, rows)
        picture = io.BytesIO()
        figure.savefig(picture)
        pictures.append(PIL.Image.open(picture).convert("RGB"))
    palette = PIL.Image.fromarray(np.vstack(pictures)).quantize(64)  # the colours of all frames
    pictures = [picture.quantize(palette=palette, dither=PIL.Image.Dither.NONE) for picture in pictures]
    times = [400] * (len(pictures) - 1) + [3000]  # milliseconds
    with files.atomic_write(path) as unfinished:
        pictures[0].save(unfinished, save_all=True, append_images=pictures[1:], duration=times, loop=0)


def progress(checkpoint, film, image, alphabet, rows=1):
    """Draws the training so far: loss, exact match, and how one validation image is read now.

    Args:
        checkpoint, film: the callbacks `Checkpoint` and `Film`.
        image, alphabet, rows: as in `film`.
    """
    figure = new_figure(10, 2.8)
    curves, part = figure.subfigures(1, 2, width_ratios=(3, 2))
    loss_axis, match_axis = curves.subplots(1, 2)
    epochs = [row["epoch"] for row in checkpoint.history]
    for axis, name, title in (
        (loss_axis, "val_clipped_loss", "validation loss, clipped"),
        (match_axis, "val_exact_match", "exact match"),
    ):
        axis.plot(epochs, [row[name] for row in checkpoint.history], "o-", color=ORANGE, markersize=3)
        axis.set(xlabel="epoch", title=title)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    loss_axis.set_yscale("log")
    match_axis.set_ylim(-0.02, 1.02)
    characters = _characters(film.frames)
    _draw_frame(part, film.frames, len(film.frames), image, alphabet, characters, rows)
    return figure
