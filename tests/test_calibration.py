import json
from typing import NamedTuple

import numpy as np
import pytest
from scipy.stats import binom

from examples import ALPHABET
from snippet_ocr.decoding import greedy_decode
from snippet_ocr.reader import Reader
from training import calibration


class Sample(NamedTuple):
    path: str
    label: str


def observations(confidence, right, readings=400):
    """Readings of one step that are all of the same confidence, and of which so many are right."""
    step = np.log([1e-12, confidence, 1 - confidence - 1e-12])
    log_probabilities = np.tile(step, (readings, 1, 1))
    return calibration.Observations(
        log_probabilities, greedy_decode(log_probabilities), np.arange(readings) < right
    )


@pytest.fixture(scope="module")
def mixed():
    """Confidences, some of them equal, and which of 300 readings are right, more often the surer."""
    generator = np.random.default_rng(0)
    confidences = np.round(generator.beta(8, 1, 300), 2)
    return confidences, generator.random(300) < 0.3 + 0.7 * confidences


@pytest.mark.parametrize("share", [1.0, 0.9, 0.75])
def test_temperature_makes_confidence_the_share_that_is_right(share):
    seen = observations(0.99, share * 4000, readings=4000)
    temperature = calibration.fit_temperature(seen)
    assert seen.confidences(temperature).mean() == pytest.approx(share, abs=0.01)


def test_temperature_stays_within_its_bounds():
    assert calibration.fit_temperature(observations(0.999999, 0)) == pytest.approx(5, abs=1e-3)
    assert calibration.fit_temperature(observations(0.6, 400)) == pytest.approx(0.5, abs=1e-3)


def test_few_readings_that_are_all_right_make_the_reader_neither_certain_nor_timid():
    for confidence in (0.9, 0.99, 0.999999):
        seen = observations(confidence, 20, readings=20)
        assert 0.7 < calibration.fit_temperature(seen) < 2


def test_one_wrong_reading_does_not_double_the_temperature_but_many_do():
    one, many = observations(0.999, 99, readings=100), observations(0.999, 900, readings=1000)
    assert 1 < calibration.fit_temperature(one) < 2 < calibration.fit_temperature(many)


def test_calibration_error_is_the_mean_gap_over_bins_by_its_definition(mixed):
    confidences, right = mixed
    expected = 0.0
    for low in np.arange(10) / 10:
        inside = (confidences >= low) & ((confidences < low + 0.1 - 1e-12) | (low == 0.9))
        if inside.any():
            expected += inside.mean() * abs(confidences[inside].mean() - right[inside].mean())
    assert calibration.calibration_error(confidences, right) == pytest.approx(expected)
    assert sum(one["images"] for one in calibration.reliability_bins(confidences, right)) == 300
    assert calibration.calibration_error([1.0, 0.0], [True, False]) == 0
    assert calibration.calibration_error([1.0, 1.0], [False, False]) == 1


@pytest.mark.parametrize(("right", "readings"), [(84, 84), (95, 100), (1, 10), (299, 299)])
def test_at_the_lower_bound_so_many_right_readings_have_a_chance_of_one_in_twenty(right, readings):
    bound = calibration.lower_bound(right, readings)
    assert binom.sf(right - 1, readings, bound) == pytest.approx(0.05)


def test_no_right_reading_promises_nothing():
    assert calibration.lower_bound(0, 10) == 0


@pytest.mark.parametrize(("precision", "wrong"), [(0.99, 0), (0.9, 0), (0.9, 3), (0.5, 0)])
def test_readings_needed_are_the_fewest_that_can_promise(precision, wrong):
    # One more right reading than 5 % of all luck allows: the binomial tail, counted up.
    readings = wrong + 1
    while binom.cdf(wrong, readings, 1 - precision) > 0.05:
        readings += 1
    assert calibration.readings_needed(precision, wrong) == readings


def ranked(readings, wrong):
    """Confidences that fall from one reading to the next, and which readings are right."""
    return np.linspace(1, 0.5, readings), ~np.isin(np.arange(readings), wrong)


