"""What to label next: a varied sample, then what the reader is unsure of, and a random half to judge it."""

import itertools
from collections import Counter

import numpy as np
from scipy.spatial.distance import cdist
from scipy.stats import binomtest  # `training.metrics` would bring TensorFlow into the server

from training.labels import MIN_CHARACTER_COUNT

RARE = 0.3  # is taken off the confidence of a reading with a rare character or length
MIN_LENGTH_COUNT = 3  # a length that fewer labels have is rare
VARIED = 200  # files of a varied sample
MIN_CHECKS = 20  # random images from which the share of right readings is estimated, if there are as many


def farthest_first(thumbnails, known, count=VARIED):
    """Orders files so that the first `count` are unlike each other and the files of the set `known`.

    `thumbnails` is a dictionary from files to thumbnails, as `pixels.inspect_image` returns them. Each file
    is the farthest from those before it. Source: Gonzalez, "Clustering to minimize the maximum intercluster
    distance", 1985.
    """
    files = list(thumbnails)
    grey = np.frombuffer(b"".join(thumbnails.values()), "uint8").reshape(-1, 8, 2, 16, 2)
    grey = grey.mean(axis=(2, 4), dtype="float32").reshape(-1, 128)  # (images, 128)
    spread = np.maximum(grey.std(axis=1, keepdims=True), 1.0)  # below one grey level is camera noise
    pixels = (grey - grey.mean(axis=1, keepdims=True)) / spread
    labelled = [number for number, file in enumerate(files) if file in known][:count]
    chosen = [] if labelled else [cdist([pixels.mean(axis=0)], pixels).argmin()]  # the most typical image
    nearest = cdist(pixels[labelled or chosen], pixels).min(axis=0)  # (images,)
    while len(chosen) < min(count, len(files)):
        chosen.append(nearest.argmax())
        nearest = np.minimum(nearest, cdist(pixels[chosen[-1:]], pixels)[0])
    return list(dict.fromkeys([*(files[number] for number in chosen), *files]))


def rank(files, readings, labels):
    """Orders files by how much their labels would teach the reader: unsure and rarely seen texts first.

    `readings` is a dictionary from files to pairs of text and confidence; `labels` are all labels so far.
    Returns a list of tuples: the file, and the reason, which the page shows.
    """
    labels = list(labels)
    characters, lengths, rated = Counter("".join(labels)), Counter(map(len, labels)), []
    for file in files:
        text, confidence = readings.get(file, ("", 0.0))
        rating, scarce = confidence - RARE, min(text, key=characters.__getitem__, default="")
        if text and characters[scarce] < MIN_CHARACTER_COUNT:
            reason = f"{scarce!r} is rare: {characters[scarce]} in the labels"
        elif text and lengths[len(text)] < MIN_LENGTH_COUNT:
            reason = f"{len(text)} characters are rare: {lengths[len(text)]} labels"
        else:
            rating, reason = confidence, f"among the least sure readings: {confidence:.0%}"
        rated.append((rating, file, reason))
    return [(file, reason) for _, file, reason in sorted(rated)]


def choose(files, count, readings, labels, varied, generator):
    """Returns what to label next: a list of at most `count` tuples of a file, the kind and the reason.

    Without readings, the order is that of `varied`. With them, every second image is drawn at random, so that
    the share of right readings can be estimated without bias; the others are those of `rank`.
    """
    if not readings:
        files = sorted(files, key=varied.__getitem__)[:count]
        return [(file, "varied", "unlike the images so far") for file in files]
    drawn = generator.sample(files, min(count // 2, len(files)))
    ranked = rank(sorted(set(files) - set(drawn)), readings, labels)[: count - len(drawn)]
    ranked = [(file, "ranked", reason) for file, reason in ranked]
    drawn = [(file, "random", "drawn at random, to estimate how good the reader is") for file in drawn]
    return [one for pair in itertools.zip_longest(ranked, drawn) for one in pair if one]


def learning_curve(decisions):
    """Counts how many readings of images that were drawn at random were right when they were shown.

    `decisions` is `Journal.active`. Returns a dictionary from rounds to lists `[right, shown]`.
    """
    last = {one["file"]: one for one in decisions if one["mode"] == "one"}  # a correction replaces its error
    curve = {}
    for one in last.values():
        if (one["kind"], one["decision"]) == ("random", "label"):
            counts = curve.setdefault(one["round"], [0, 0])
            counts[0] += one["shown"] == one["text"]
            counts[1] += 1
    return dict(sorted(curve.items()))


def estimate(curve):
    """Returns the share of right readings: a tuple of right, shown, and the 95% Wilson interval; or None.

    Rounds before the last one count only until there are `MIN_CHECKS` images: their readers were worse.
    """
    right = shown = 0
    for one_right, one_shown in reversed(curve.values()):
        if shown < MIN_CHECKS:
            right, shown = right + one_right, shown + one_shown
    return (right, shown, *binomtest(right, shown).proportion_ci(0.95, method="wilson")) if shown else None
