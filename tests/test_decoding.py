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
    character_steps,
    greedy_decode,
    log_softmax,
    search,
    text_log_probabilities,
)

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


def all_texts():
    """Every text of the two characters, up to as many as there are steps."""
    return itertools.chain(*(itertools.product((1, 2), repeat=length) for length in range(STEPS + 1)))


@pytest.fixture(params=range(3))
def log_probabilities(request):
    return log_softmax(np.random.default_rng(request.param).normal(size=(STEPS, CLASSES), scale=2.0))


def test_probability_of_every_text_equals_the_sum_over_all_alignments(log_probabilities):
    totals = brute_force(log_probabilities)
    assert sum(totals.values()) == pytest.approx(1.0)
    texts = list(all_texts())
    rows = np.broadcast_to(log_probabilities, (len(texts), STEPS, CLASSES))
    for text, found in zip(texts, np.exp(text_log_probabilities(rows, texts)), strict=True):
        assert found == pytest.approx(totals.get(text, 0.0), abs=1e-12)


def test_text_that_does_not_fit_the_steps_is_impossible(log_probabilities):
    rows = np.stack([log_probabilities] * 3)
    found = text_log_probabilities(rows, [[1, 1, 1], [1, 2, 1, 2, 1], [1]])
    assert list(found[:2]) == [-math.inf] * 2
    assert found[2] > -math.inf


def test_probability_of_a_character_is_its_share_of_the_texts_that_differ_in_it_alone(log_probabilities):
    totals = brute_force(log_probabilities)
    for text in all_texts():
        if text not in totals or not text:
            continue
        found = character_probabilities(log_probabilities, text)
        for place, probability in enumerate(found):
            others = [totals.get((*text[:place], other, *text[place + 1 :]), 0.0) for other in (1, 2)]
            assert probability == pytest.approx(totals[text] / sum(others))
    assert len(character_probabilities(log_probabilities, ())) == 0


def test_each_character_is_read_at_its_surest_step_of_the_best_alignment():
    generator = np.random.default_rng(1)
    for text in [(), (1,), (1, 2), (1, 1), (2, 1, 2)]:
        log_probabilities = log_softmax(generator.normal(size=(5, CLASSES), scale=2))
        paths = [path for path in itertools.product(range(CLASSES), repeat=5) if collapse(path) == text]
        best = max(paths, key=lambda path: sum(log_probabilities[range(5), path]))
        runs = [list(run) for number, run in itertools.groupby(range(5), key=best.__getitem__) if number]
        expected = [max(run, key=lambda step: log_probabilities[step, best[step]]) for run in runs]
        assert character_steps(log_probabilities, text) == expected


ALPHABET = Alphabet("ab")


def allowed(name):
    return {
        "any text": Constraint.length(ALPHABET),
        "at most 2": Constraint.length(ALPHABET, 0, 2),
        "2 to 3": Constraint.length(ALPHABET, 2, 3),
        "pattern": Constraint.pattern(ALPHABET, "?ab"),
        "words": Constraint.words(ALPHABET, ["ab", "bb", "bab", "a"]),
        "equal neighbours that fill all steps": Constraint.pattern(ALPHABET, "bba"),
    }[name]


@pytest.mark.parametrize(
    "name",
    ["any text", "at most 2", "2 to 3", "pattern", "words", "equal neighbours that fill all steps"],
)
def test_wide_beam_search_finds_all_texts_that_are_allowed_in_their_order(log_probabilities, name):
    constraint = allowed(name)
    totals = {text: p for text, p in brute_force(log_probabilities).items() if constraint.allows(text)}
    expected = sorted(totals.items(), key=lambda one: -one[1])
    found = beam_search(log_probabilities, constraint, width=100)
    assert [text for text, _ in found] == [text for text, _ in expected]
    assert [math.exp(p) for _, p in found] == pytest.approx([p for _, p in expected])


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("name", ["2 to 3", "pattern", "words", "equal neighbours that fill all steps"])
def test_narrow_beam_search_honours_the_constraint(log_probabilities, name, width):
    constraint = allowed(name)
    found = beam_search(log_probabilities, constraint, width)
    assert found and all(constraint.allows(text) for text, _ in found)


def beam_by_the_book(log_probabilities, width, missing):
    """Prefix beam search as the paper writes it; `missing` tells how many characters a text still needs."""
    beams = {(): (1.0, 0.0)}
    for step, row in enumerate(np.exp(log_probabilities)):
        found = collections.defaultdict(lambda: [0.0, 0.0])
        for text, (in_blank, in_character) in beams.items():
            found[text][0] += (in_blank + in_character) * row[0]
            if text:
                found[text][1] += in_character * row[text[-1]]
            for number in range(1, len(row)):
                entering = in_blank if text[-1:] == (number,) else in_blank + in_character
                found[*text, number][1] += entering * row[number]
        left = len(log_probabilities) - step - 1
        alive = [one for one in found.items() if sum(one[1]) > 0 and missing(one[0]) <= left]
        beams = dict(sorted(alive, key=lambda one: -sum(one[1]))[:width])
    return {text for text in beams if missing(text) == 0}


