"""What to label next: what the reader is unsure of, and a random half to judge it."""

import itertools
from collections import Counter

from scipy.stats import binomtest  # `training.metrics` would bring TensorFlow into the server

from training.labels import MIN_CHARACTER_COUNT

RARE = 0.3  # is taken off the confidence of a reading with a rare character or length
MIN_LENGTH_COUNT = 3  # a length that fewer labels have is rare
MIN_CHECKS = 20  # random images from which the share of right readings is estimated, if there are as many


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


def choose(files, count, readings, labels, generator):
    """Returns what to label next: a list of at most `count` tuples of a file, the kind and the reason.

    Every second image is drawn at random, so that the share of right readings can be estimated without bias;
    the others are those of `rank`. Without readings, all are drawn at random.
    """
    if not readings:
        return [
            (file, "unread", "drawn at random") for file in generator.sample(files, min(count, len(files)))
        ]
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
