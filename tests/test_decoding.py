import itertools
import math

import numpy as np
import pytest

from decoding import greedy_decode, log_softmax, text_log_probability

STEPS, CLASSES = 4, 3


def collapse(path):
    """The text of an alignment, by the definition: repeats first, then blanks."""
    return tuple(number for number, _ in itertools.groupby(path) if number != 0)


def brute_force(log_probabilities):
    """The probability of every text, adding up all alignments one by one."""
    totals = {}
    for path in itertools.product(range(CLASSES), repeat=STEPS):
        probability = math.exp(sum(log_probabilities[step, number] for step, number in enumerate(path)))
        totals[collapse(path)] = totals.get(collapse(path), 0.0) + probability
    return totals


@pytest.fixture(params=range(3))
def log_probabilities(request):
    return log_softmax(np.random.default_rng(request.param).normal(size=(STEPS, CLASSES), scale=2.0))


def test_probability_of_every_text_equals_the_sum_over_all_alignments(log_probabilities):
    totals = brute_force(log_probabilities)
    assert sum(totals.values()) == pytest.approx(1.0)
    for text in itertools.chain(*(itertools.product((1, 2), repeat=length) for length in range(STEPS + 1))):
        found = math.exp(text_log_probability(log_probabilities, text))
        assert found == pytest.approx(totals.get(text, 0.0), abs=1e-12)


def test_text_that_does_not_fit_the_steps_is_impossible(log_probabilities):
    assert text_log_probability(log_probabilities, [1, 1, 1]) == -math.inf
    assert text_log_probability(log_probabilities, [1, 2, 1, 2, 1]) == -math.inf


def test_greedy_decoding_collapses_the_best_path():
    rng = np.random.default_rng(1)
    paths = rng.integers(0, CLASSES, size=(500, 6))
    logits = np.eye(CLASSES)[paths]
    assert [tuple(text) for text in greedy_decode(logits)] == [collapse(path) for path in paths]


def test_equal_neighbours_need_a_blank_between_them():
    path = [[1, 1, 2, 2, 2, 1], [1, 2, 0, 2, 1, 0]]
    assert [list(text) for text in greedy_decode(np.eye(CLASSES)[path])] == [[1, 2, 1], [1, 2, 2, 1]]


def test_log_softmax_stands_large_logits():
    rows = log_softmax([[1000.0, 1000.0], [-1000.0, 0.0]])
    assert rows[0] == pytest.approx([math.log(0.5)] * 2)
    assert rows[1] == pytest.approx([-1000.0, 0.0])