@pytest.mark.parametrize("lengths", [(0, 12), (3, 4)])
@pytest.mark.parametrize("width", [1, 2, 3, 8])
@pytest.mark.parametrize("seed", range(6))
def test_narrow_beam_search_keeps_what_the_paper_s_keeps(seed, width, lengths):
    log_probabilities = log_softmax(np.random.default_rng(seed).normal(size=(12, 4), scale=1.5))
    least, most = lengths
    expected = beam_by_the_book(
        log_probabilities, width, lambda text: max(0, least - len(text)) if len(text) <= most else math.inf
    )
    found = beam_search(log_probabilities, Constraint.length(Alphabet("abc"), least, most), width)
    assert {text for text, _ in found} == expected
    assert [p for _, p in found] == sorted((p for _, p in found), reverse=True)


@pytest.mark.parametrize("width", [2, 3])
def test_all_words_of_a_list_are_compared_exactly(log_probabilities, width):
    words = ["ab", "bb", "bab", "a", "aa", "abab", "bba"]
    constraint = Constraint.words(ALPHABET, words) & Constraint.length(ALPHABET, 0, 3)
    totals = {text: p for text, p in brute_force(log_probabilities).items() if constraint.allows(text)}
    expected = sorted(totals.items(), key=lambda one: -one[1])[:width]
    found = search(log_probabilities, constraint, top=width)
    assert [text for text, _ in found] == [text for text, _ in expected]
    assert [math.exp(p) for _, p in found] == pytest.approx([p for _, p in expected])


@pytest.mark.parametrize("top", [1, 2, 3])
@pytest.mark.parametrize("name", ["any text", "pattern", "words"])
def test_search_finds_the_most_probable_texts_that_are_allowed(log_probabilities, name, top):
    constraint = allowed(name)
    totals = {text: p for text, p in brute_force(log_probabilities).items() if constraint.allows(text)}
    expected = sorted(totals.items(), key=lambda one: -one[1])[:top]
    found = search(log_probabilities, constraint, top)
    assert [text for text, _ in found] == [text for text, _ in expected]
    assert [math.exp(p) for _, p in found] == pytest.approx([p for _, p in expected])


def test_search_gives_as_many_texts_as_are_wanted():
    rows = np.log(np.full((8, ALPHABET.number_of_classes), 1 / ALPHABET.number_of_classes))
    assert len(search(rows, Constraint.length(ALPHABET), top=60)) == 60


def test_word_is_found_however_improbable_its_first_character_seems():
    alphabet = Alphabet("abcdefghijklmnopqrstuvwxyz")
    generator = np.random.default_rng(0)
    words = ["".join(generator.choice(list(alphabet.characters), 6)) for _ in range(2000)]
    path = np.zeros(30, dtype=int)
    path[2:30:5] = alphabet.encode(words[7])
    logits = 14.0 * np.eye(27)[path]
    misread = next(c for c in range(1, 27) if c != path[2])
    logits[2, [path[2], misread]] = 0.0, 14.0
    log_probabilities = log_softmax(logits + generator.normal(size=logits.shape))
    ((text, _),) = search(log_probabilities, Constraint.words(alphabet, words))
    rows = np.broadcast_to(log_probabilities, (2000, 30, 27))
    best = np.argmax(text_log_probabilities(rows, [alphabet.encode(word) for word in words]))
    assert alphabet.decode(text) == words[best] == words[7]


def test_long_images_do_not_make_the_probabilities_of_words_vanish():
    alphabet = Alphabet("ab")
    log_probabilities = log_softmax(np.random.default_rng(0).normal(size=(3000, 3)))
    ((text, probability),) = search(log_probabilities, Constraint.words(alphabet, ["ab"]))
    assert (text, probability < -745) == ((1, 2), True)  # exp(-745) is the least number above 0


def test_beam_search_adds_up_alignments_where_the_best_path_does_not():
    # The best path is blank, blank with 0.36; a, in three alignments, has 0.64.
    probabilities = np.array([[0.6, 0.4], [0.6, 0.4]])
    constraint = Constraint.length(Alphabet("a"))
    assert [list(text) for text in greedy_decode(np.log(probabilities)[None])] == [[]]
    ((text, probability), _) = beam_search(np.log(probabilities), constraint)
    assert (text, math.exp(probability)) == ((1,), pytest.approx(0.64))


def test_beam_search_keeps_equal_neighbours_apart():
    alphabet = Alphabet("35")
    path = [2, 2, 0, 1, 0, 1, 1, 0, 2]  # 5335
    log_probabilities = log_softmax(5 * np.eye(3)[path])
    (text, _), *_ = beam_search(log_probabilities, Constraint.length(alphabet))
    assert alphabet.decode(text) == "5335"


def test_text_that_cannot_fit_the_steps_is_not_found(log_probabilities):
    assert beam_search(log_probabilities, Constraint.pattern(ALPHABET, "aaa")) == []
    assert beam_search(log_probabilities, Constraint.length(ALPHABET, 5)) == []


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
