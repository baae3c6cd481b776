import collections
import itertools
import math

import numpy as np
import pytest

from snippet_ocr.alphabet import Alphabet
from snippet_ocr.constraints import Constraint
from snippet_ocr.decoding import (
    beam_search,
    character_probabilities,
    greedy_decode,
    log_softmax,
    search,
    text_log_probabilities,
)

STEPS, CLASSES = 4, 3


def collapse(path):
    """The text of an alignment by definition: merge repeats, then drop blanks."""
    return tuple(character for character, _ in itertools.groupby(path) if character != 0)


def brute_force(log_probabilities):
    """The probability of every text, summed over all alignments one by one."""
    totals = collections.defaultdict(float)
    for path in itertools.product(range(CLASSES), repeat=STEPS):
        totals[collapse(path)] += math.exp(sum(log_probabilities[range(STEPS), path]))
    return dict(totals)


def allowed_by_brute_force(log_probabilities, constraint):
    """The allowed texts with their probabilities, most probable first."""
    totals = brute_force(log_probabilities).items()
    return sorted((item for item in totals if constraint.allows(item[0])), key=lambda item: -item[1])


def assert_equal_texts(found, expected):
    assert [text for text, _ in found] == [text for text, _ in expected]
    assert [math.exp(p) for _, p in found] == pytest.approx([p for _, p in expected])


def all_texts():
    """Every text of up to STEPS characters of two."""
    return itertools.chain(*(itertools.product((1, 2), repeat=length) for length in range(STEPS + 1)))


@pytest.fixture(params=range(3))
def log_probabilities(request):
    return log_softmax(np.random.default_rng(request.param).normal(size=(STEPS, CLASSES), scale=2.0))


def test_text_probability_is_the_sum_over_alignments(log_probabilities):
    totals = brute_force(log_probabilities)
    assert sum(totals.values()) == pytest.approx(1.0)
    texts = list(all_texts())
    rows = np.broadcast_to(log_probabilities, (len(texts), STEPS, CLASSES))
    for text, found in zip(texts, np.exp(text_log_probabilities(rows, texts)), strict=True):
        assert found == pytest.approx(totals.get(text, 0.0), abs=1e-12)


def test_text_that_does_not_fit_has_probability_zero(log_probabilities):
    rows = np.stack([log_probabilities] * 3)
    found = text_log_probabilities(rows, [[1, 1, 1], [1, 2, 1, 2, 1], [1]])
    assert list(found[:2]) == [-math.inf] * 2
    assert found[2] > -math.inf


def test_character_probability_is_relative_to_variants(log_probabilities):
    totals = brute_force(log_probabilities)
    for text in all_texts():
        if text not in totals or not text:
            continue
        found = character_probabilities(log_probabilities, text)
        for position, probability in enumerate(found):
            variants = [(*text[:position], other, *text[position + 1 :]) for other in (1, 2)]
            total = sum(totals.get(variant, 0.0) for variant in variants)
            assert probability == pytest.approx(totals[text] / total)
    assert len(character_probabilities(log_probabilities, ())) == 0


ALPHABET = Alphabet("ab")
CONSTRAINTS = {
    "any text": Constraint.length(ALPHABET),
    "at most 2": Constraint.length(ALPHABET, 0, 2),
    "2 to 3": Constraint.length(ALPHABET, 2, 3),
    "pattern": Constraint.pattern(ALPHABET, "?ab"),
    "words": Constraint.words(ALPHABET, ["ab", "bb", "bab", "a"]),
    "repeated character that fills all steps": Constraint.pattern(ALPHABET, "bba"),
}


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_wide_beam_search_finds_all_allowed_texts_in_order(log_probabilities, name):
    found = beam_search(log_probabilities, CONSTRAINTS[name], width=100)
    assert_equal_texts(found, allowed_by_brute_force(log_probabilities, CONSTRAINTS[name]))


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("name", [name for name in CONSTRAINTS if name not in ("any text", "at most 2")])
def test_narrow_beam_search_finds_an_allowed_text(log_probabilities, name, width):
    constraint = CONSTRAINTS[name]
    found = beam_search(log_probabilities, constraint, width)
    assert found and all(constraint.allows(text) for text, _ in found)


def reference_beam_search(log_probabilities, width, missing):
    """Prefix beam search as in the paper. `missing` returns how many characters a text still needs."""
    beams = {(): (1.0, 0.0)}
    for step, row in enumerate(np.exp(log_probabilities)):
        found = collections.defaultdict(lambda: [0.0, 0.0])
        for text, (in_blank, in_character) in beams.items():
            found[text][0] += (in_blank + in_character) * row[0]
            if text:
                found[text][1] += in_character * row[text[-1]]
            for character in range(1, len(row)):
                entering = in_blank if text[-1:] == (character,) else in_blank + in_character
                found[*text, character][1] += entering * row[character]
        remaining = len(log_probabilities) - step - 1
        possible = [item for item in found.items() if sum(item[1]) > 0 and missing(item[0]) <= remaining]
        beams = dict(sorted(possible, key=lambda item: -sum(item[1]))[:width])
    return {text for text in beams if missing(text) == 0}


