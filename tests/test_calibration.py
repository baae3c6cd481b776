import json
import tracemalloc
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from scipy.stats import beta, binom

from examples import ALPHABET
from snippet_ocr.decoding import greedy_decode, log_softmax, text_log_probabilities
from snippet_ocr.reader import Reader
from training import calibration


class Sample(NamedTuple):
    path: str
    label: str


def readings(confidence, right):
    """Confidences, and whether each is right, of 400 readings."""
    return np.full(400, confidence), np.arange(400) < right


def observations(confidence, right, readings=400):
    """Readings of one time step that all have the same confidence; the first `right` are correct."""
    step = np.log([1e-12, confidence, 1 - confidence - 1e-12])
    log_probabilities = np.tile(step, (readings, 1, 1))
    return calibration.Observations(
        log_probabilities, greedy_decode(log_probabilities), np.arange(readings) < right
    )


def test_calibration_error_follows_its_definition():
    generator = np.random.default_rng(0)
    confidences = np.round(generator.beta(8, 1, 300), 2)
    right = generator.random(300) < 0.3 + 0.7 * confidences
    expected = 0.0
    for low in np.arange(10) / 10:
        inside = (confidences >= low) & ((confidences < low + 0.1 - 1e-12) | (low == 0.9))
        if inside.any():
            expected += inside.mean() * abs(confidences[inside].mean() - right[inside].mean())
    assert calibration.calibration_error(confidences, right) == pytest.approx(expected)
    assert sum(row["images"] for row in calibration.reliability_bins(confidences, right)) == 300
    assert calibration.calibration_error(np.array([1.0, 0.0]), np.array([True, False])) == 0
    assert calibration.calibration_error(np.ones(2), np.zeros(2, dtype=bool)) == 1


