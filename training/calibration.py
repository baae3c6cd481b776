"""Measures how reliable confidence is, and finds a threshold that guarantees a precision."""

from typing import NamedTuple

import numpy as np
from scipy.stats import nbinom

from snippet_ocr.alphabet import BLANK
from snippet_ocr.decoding import greedy_decode, log_softmax, text_log_probabilities
from snippet_ocr.terminal import progress

CONFIDENCE_LEVEL = 0.95  # of the guarantee that a threshold gives
BINS = 10  # of a reliability diagram
BATCH = 64  # images whose probabilities are computed at once


class Observations(NamedTuple):
    """The readings of labelled images by a model that was not trained on them."""

    logits: np.ndarray  # (images, steps, classes), or log-probabilities
    texts: list  # of arrays of class numbers, the texts that were read
    right: np.ndarray  # (images,), whether each text equals its label

    def confidences(self):
        """Returns the confidence of each reading, from 0 to 1; shape `(images,)`."""
        return np.minimum(np.exp(self.log_probabilities(self.texts)), 1.0)

    def log_probabilities(self, texts):
        """Returns the log-probability of a text for each image, in nats; shape `(images,)`."""
        # In batches: in float64, all images of a large alphabet would not fit in memory.
        parts = (slice(start, start + BATCH) for start in range(0, len(self.logits), BATCH))
        rows = ((self.logits[part].astype("float64"), texts[part]) for part in parts)
        scores = [text_log_probabilities(log_softmax(logits), texts) for logits, texts in rows]
        return np.concatenate(scores)


def observe(reader, samples):
    """Reads at least one `utils.Sample` that the reader was not trained on; returns `Observations`."""
    size = reader.batch_size * len(reader.widths)
    starts = range(0, len(samples), size)
    shape = len(samples), reader.time_steps, reader.alphabet.number_of_classes
    # The steps that narrow images lack are blank with certainty, which changes the probability of no text.
    logits = np.full(shape, -np.inf, dtype="float32")
    logits[:, :, BLANK] = 0.0
    for start in progress(starts, len(starts), f"batches of {size} images read"):
        prepared = reader.prepare([sample.path for sample in samples[start : start + size]])
        for row, found in zip(logits[start:], reader.log_probabilities(prepared), strict=False):
            row[: len(found)] = found
    texts = greedy_decode(logits)
    pairs = zip(texts, samples, strict=True)
    right = [reader.alphabet.decode(text) == sample.label for text, sample in pairs]
    return Observations(logits, texts, np.array(right))


def log_odds(observations, labels):
    """Returns log(p(reading) / p(label)) of each reading, in nats; float64 of shape `(images,)`."""
    return observations.log_probabilities(observations.texts) - observations.log_probabilities(labels)


def join(observations):
    """Concatenates several `Observations` of the same alphabet and number of time steps."""
    logits, texts, right = zip(*observations, strict=True)
    return Observations(np.concatenate(logits), sum(texts, []), np.concatenate(right))


def reliability_bins(confidences, right):
    """Compares confidences, from 0 to 1, with the share of right readings; both arguments: `(images,)`.

    Returns a list with a dictionary for each bin that is not empty: the number of `images`, their mean
    `confidence`, and `right`, the share that is correct.
    """
    bins = np.minimum((confidences * BINS).astype(int), BINS - 1)  # (images,)
    return [
        {
            "images": int(mask.sum()),
            "confidence": float(confidences[mask].mean()),
            "right": float(right[mask].mean()),
        }
        for mask in (bins == number for number in np.unique(bins))  # each (images,)
    ]


def calibration_error(confidences, right):
    """Returns the expected calibration error of at least one reading, from 0 (perfect) to 1.

    Source: Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015.
    """
    bins = reliability_bins(confidences, right)
    return sum(row["images"] * abs(row["confidence"] - row["right"]) for row in bins) / len(right)


def readings_needed(target, wrong=0):
    """Returns how many readings a guaranteed precision needs if `wrong` of them are wrong: for 0.99, 299.

    With this number, the one-sided 95% lower bound of the precision reaches the target (Clopper & Pearson,
    "The Use of Confidence or Fiducial Limits", Biometrika, 1934).
    """
    # The number of correct readings before wrong reading number `wrong + 1` is negative binomial.
    return int(nbinom.isf(1 - CONFIDENCE_LEVEL, wrong + 1, 1 - target)) + 1 + wrong


