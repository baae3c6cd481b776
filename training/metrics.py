"""How good a reader is: exact match, character error rate, confidence intervals, confusions."""

from collections import Counter

import keras
from keras import ops
from rapidfuzz.distance import Levenshtein
from scipy.stats import binomtest

from CTCLayer import ctc_losses, is_image
from snippet_ocr.alphabet import BLANK

MAX_LOSS = 3.0  # of an image in `ClippedLoss`, in nats: the loss of a text with 5% probability


class _MeanOverImages(keras.metrics.Mean):
    """Averages `values(label, logits)`, one per image, over all rows but padding; see `ValidationOnly`.

    Call arguments:
        label: integers of shape `(batch, max_label_length)`, as for `CTCLayer`.
        logits: floats of shape `(batch, steps, classes)`.
    """

    active = True

    def update_state(self, label, logits, sample_weight=None):
        if not _MeanOverImages.active:
            return
        weights = self.counts(label)  # (batch,)
        if sample_weight is not None:
            weights = weights * sample_weight
        super().update_state(self.values(label, logits), weights)

    def counts(self, label):
        """Returns 1.0 for each row that counts, and 0.0 for the others."""
        return is_image(label)


@keras.saving.register_keras_serializable(package="ocr")
class ExactMatch(_MeanOverImages):
    """The share of images, from 0 to 1, whose greedy reading equals the label, character for character.

    Images without text do not count: a model that still answers blank everywhere reads them correctly.
    """

    def __init__(self, name="exact_match", dtype=None):
        super().__init__(name=name, dtype=dtype)

    def counts(self, label):
        return ops.cast(ops.any(ops.greater(label, BLANK), axis=1), "float32")

    def values(self, label, logits):
        lengths = ops.full_like(label[:, 0], ops.shape(logits)[1])  # (batch,)
        decoded, _ = ops.ctc_decode(logits, lengths, mask_index=BLANK)
        text = ops.where(decoded[0] < 0, BLANK, decoded[0])  # (batch, steps); Keras pads with -1
        label = ops.cast(label, text.dtype)
        # Either may be longer, so each is padded by the length of the other.
        padded_label = ops.concatenate([label, ops.zeros_like(text)], axis=1)  # (batch, label + steps)
        padded_text = ops.concatenate([text, ops.zeros_like(label)], axis=1)
        return ops.cast(ops.all(ops.equal(padded_label, padded_text), axis=1), self.dtype)  # (batch,)


@keras.saving.register_keras_serializable(package="ocr")
class ClippedLoss(_MeanOverImages):
    """The mean CTC loss in nats, where each image counts for at most `MAX_LOSS`.

    Without the clipping, a few wrong labels can raise the mean loss while the readings still improve.
    """

    def __init__(self, name="clipped_loss", dtype=None):
        super().__init__(name=name, dtype=dtype)

    def values(self, label, logits):
        return ops.minimum(ctc_losses(label, logits), MAX_LOSS)  # (batch,)


class ValidationOnly(keras.callbacks.Callback):
    """Switches the metrics of this module off in training steps, and removes them from the training's logs.

    Decoding augmented training batches would take time and say little. Keras compiles training and validation
    steps separately, each at its first call, so the switch costs nothing. The callback must be the first.
    """

    def on_train_begin(self, logs=None):
        _MeanOverImages.active = False

    def on_test_begin(self, logs=None):
        _MeanOverImages.active = True

    def on_test_end(self, logs=None):
        _MeanOverImages.active = False

    def on_epoch_end(self, epoch, logs=None):
        for metric in (ExactMatch(), ClippedLoss()):
            logs.pop(metric.name, None)

    def on_train_end(self, logs=None):
        _MeanOverImages.active = True


def character_error_rate(labels, texts):
    """Returns the edits (Levenshtein distance) per character of the labels, over all labels together.

    It exceeds 1 if texts are much longer than their labels. Labels that are all empty count as one character.
    """
    edits = sum(Levenshtein.distance(label, text) for label, text in zip(labels, texts, strict=True))
    return edits / max(sum(map(len, labels)), 1)


def wilson_interval(successes, trials):
    """Returns the bounds of the 95% Wilson score interval of a proportion, from at least one trial.

    It stays within 0 and 1, and has a width even if every trial succeeds. Source: Wilson, "Probable
    Inference, the Law of Succession, and Statistical Inference", 1927.
    """
    interval = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return interval.low, interval.high