@pytest.mark.parametrize(
    ("readings", "wrong", "accepted"),
    [
        (298, [], 0),  # too few
        (299, [], 299),
        (400, [], 400),
        (400, [399], 299),  # with all 400, one wrong is too many
        (473, [472], 473),
        (1000, [100], 0),  # none of the first 299 may be wrong
        (1000, [300, 301], 299),  # one of the first 473
        (1000, [300, 500, 700, 800, 900], 773),  # five of the first 913
    ],
)
def test_threshold_accepts_as_many_as_the_sequence_of_tests_lets_through(readings, wrong, accepted):
    confidences, right = ranked(readings, wrong)
    threshold = calibration.find_threshold(confidences, right, 0.99)
    assert (0 if threshold is None else (confidences >= threshold).sum()) == accepted


def test_readings_of_one_confidence_are_accepted_together_or_not_at_all():
    confidences, right = ranked(400, [])
    confidences[290:] = confidences[290]
    right[350] = False
    assert calibration.find_threshold(confidences, right, 0.99) is None
    assert calibration.find_threshold(np.ones(400), np.ones(400, dtype=bool), 0.99) == 1


@pytest.mark.parametrize(("target", "true"), [(0.9, 0.897), (0.95, 0.947), (0.8, 0.79)])
def test_promise_is_broken_no_more_often_than_one_time_in_twenty(target, true):
    generator = np.random.default_rng(0)
    confidences = np.linspace(1, 0.5, 400)
    # Confidence knows nothing, and the precision is just too low: every threshold breaks the promise.
    broken = [
        calibration.find_threshold(confidences, generator.random(400) < true, target) is not None
        for _ in range(400)
    ]
    assert np.mean(broken) <= 0.05 + 0.02  # three standard deviations of 400 trials are 0.03


def test_observations_are_what_the_reader_reads_before_its_temperature(model, shipped):
    plain, tempered = Reader(model, ALPHABET), Reader(model, ALPHABET, temperature=3.0)
    readings = plain.read(shipped[:70])
    samples = [
        Sample(path, reading.text if number % 2 else "?")
        for number, (path, reading) in enumerate(zip(shipped, readings, strict=False))
    ]
    seen = calibration.observe(tempered, samples)
    assert [ALPHABET.decode(text) for text in seen.texts] == [reading.text for reading in readings]
    assert seen.confidences(1.0) == pytest.approx([reading.confidence for reading in readings], rel=1e-4)
    assert list(seen.right) == [bool(number % 2) for number in range(70)]
    joined = calibration.join([seen, seen])
    assert len(joined.log_probabilities) == len(joined.texts) == len(joined.right) == 140


def test_log_odds_are_those_of_the_reading_against_the_label():
    seen = observations(0.8, 1, readings=3)
    odds = calibration.log_odds(seen, [[1], [2], []])
    assert odds[:2] == pytest.approx([0, np.log(0.8 / 0.2)])
    assert odds[2] == pytest.approx(np.log(0.8 / 1e-12))


def test_reader_is_given_a_temperature_and_a_threshold_if_one_can_be_promised(model, shipped):
    reader = Reader(model, ALPHABET)
    samples = [
        Sample(path, one.text) for path, one in zip(shipped[:30], reader.read(shipped[:30]), strict=True)
    ]
    fitted = calibration.calibrate(reader, samples, 0.9)
    assert (reader.temperature, reader.threshold) == (fitted["temperature"], fitted["threshold"])
    assert fitted == json.loads(json.dumps(fitted))
    assert (fitted["right"], fitted["readings"], fitted["accepted"], fitted["precision"]) == (30, 30, 1, 1)
    assert "at least 90.0% are right" in calibration.describe(fitted)
    assert "100.0% of the readings reach the threshold, 100.0%" in calibration.describe_check(fitted)


def test_too_few_readings_give_no_threshold_and_say_how_many_would(model, shipped):
    reader = Reader(model, ALPHABET, threshold=0.5)
    fitted = calibration.calibrate(reader, [Sample(shipped[0], reader.read(shipped[:1])[0].text)], 0.99)
    assert reader.threshold is None
    assert "takes 299 sure readings that are all right, 473 with one" in calibration.describe(fitted)
    assert "These are 1, 1 right." in calibration.describe(fitted)
    assert "threshold" not in calibration.describe_check(fitted)


def test_check_without_an_accepted_reading_has_no_precision():
    checked = calibration.check(observations(0.9, 300), 1.0, 0.95)
    assert (checked["accepted"], checked["precision"]) == (0, None)
    assert "0.0% of the readings reach the threshold" in calibration.describe_check(checked)