def find_threshold(confidences, right, target):
    """Returns the lowest confidence at which `target` precision is guaranteed with 95% confidence, or None.

    Readings are accepted from the most confident down, in a fixed sequence of tests. Test k = 0, 1, 2, …
    accepts `readings_needed(target, k)` readings and passes if at most k of them are wrong; the last test
    accepts all readings. The first test that fails ends the sequence, so the guarantee is wrong with a
    probability of at most 5% (fixed sequence testing: Angelopoulos et al., "Learn then Test", 2021,
    <https://arxiv.org/abs/2110.01052>). The best of all thresholds would give no such guarantee. The
    arguments are those of `reliability_bins`.
    """
    order = np.argsort(-confidences, kind="stable")
    ranked = confidences[order]
    errors = np.cumsum(~right[order])  # among the first 1, 2, … readings
    threshold, wrong = None, 0
    while (accepted := readings_needed(target, wrong)) < len(ranked):
        if errors[accepted - 1] > wrong:
            return threshold
        if ranked[accepted] < ranked[accepted - 1]:  # equal confidences are accepted together
            threshold = float(ranked[accepted - 1])
        wrong += 1
    if len(ranked) and readings_needed(target, int(errors[-1])) <= len(ranked):
        threshold = float(ranked[-1])
    return threshold


def compare(samples, readings):
    """Compares `Reading`s with labels; returns confidences and whether each is right: arrays `(images,)`."""
    right = [sample.label == reading.text for sample, reading in zip(samples, readings, strict=True)]
    return np.array([reading.confidence for reading in readings]), np.array(right)


def fit(confidences, right, target):
    """Finds the threshold that guarantees a target precision; arguments are those of `reliability_bins`.

    Returns a dictionary: the counts `readings` and `right`, `target_precision`, `threshold` (None if there is
    none), and the results of `check` on the same readings.
    """
    threshold = find_threshold(confidences, right, target)
    return {
        "readings": len(right),
        "right": int(right.sum()),
        "target_precision": target,
        "threshold": threshold,
        **check(confidences, right, threshold),
    }


def check(confidences, right, threshold):
    """Measures the confidences, and a threshold (or None), of at least one reading; see `reliability_bins`.

    Returns a dictionary with the expected `calibration_error`. With a threshold, also `accepted`, the share
    of readings that reach it, and their `precision` (None if there are none).
    """
    error = calibration_error(confidences, right)
    if threshold is None:
        return {"calibration_error": error}
    accepted = confidences >= threshold
    precision = float(right[accepted].mean()) if accepted.any() else None
    return {"calibration_error": error, "accepted": float(accepted.mean()), "precision": precision}


def describe(fitted, chose_epoch=False):
    """Returns the result of `fit` as text; images that also chose the epoch, as validation images, guarantee
    nothing.
    """
    target = f"{100 * fitted['target_precision']:g}%"
    source = f"from {fitted['readings']} readings"
    if fitted["threshold"] is not None:
        promise = f"at least {target} are correct, with {CONFIDENCE_LEVEL:.0%} statistical confidence."
        if chose_epoch:
            promise = (
                f"about {target} or more are correct. This is no guarantee, because these images also chose "
                "the best epoch; for one, run `make crossval`, then tools.calibrate."
            )
        threshold = f"threshold {fitted['threshold']:.2%} ({source})"
        return f"{threshold}\nOf the readings that reach the threshold, {promise}"
    needed = readings_needed(fitted["target_precision"])
    if fitted["readings"] < needed:
        reason = (
            f"it needs at least {needed} readings, all correct. Run `make crossval`, add images, or lower "
            f"target_precision: {readings_needed(0.95)} correct readings are enough for 95%"
        )
    else:
        reason = "too many of the most confident readings are wrong"
    return f"no {target} threshold {source}: {reason}"


def describe_check(checked):
    """Returns the result of `check` as text for the user."""
    error = f"{checked['calibration_error']:.2%}"
    text = f"confidence and share of correct readings differ by {error} (expected calibration error)"
    if "accepted" not in checked:
        return text
    precision = "" if checked["precision"] is None else f", {checked['precision']:.1%} of them correct"
    return f"{text}; {checked['accepted']:.1%} of the readings reach the threshold{precision}"