def confusions(labels, texts):
    """Returns a `Counter` of pairs `(character of the label, character read)`, in alignments of the fewest
    edits, without missed and invented characters if possible.

    A missed character is read as `""`; an invented one has `""` as its label.
    """
    counts = Counter()
    for label, text in zip(labels, texts, strict=True):
        replaced = [pair for pair in zip(label, text, strict=False) if pair[0] != pair[1]]
        if len(label) == len(text) and len(replaced) == Levenshtein.distance(label, text):
            counts.update(replaced)
            continue
        for edit, in_label, in_text in Levenshtein.editops(label, text):
            expected = "" if edit == "insert" else label[in_label]
            read = "" if edit == "delete" else text[in_text]
            counts[expected, read] += 1
    return counts


def describe_confusions(counts):
    """Returns what `confusions` counts as a line of text, the most frequent first; "none" if it is empty."""
    shown = [(*(one.replace("\n", "↵") or "∅" for one in pair), n) for pair, n in counts.most_common()]
    return ", ".join(f"{label}→{read} {count}" for label, read, count in shown) or "none"


def score(labels, texts, trained=None):
    """Scores a text for each label of a split, at least one.

    Args:
        labels, texts: lists of strings.
        trained: the set of the labels of the training images; None to score the training images themselves.

    Returns:
        A dictionary: the counts `images` and `right` (correct texts), and the fractions `exact_match`, its
        95% Wilson `interval` (a list of two) and `character_error_rate`. With `trained`, also the counts of
        the `unseen` texts, which are the label of no training image; with empty labels, those of `no_text`.
    """
    right = [label == text for label, text in zip(labels, texts, strict=True)]
    row = {
        "images": len(labels),
        "right": sum(right),
        "exact_match": sum(right) / len(labels),
        "interval": list(wilson_interval(sum(right), len(labels))),
        "character_error_rate": character_error_rate(labels, texts),
    }
    if trained is not None:
        known = {*trained, ""}  # images without text are counted separately
        unseen = [correct for label, correct in zip(labels, right, strict=True) if label not in known]
        row["unseen"] = {"images": len(unseen), "right": sum(unseen)}
    if empty := [correct for label, correct in zip(labels, right, strict=True) if not label]:
        row["no_text"] = {"images": len(empty), "right": sum(empty)}
    return row


def read_and_score(reader, samples, trained=None):
    """Reads `utils.Sample`s, at least one, with a `Reader`; returns the score of the readings."""
    return score_readings(samples, reader.read([sample.path for sample in samples], progress=True), trained)


def score_readings(samples, readings, trained=None):
    """Returns the `score` of a list of `utils.Sample`s from the `Reading` of each."""
    return score([sample.label for sample in samples], [reading.text for reading in readings], trained)


def _unseen(row):
    """Returns the part of a score for unseen texts, or an empty string for training images."""
    if "unseen" not in row:
        return ""
    right, images = row["unseen"]["right"], row["unseen"]["images"]
    return f"{right / images:.1%} (of {images})" if images else "none"


def _has_repeated(row):
    """Returns whether the text of an image is also that of a training image."""
    with_text = row["images"] - row.get("no_text", {"images": 0})["images"]
    return "unseen" in row and row["unseen"]["images"] < with_text


def _no_text(row):
    return "{right} of {images}".format(**row["no_text"]) if "no_text" in row else ""


def describe(row):
    """Writes a score, as `score` returns it, as a line of text."""
    low, high = row["interval"]
    return (
        f"{row['right']} of {row['images']} texts correct, exact match {row['exact_match']:.1%} "
        f"(95% interval {low:.1%} to {high:.1%}), character error rate {row['character_error_rate']:.2%}"
        + (f", unseen texts {_unseen(row)}" if _has_repeated(row) else "")
        + (f", no text: {_no_text(row)} read as empty" if "no_text" in row else "")
    )


def table(scores):
    """Writes a dictionary from split names to scores, as `score` returns them, as a text table."""
    rows = scores.values()
    columns = {"unseen texts": _unseen} if any(map(_has_repeated, rows)) else {}
    columns |= {"no text": _no_text} if any(map(_no_text, rows)) else {}
    lines = ["split       images  correct   exact match   95% interval      character error rate"]
    lines[0] += "".join(f"   {title:<15}" for title in columns).rstrip()
    for split, row in scores.items():
        low, high = row["interval"]
        line = (
            f"{split:<11} {row['images']:>6}  {row['right']:>7} {row['exact_match']:>12.2%}   "
            f"{low:>6.2%} – {high:<7.2%} {row['character_error_rate']:>16.2%}    "
        )
        lines.append((line + "".join(f"   {cell(row):<15}" for cell in columns.values())).rstrip())
    return "\n".join(lines)