@pytest.mark.parametrize("target", [0.5, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("wrong", [0, 1, 3, 40])
def test_readings_needed_is_the_minimum_that_guarantees(target, wrong):
    needed = calibration.readings_needed(target, wrong)
    # One reading fewer would be compatible with a lower precision in more than 5% of all cases.
    assert binom.cdf(wrong, needed, 1 - target) <= 0.05 < binom.cdf(wrong, needed - 1, 1 - target)
    # The Clopper-Pearson lower bound says the same.
    assert beta.ppf(0.05, needed - wrong, wrong + 1) >= target > beta.ppf(0.05, needed - wrong - 1, wrong + 1)


@pytest.mark.parametrize(
    ("readings", "wrong", "accepted"),
    [
        (0, [], 0),
        (298, [], 0),  # too few
        (299, [], 299),
        (400, [], 400),
        (400, range(400), 0),
        (400, [399], 299),  # with all 400, one wrong is too many
        (473, [472], 473),
        (1000, [100], 0),  # none of the first 299 may be wrong
        (1000, [300, 301], 299),  # one of the first 473
        (1000, [300, 500, 700, 800, 900], 773),  # five of the first 913
    ],
)
def test_threshold_follows_the_sequence_of_tests(readings, wrong, accepted):
    confidences, right = np.linspace(1, 0.5, readings), ~np.isin(np.arange(readings), list(wrong))
    threshold = calibration.find_threshold(confidences, right, 0.99)
    assert (0 if threshold is None else (confidences >= threshold).sum()) == accepted


def test_threshold_treats_equal_confidences_alike():
    confidences, right = np.linspace(1, 0.5, 400), np.ones(400, dtype=bool)
    confidences[290:] = confidences[290]
    right[350] = False
    assert calibration.find_threshold(confidences, right, 0.99) is None
    assert calibration.find_threshold(np.ones(400), np.ones(400, dtype=bool), 0.99) == 1


@pytest.mark.parametrize(("target", "true"), [(0.9, 0.897), (0.95, 0.947), (0.8, 0.79)])
def test_guarantee_fails_in_at_most_five_percent(target, true):
    generator = np.random.default_rng(0)
    confidences = np.linspace(1, 0.5, 400)
    # Confidence is meaningless and the precision just too low: every threshold breaks the guarantee.
    broken = [
        calibration.find_threshold(confidences, generator.random(400) < true, target) is not None
        for _ in range(400)
    ]
    assert np.mean(broken) <= 0.05 + 0.02  # three standard deviations of 400 trials are 0.03


def test_observations_agree_with_the_reader(model, shipped):
    reader = Reader(model, ALPHABET, [80])
    readings = reader.read(shipped[:70])
    samples = [
        Sample(path, reading.text if number % 2 else "?")
        for number, (path, reading) in enumerate(zip(shipped, readings, strict=False))
    ]
    observed = calibration.observe(reader, samples)
    assert [ALPHABET.decode(text) for text in observed.texts] == [reading.text for reading in readings]
    assert observed.confidences() == pytest.approx([reading.confidence for reading in readings], rel=1e-4)
    assert list(observed.right) == [bool(number % 2) for number in range(70)]
    joined = calibration.join([observed, observed])
    assert len(joined.logits) == len(joined.texts) == len(joined.right) == 140


def test_observations_of_different_widths_agree_with_the_reader(model, shipped):
    reader = Reader(model, ALPHABET, [48, 80, 120])
    sources = [Image.open(path).convert("L") for path in shipped[:30]]
    sources = [np.asarray(image.crop((0, 0, 60 + 5 * n, 50))) for n, image in enumerate(sources)]
    readings = reader.read(sources)
    observed = calibration.observe(reader, [Sample(source, "?") for source in sources])
    assert observed.logits.shape == (30, 30, ALPHABET.number_of_classes)
    assert [ALPHABET.decode(text) for text in observed.texts] == [reading.text for reading in readings]
    assert observed.confidences() == pytest.approx([reading.confidence for reading in readings], rel=1e-4)


def test_log_odds_compare_the_reading_with_the_label():
    odds = calibration.log_odds(observations(0.8, 1, readings=3), [[1], [2], []])
    assert odds == pytest.approx([0, np.log(0.8 / 0.2), np.log(0.8 / 1e-12)])


def test_threshold_of_right_readings_accepts_them_all(model, shipped):
    reader = Reader(model, ALPHABET, [80])
    readings = reader.read(shipped[:30])
    samples = [Sample(path, one.text) for path, one in zip(shipped, readings, strict=False)]
    fitted = calibration.fit(*calibration.compare(samples, readings), 0.9)
    assert fitted["threshold"] == min(one.confidence for one in readings) > 0
    assert fitted == json.loads(json.dumps(fitted))
    assert (fitted["right"], fitted["readings"], fitted["accepted"], fitted["precision"]) == (30, 30, 1, 1)
    text = calibration.describe(fitted)
    assert f"threshold {fitted['threshold']:.2%} (from 30 readings)" in text
    assert "at least 90% are correct, with 95% statistical confidence." in text
    text = calibration.describe(fitted, chose_epoch=True)
    assert "about 90% or more are correct. This is no guarantee" in text
    assert "statistical confidence" not in text
    checked = calibration.describe_check(fitted)
    assert "100.0% of the readings reach the threshold, 100.0% of them correct" in checked


def test_too_few_readings_give_no_threshold_but_advice():
    fitted = calibration.fit(np.array([0.9]), np.array([True]), 0.99)
    assert fitted["threshold"] is None
    assert calibration.describe(fitted) == (
        "no 99% threshold from 1 readings: it needs at least 299 readings, all correct. Run `make "
        "crossval`, add images, or lower target_precision: 59 correct readings are enough for 95%"
    )
    assert "threshold" not in calibration.describe_check(fitted)


def test_too_many_wrong_readings_are_named_as_the_reason():
    fitted = calibration.fit(*readings(0.9, 380), 0.995)
    assert fitted["threshold"] is None
    assert "no 99.5% threshold from 400 readings: it needs at least 598 readings" in calibration.describe(
        fitted
    )
    fitted = calibration.fit(*readings(0.9, 380), 0.99)
    assert calibration.describe(fitted).endswith("too many of the most confident readings are wrong")


def test_check_without_accepted_readings_has_no_precision():
    checked = calibration.check(*readings(0.9, 300), 0.95)
    assert (checked["accepted"], checked["precision"]) == (0, None)
    assert calibration.describe_check(checked).endswith("0.0% of the readings reach the threshold")


def test_observations_of_a_large_alphabet_stay_small():
    logits = np.random.default_rng(0).normal(0, 3, (500, 10, 2001)).astype("float32")
    observed = calibration.Observations(logits, greedy_decode(logits), np.ones(500, dtype=bool))
    tracemalloc.start()
    confidences = observed.confidences()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * logits.nbytes  # at once, in float64, it is six times as much
    expected = text_log_probabilities(log_softmax(logits.astype("float64")), observed.texts)
    assert confidences == pytest.approx(np.exp(expected), rel=1e-12)


def test_observations_are_kept_as_float32(model, shipped):
    reader = Reader(model, ALPHABET, [80])
    observed = calibration.observe(reader, [Sample(path, "") for path in shipped[:70]])
    assert observed.logits.dtype == np.float32
    expected = reader.log_probabilities(reader.prepare(shipped[:64]))
    assert log_softmax(observed.logits[:64]) == pytest.approx(np.stack(expected), abs=1e-5)
