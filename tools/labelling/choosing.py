"""What to label next: a varied sample, then what the reader is unsure of, and a random half to judge it."""

import itertools
from collections import Counter

import numpy as np
from scipy.stats import binomtest  # `training.metrics` would bring TensorFlow into the server

from training.labels import MIN_CHARACTER_COUNT

RARE = 0.3  # is taken off the confidence of a reading with a rare character or length
MIN_LENGTH_COUNT = 3  # a length that fewer labels have is rare
MIN_CHECKS = 50  # random images from which the share of right readings is estimated, if there are as many


class VariedSample:
    """Chooses images unlike those chosen so far: farthest-point sampling on small thumbnails.

    Source: Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985.

    Args:
        thumbnails: a dictionary from files to thumbnails, as `pixels.inspect_image` returns them.
    """

    def __init__(self, thumbnails):
        self._files, self._known = list(thumbnails), set()
        self._numbers = {file: number for number, file in enumerate(self._files)}
        grey = np.frombuffer(b"".join(thumbnails.values()), "uint8").reshape(-1, 8, 2, 16, 2)
        grey = grey.mean(axis=(2, 4), dtype="float32").reshape(-1, 128)  # (images, 128)
        spread = np.maximum(grey.std(axis=1, keepdims=True), 1.0)  # below one grey level is camera noise
        self._pixels = (grey - grey.mean(axis=1, keepdims=True)) / spread
        self._distance = -self._to(self._pixels.mean(axis=0))  # the first image is the most typical one

    def _to(self, row):
        return ((self._pixels - row) ** 2).sum(axis=1)  # (images,)

    def _know(self, file):
        distance = self._to(self._pixels[self._numbers[file]])
        self._distance = np.minimum(self._distance, distance) if self._known else distance
        self._known.add(file)

    def choose(self, files, known, count):
        """Returns `count` of `files`, a list, unlike each other and the files that are `known`, a set."""
        for file in known - self._known:
            self._know(file)
        left, chosen = np.array([self._numbers[file] for file in files], int), []
        while len(chosen) < min(count, len(files)):
            place = int(np.argmax(self._distance[left]))
            chosen.append(self._files[left[place]])
            left = np.delete(left, place)
            self._know(chosen[-1])
        return chosen


def rank(files, readings, labels):
    """Orders files by how much their labels would teach the reader: unsure and rarely seen texts first.

    Args:
        files: a list of names.
        readings: a dictionary from names to pairs of text and confidence.
        labels: an iterable of all labels so far.

    Returns:
        A list of tuples: the file, and the reason, which the page shows.
    """
    labels = list(labels)
    characters, lengths, rated = Counter("".join(labels)), Counter(map(len, labels)), []
    for file in files:
        text, confidence = readings.get(file, ("", 0.0))
        scarce = min(text, key=characters.__getitem__, default="")
        if text and characters[scarce] < MIN_CHARACTER_COUNT:
            reason = f"{scarce!r} is rare: {characters[scarce]} in the labels"
        elif text and lengths[len(text)] < MIN_LENGTH_COUNT:
            reason = f"{len(text)} characters are rare: {lengths[len(text)]} labels"
        else:
            rated.append((confidence, file, f"the reader is unsure: {confidence:.0%}"))
            continue
        rated.append((confidence - RARE, file, reason))
    return [(file, reason) for _, file, reason in sorted(rated)]


def choose(files, count, readings, labels, varied, known, generator):
    """Returns what to label next: a list of at most `count` tuples of a file, the kind and the reason.

    Without readings, the sample is varied. With them, every second image is drawn at random, so that the
    share of right readings can be estimated without bias; the others are those of `rank`.
    """
    if not readings:
        return [(file, "varied", "unlike the images so far") for file in varied.choose(files, known, count)]
    drawn = generator.sample(files, min(count // 2, len(files)))
    ranked = rank(sorted(set(files) - set(drawn)), readings, labels)[: count - len(drawn)]
    ranked = [(file, "ranked", reason) for file, reason in ranked]
    drawn = [(file, "random", "drawn at random, to estimate how good the reader is") for file in drawn]
    return [one for pair in itertools.zip_longest(ranked, drawn) for one in pair if one]


def learning_curve(decisions):
    """Returns how many readings were right when they were shown, of images that were drawn at random.

    `decisions` is `Journal.active`. The result is a dictionary from rounds to lists `[right, shown]`.
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
