"""Confidence that one can act on: a temperature, and a threshold that keeps a promise."""

import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.stats import beta

from snippet_ocr.decoding import greedy_decode, log_softmax, text_log_probabilities
from snippet_ocr.terminal import progress

TEMPERATURES = (0.5, 5.0)
"""The bounds of the temperature."""

PRIOR_STD = 0.25
"""The standard deviation of the temperature's logarithm, as long as nothing is known of the readings."""

CONFIDENCE_LEVEL = 0.95
"""How sure the promise of a threshold is."""

BINS = 10
"""The bins of a reliability diagram, each a tenth of confidence."""


class Observations(NamedTuple):
    """Readings of labelled images by a model that was not trained on them.

    Attributes:
        log_probabilities: floats of shape `(images, steps, classes)`, before any temperature.
        texts: a list of arrays of class numbers, what was read.
        right: booleans of shape `(images,)`.
    """

    log_probabilities: np.ndarray
    texts: list
    right: np.ndarray

    def confidences(self, temperature):
        """The confidence of each reading at a temperature: floats from 0 to 1, of shape `(images,)`."""
        tempered = log_softmax(self.log_probabilities / temperature)
        return np.minimum(np.exp(text_log_probabilities(tempered, self.texts)), 1.0)


def observe(reader, samples):
    """Reads labelled images that a model was not trained on.

    Args:
        reader: a `Reader`.
        samples: a list of `utils.Sample`s, at least one.

    Returns:
        `Observations`.
    """
    size = reader.batch_size
    batches = [samples[start : start + size] for start in range(0, len(samples), size)]
    log_probabilities = np.concatenate(
        [
            reader.log_probabilities(reader.prepare([sample.path for sample in batch]), temperature=1.0)
            for batch in progress(batches, len(batches), f"batches of {size} images read")
        ]
    )
    texts = greedy_decode(log_probabilities)
    right = [
        reader.alphabet.decode(text) == sample.label for text, sample in zip(texts, samples, strict=True)
    ]
    return Observations(log_probabilities, texts, np.array(right, dtype=bool))


def log_odds(observations, labels):
    """How many times as probable as its label a reading is, as a natural logarithm.

    Args:
        observations: `Observations`.
        labels: a list of as many texts, each a sequence of class numbers.

    Returns:
        float64 of shape `(images,)`; 0 where the label is what was read.
    """
    log_probabilities = observations.log_probabilities
    read = text_log_probabilities(log_probabilities, observations.texts)
    return read - text_log_probabilities(log_probabilities, labels)


def join(observations):
    """Puts several `Observations` of the same alphabet and size together."""
    log_probabilities, texts, right = zip(*observations, strict=True)
    return Observations(np.concatenate(log_probabilities), sum(texts, []), np.concatenate(right))


def fit_temperature(observations):
    """Finds the temperature at which confidence tells best how often readings are right.

    Logits are divided by the temperature before the softmax: above 1, the
    model becomes less sure of itself, and the best path stays the same (Guo
    et al., "On Calibration of Modern Neural Networks", ICML 2017). The
    temperature minimises the log loss of "this reading is right", but few
    readings say little, so two things hold it back. Right and wrong are drawn
    a little towards each other, as Platt does ("Probabilistic Outputs for
    Support Vector Machines", 1999): a hundred right readings of a hundred do
    not mean certainty. And the temperature's logarithm is expected within
    `PRIOR_STD` of 0: a single wrong reading does not double it.

    Args:
        observations: `Observations`.

    Returns:
        A float from 0.5 to 5.
    """
    right = int(observations.right.sum())
    wrong = len(observations.right) - right
    wanted = np.where(observations.right, (right + 1) / (right + 2), 1 / (wrong + 2))

    def log_loss(logarithm):
        confidences = np.clip(observations.confidences(math.exp(logarithm)), 1e-12, 1 - 1e-12)
        losses = -wanted * np.log(confidences) - (1 - wanted) * np.log1p(-confidences)
        return losses.sum() + (logarithm / PRIOR_STD) ** 2 / 2  # a normal distribution, before any reading

    bounds = [math.log(temperature) for temperature in TEMPERATURES]
    return float(math.exp(minimize_scalar(log_loss, bounds=bounds, method="bounded").x))


def reliability_bins(confidences, right):
    """Compares confidence with how often readings are right, in ten bins of confidence.

    Args:
        confidences: floats from 0 to 1.
        right: booleans, as many.

    Returns:
        A list of dictionaries, one for each bin that is not empty: `images`,
        the mean `confidence`, and `right`, a share.
    """
    confidences, right = np.asarray(confidences), np.asarray(right, dtype=bool)
    bins = np.minimum((confidences * BINS).astype(int), BINS - 1)
    return [
        {
            "images": int((bins == number).sum()),
            "confidence": float(confidences[bins == number].mean()),
            "right": float(right[bins == number].mean()),
        }
        for number in np.unique(bins)
    ]


def calibration_error(confidences, right):
    """The expected calibration error: how far confidence is from the share that is right, on average.

    Source: Naeini et al., "Obtaining Well Calibrated Probabilities Using
    Bayesian Binning", AAAI 2015.

    Args:
        confidences: floats from 0 to 1, at least one.
        right: booleans, as many.

    Returns:
        A float from 0 to 1; 0 is perfect.
    """
    bins = reliability_bins(confidences, right)
    return sum(one["images"] * abs(one["confidence"] - one["right"]) for one in bins) / len(right)


