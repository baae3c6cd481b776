"""How good a reader is: exact match, character error rate, intervals, confusions."""

from collections import Counter

import keras
from keras import ops
from rapidfuzz.distance import Levenshtein
from scipy.stats import binomtest

from CTCLayer import ctc_losses, has_text
from snippet_ocr.alphabet import BLANK

MAX_LOSS = 3.0
"""What one image adds to `ClippedLoss` at most: the loss of a text of 5 % probability."""


@keras.saving.register_keras_serializable(package="ocr")
class ExactMatch(keras.metrics.Mean):
    """The share of images whose greedy reading is the label, character for character.

    Args:
        name: the name of the metric.
        dtype: the dtype of its result.

    Call arguments:
        label: integers of shape `(batch, longest label)`, padded with 0.
        logits: floats of shape `(batch, steps, classes)`.

    Returns:
        A float from 0 to 1.
    """

    def __init__(self, name="exact_match", dtype=None):
        super().__init__(name=name, dtype=dtype)

    def update_state(self, label, logits, sample_weight=None):
        batch, steps = ops.shape(logits)[0], logits.shape[1]
        readings, _ = ops.ctc_decode(logits, ops.full((batch,), steps, dtype="int32"), mask_index=BLANK)
        # Keras fills up readings with -1, labels are filled up with the blank.
        reading = ops.where(readings[0] < 0, BLANK, readings[0])
        label = ops.pad(ops.cast(label, reading.dtype), [[0, 0], [0, steps - label.shape[1]]])
        match = ops.all(ops.equal(label, reading), axis=1)
        super().update_state(ops.cast(match, self.dtype), _weights(label, sample_weight))

    def get_config(self):
        return {"name": self.name, "dtype": self.dtype}


@keras.saving.register_keras_serializable(package="ocr")
class ClippedLoss(keras.metrics.Mean):
    """The mean CTC loss, to which each image adds 3 at most.

    The surer a model becomes, the more it loses on an image with a wrong
    label. One of those among a hundred can let the mean loss rise while the
    reading still gets better. Clipped, it counts as wrong and no more.

    Args:
        name: the name of the metric.
        dtype: the dtype of its result.

    Call arguments:
        label: integers of shape `(batch, longest label)`, padded with 0.
        logits: floats of shape `(batch, steps, classes)`.

    Returns:
        A float from 0 to 3.
    """

    def __init__(self, name="clipped_loss", dtype=None):
        super().__init__(name=name, dtype=dtype)

    def update_state(self, label, logits, sample_weight=None):
        losses = ops.minimum(ctc_losses(label, logits), MAX_LOSS)
        super().update_state(losses, _weights(label, sample_weight))

    def get_config(self):
        return {"name": self.name, "dtype": self.dtype}


def _weights(label, sample_weight):
    return has_text(label) if sample_weight is None else has_text(label) * sample_weight


def exact_match(labels, texts):
    """The share of texts that are their label, character for character.

    Args:
        labels: a list of strings, at least one.
        texts: a list of strings, as many.

    Returns:
        A float from 0 to 1.
    """
    return sum(label == text for label, text in zip(labels, texts, strict=True)) / len(labels)


def character_error_rate(labels, texts):
    """The edits that turn the texts into their labels, per character of the labels.

    Substitutions, insertions and deletions count one each (Levenshtein
    distance), over all labels together.

    Args:
        labels: a list of strings, at least one of them not empty.
        texts: a list of strings, as many.

    Returns:
        A float of 0 or more; 0 is a perfect reading. More than 1 is possible,
        where texts are longer than labels.
    """
    edits = sum(Levenshtein.distance(label, text) for label, text in zip(labels, texts, strict=True))
    return edits / sum(map(len, labels))


def wilson_interval(successes, trials, confidence=0.95):
    """The interval that holds the true rate behind some trials.

    Source: Wilson, "Probable Inference, the Law of Succession, and Statistical
    Inference", 1927. Unlike the normal approximation it stays within 0 and 1
    and has a width even when every trial succeeds.

    Args:
        successes: how many trials succeeded.
        trials: how many there were, 1 or more.
        confidence: how sure the interval is to hold the rate, between 0 and 1.

    Returns:
        A tuple of two floats from 0 to 1: the lower and the upper end.
    """
    interval = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return interval.low, interval.high


def confusions(labels, texts):
    """Counts which characters were read as which others.

    Each text is aligned with its label by the fewest edits.

    Args:
        labels: a list of strings.
        texts: a list of strings, as many.

    Returns:
        A `Counter` of pairs `(character of the label, character read)`. A
        character that was missed is read as `""`; one that was made up stands
        for `""` in the label.
    """
    counts = Counter()
    for label, text in zip(labels, texts, strict=True):
        for edit, in_label, in_text in Levenshtein.editops(label, text):
            expected = "" if edit == "insert" else label[in_label]
            read = "" if edit == "delete" else text[in_text]
            counts[expected, read] += 1
    return counts


def score(labels, texts):
    """Scores the readings of a split.

    Args:
        labels: a list of strings, at least one.
        texts: a list of strings, as many.

    Returns:
        A dictionary of `images` and `right` (counts), `exact_match`, its 95 %
        Wilson `interval` (a list of two) and `character_error_rate`, all rates
        from 0 on as fractions, not per cent.
    """
    right = sum(label == text for label, text in zip(labels, texts, strict=True))
    return {
        "images": len(labels),
        "right": right,
        "exact_match": exact_match(labels, texts),
        "interval": list(wilson_interval(right, len(labels))),
        "character_error_rate": character_error_rate(labels, texts),
    }


def describe(row):
    """Writes one score as a sentence.

    Args:
        row: what `score` returns.

    Returns:
        A string.
    """
    low, high = row["interval"]
    return (
        f"{row['right']} of {row['images']} texts right, exact match {row['exact_match']:.1%} "
        f"(95 % interval {low:.1%} to {high:.1%}), character error rate {row['character_error_rate']:.2%}"
    )


def table(scores):
    """Writes the scores of several splits as a table.

    Args:
        scores: a dictionary from the names of splits to what `score` returns.

    Returns:
        A string of several lines.
    """
    lines = ["split        images   right   exact match   95 % interval      character error rate"]
    for split, row in scores.items():
        low, high = row["interval"]
        lines.append(
            f"{split:<12} {row['images']:>6} {row['right']:>7} {row['exact_match']:>12.2%}   "
            f"{low:>6.2%} – {high:<7.2%} {row['character_error_rate']:>16.2%}"
        )
    return "\n".join(lines)