@pytest.mark.parametrize("lengths", [(0, 12), (3, 4)])
@pytest.mark.parametrize("width", [1, 2, 3, 8])
@pytest.mark.parametrize("seed", range(6))
def test_narrow_beam_search_agrees_with_the_reference(seed, width, lengths):
    log_probabilities = log_softmax(np.random.default_rng(seed).normal(size=(12, 4), scale=1.5))
    shortest, longest = lengths

    def missing(text):
        return max(0, shortest - len(text)) if len(text) <= longest else math.inf

    expected = reference_beam_search(log_probabilities, width, missing)
    found = beam_search(log_probabilities, Constraint.length(Alphabet("abc"), *lengths), width)
    assert {text for text, _ in found} == expected
    assert [p for _, p in found] == sorted((p for _, p in found), reverse=True)


@pytest.mark.parametrize("top", [2, 3])
def test_words_with_a_length_are_compared_exactly(log_probabilities, top):
    words = ["ab", "bb", "bab", "a", "aa", "abab", "bba"]
    constraint = Constraint.words(ALPHABET, words) & Constraint.length(ALPHABET, 0, 3)
    found = search(log_probabilities, constraint, top)
    assert_equal_texts(found, allowed_by_brute_force(log_probabilities, constraint)[:top])


@pytest.mark.parametrize("top", [1, 2, 3])
@pytest.mark.parametrize("name", ["any text", "pattern", "words"])
def test_search_finds_the_most_probable_allowed_texts(log_probabilities, name, top):
    found = search(log_probabilities, CONSTRAINTS[name], top)
    assert_equal_texts(found, allowed_by_brute_force(log_probabilities, CONSTRAINTS[name])[:top])


def test_search_returns_the_requested_number_of_texts():
    rows = np.log(np.full((8, ALPHABET.number_of_classes), 1 / ALPHABET.number_of_classes))
    assert len(search(rows, Constraint.length(ALPHABET), top=60)) == 60


def test_word_is_found_despite_an_improbable_first_character():
    alphabet = Alphabet("abcdefghijklmnopqrstuvwxyz")
    generator = np.random.default_rng(0)
    words = ["".join(generator.choice(list(alphabet.characters), 6)) for _ in range(2000)]
    path = np.zeros(30, dtype=int)
    path[2:30:5] = alphabet.encode(words[7])
    logits = 14.0 * np.eye(27)[path]
    misread = next(character for character in range(1, 27) if character != path[2])
    logits[2, [path[2], misread]] = 0.0, 14.0
    log_probabilities = log_softmax(logits + generator.normal(size=logits.shape))
    ((text, _),) = search(log_probabilities, Constraint.words(alphabet, words))
    rows = np.broadcast_to(log_probabilities, (2000, 30, 27))
    best = np.argmax(text_log_probabilities(rows, [alphabet.encode(word) for word in words]))
    assert alphabet.decode(text) == words[best] == words[7]


def test_word_probabilities_do_not_underflow_in_long_images():
    alphabet = Alphabet("ab")
    log_probabilities = log_softmax(np.random.default_rng(0).normal(size=(3000, 3)))
    ((text, probability),) = search(log_probabilities, Constraint.words(alphabet, ["ab"]))
    assert text == (1, 2)
    assert probability < -745  # exp(-745) is the smallest positive float


def test_beam_search_sums_alignments_unlike_the_best_path():
    # The best path is two blanks with 0.36. The three alignments of "a" sum to 0.64.
    probabilities = np.array([[0.6, 0.4], [0.6, 0.4]])
    constraint = Constraint.length(Alphabet("a"))
    assert [list(text) for text in greedy_decode(np.log(probabilities)[None])] == [[]]
    ((text, probability), _) = beam_search(np.log(probabilities), constraint)
    assert text == (1,)
    assert math.exp(probability) == pytest.approx(0.64)


def test_beam_search_reads_repeated_characters():
    alphabet = Alphabet("35")
    path = [2, 2, 0, 1, 0, 1, 1, 0, 2]  # 5335
    log_probabilities = log_softmax(5 * np.eye(3)[path])
    (text, _), *_ = beam_search(log_probabilities, Constraint.length(alphabet))
    assert alphabet.decode(text) == "5335"


def test_beam_search_finds_no_text_that_does_not_fit(log_probabilities):
    assert beam_search(log_probabilities, Constraint.pattern(ALPHABET, "aaa")) == []
    assert beam_search(log_probabilities, Constraint.length(ALPHABET, 5)) == []


def test_greedy_decoding_collapses_the_best_path():
    rng = np.random.default_rng(1)
    paths = rng.integers(0, CLASSES, size=(500, 6))
    logits = np.eye(CLASSES)[paths]
    assert [tuple(text) for text in greedy_decode(logits)] == [collapse(path) for path in paths]


def test_greedy_decoding_splits_repeats_only_at_blanks():
    path = [[1, 1, 2, 2, 2, 1], [1, 2, 0, 2, 1, 0]]
    assert [list(text) for text in greedy_decode(np.eye(CLASSES)[path])] == [[1, 2, 1], [1, 2, 2, 1]]


def test_log_softmax_of_large_logits_is_finite():
    rows = log_softmax([[1000.0, 1000.0], [-1000.0, 0.0]])
    assert rows[0] == pytest.approx([math.log(0.5)] * 2)
    assert rows[1] == pytest.approx([-1000.0, 0.0])