def lower_bound(right, readings):
    """The least precision that so many right readings are compatible with.

    The exact one-sided bound for a binomial share at 95 % (Clopper & Pearson,
    "The Use of Confidence or Fiducial Limits", Biometrika, 1934).

    Args:
        right: how many readings were right.
        readings: how many there were, 1 or more.

    Returns:
        A float from 0 to 1.
    """
    return float(beta.ppf(1 - CONFIDENCE_LEVEL, right, readings - right + 1)) if right else 0.0


def readings_needed(target, wrong=0):
    """How many readings it takes to promise a precision, if so many of them are wrong.

    Args:
        target: the precision, above 0 and below 1.
        wrong: the wrong readings among them.

    Returns:
        An integer.
    """
    most = 1
    while lower_bound(most, most + wrong) < target:
        most *= 2
    least = most // 2
    while most - least > 1:
        middle = (least + most) // 2
        if lower_bound(middle, middle + wrong) < target:
            least = middle
        else:
            most = middle
    return most + wrong


def find_threshold(confidences, right, target):
    """Finds a confidence from which on a precision can be promised.

    Readings are accepted from the surest on. None of the first
    `readings_needed(target, 0)` may be wrong, one of the first
    `readings_needed(target, 1)`, and so on; last come all readings together.
    The first of these tests that fails ends the search, so that the promise is
    wrong with a chance of one in twenty at most, however many tests there were
    (fixed sequence testing: Angelopoulos et al., "Learn then Test", 2021,
    <https://arxiv.org/abs/2110.01052>). Looking for the best of all
    thresholds would find one by luck more often than that.

    Args:
        confidences: floats from 0 to 1.
        right: booleans, as many.
        target: the share of accepted readings that is to be right, above 0 and below 1.

    Returns:
        A float from 0 to 1, or None if the readings cannot support the promise.
    """
    order = np.argsort(-np.asarray(confidences), kind="stable")
    ranked, counts = np.asarray(confidences)[order], np.cumsum(np.asarray(right)[order])
    threshold, wrong = None, 0
    while (accepted := readings_needed(target, wrong)) < len(ranked):
        if accepted - counts[accepted - 1] > wrong:
            return threshold
        if ranked[accepted] < ranked[accepted - 1]:  # those of one confidence are accepted together
            threshold = float(ranked[accepted - 1])
        wrong += 1
    if len(ranked) and lower_bound(int(counts[-1]), len(ranked)) >= target:
        threshold = float(ranked[-1])
    return threshold


def fit(observations, target):
    """Calibrates: finds the temperature and the threshold, and tells what they are worth.

    Args:
        observations: `Observations`, at least one.
        target: the target precision of the threshold, above 0 and below 1.

    Returns:
        A dictionary that JSON can hold: `readings`, `right`, `temperature`,
        `target_precision`, `threshold` (None if it cannot be promised), and
        what `check` returns, on these very readings.
    """
    temperature = fit_temperature(observations)
    threshold = find_threshold(observations.confidences(temperature), observations.right, target)
    return {
        "readings": len(observations.right),
        "right": int(observations.right.sum()),
        "temperature": temperature,
        "target_precision": target,
        "threshold": threshold,
        **check(observations, temperature, threshold),
    }


def calibrate(reader, samples, target):
    """Gives a reader its temperature and its threshold, by greedy reading without a constraint.

    Args:
        reader: the `Reader`; it is changed.
        samples: a list of `utils.Sample`s that it was not trained on, at least one.
        target: as in `fit`.

    Returns:
        What `fit` returns.
    """
    fitted = fit(observe(reader, samples), target)
    reader.temperature, reader.threshold = fitted["temperature"], fitted["threshold"]
    return fitted


def check(observations, temperature, threshold):
    """Tells how well a calibration fits readings.

    Args:
        observations: `Observations`, at least one.
        temperature: the temperature of the reader.
        threshold: its threshold, or None.

    Returns:
        A dictionary: the expected `calibration_error`, `before` and `after`
        the temperature; with a threshold also `accepted`, the share of the
        readings that reach it, and their `precision` (None if none does).
    """
    confidences, right = observations.confidences(temperature), observations.right
    errors = {
        "before": calibration_error(observations.confidences(1.0), right),
        "after": calibration_error(confidences, right),
    }
    if threshold is None:
        return {"calibration_error": errors}
    accepted = confidences >= threshold
    return {
        "calibration_error": errors,
        "accepted": float(accepted.mean()),
        "precision": float(right[accepted].mean()) if accepted.any() else None,
    }


def describe(fitted):
    """Writes a calibration for people.

    Args:
        fitted: what `fit` returns.

    Returns:
        A string of two lines.
    """
    target = fitted["target_precision"]
    first = f"temperature {fitted['temperature']:.2f}, by {fitted['readings']} readings"
    if fitted["threshold"] is None:
        return (
            f"{first}; no threshold\nTo promise a precision of {target:.1%} takes "
            f"{readings_needed(target)} sure readings that are all right, {readings_needed(target, 1)} with "
            f"one wrong among them. These are {fitted['readings']}, {fitted['right']} right."
        )
    return (
        f"{first}; threshold {fitted['threshold']:.2%}\nOf the readings that reach it, "
        f"at least {target:.1%} are right: of this we are {CONFIDENCE_LEVEL:.0%} sure."
    )


def describe_check(checked):
    """Writes what a calibration is worth for people.

    Args:
        checked: what `check` returns.

    Returns:
        A string.
    """
    errors = checked["calibration_error"]
    text = f"expected calibration error {errors['before']:.2%}, {errors['after']:.2%} with the temperature"
    if "accepted" not in checked:
        return text
    precision = "" if checked["precision"] is None else f", {checked['precision']:.1%} of them right"
    return f"{text}; {checked['accepted']:.1%} of the readings reach the threshold{precision}"
