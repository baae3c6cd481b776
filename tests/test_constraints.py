import itertools
import re
import tracemalloc

import numpy as np
import pytest

from snippet_ocr.alphabet import Alphabet
from snippet_ocr.constraints import Constraint

ALPHABET = Alphabet("019-Aab")
TEXTS = ["".join(t) for length in range(5) for t in itertools.product(ALPHABET.characters, repeat=length)]


def allowed_by(constraint):
    """Every text of up to four characters that a constraint allows."""
    return {text for text in TEXTS if constraint.allows(ALPHABET.encode(text))}


def matching(expression):
    """Every text of up to four characters that a regular expression matches."""
    return {text for text in TEXTS if re.fullmatch(expression, text)}


@pytest.mark.parametrize(
    ("pattern", "expression"),
    [
        ("A-9", "[Aab]-[019]"),
        ("A9?", "[Aab][019]."),
        ("[a1]0", "[a1]0"),
        (r"\A\9", "A9"),
        ("[A][9]b", "A9b"),
        (r"[\]0-1-]b", "[01-]b"),
        ("", ""),
    ],
)
def test_pattern_allows_what_a_regular_expression_matches(pattern, expression):
    assert allowed_by(Constraint.pattern(ALPHABET, pattern)) == matching(expression)


def test_backslash_in_a_set_stands_for_the_character_itself():
    alphabet = Alphabet("d0A")
    digit_or_d = Constraint.pattern(alphabet, r"[\d]")
    assert digit_or_d.allows(alphabet.encode("d")) and not digit_or_d.allows(alphabet.encode("0"))
    assert Constraint.pattern(alphabet, r"[\A]").allows(alphabet.encode("A"))


@pytest.mark.parametrize("pattern", ["[ab", "a\\", "[]", "[z-a]", "x", "é"])
def test_invalid_pattern_is_refused_and_quoted(pattern):
    with pytest.raises(ValueError, match=re.escape(repr(pattern))):
        Constraint.pattern(ALPHABET, pattern)


@pytest.mark.parametrize(("shortest", "longest"), [(0, 0), (0, 2), (2, 3), (3, None), (0, None)])
def test_length_allows_texts_within_its_bounds(shortest, longest):
    found = allowed_by(Constraint.length(ALPHABET, shortest, longest))
    assert found == matching(f".{{{shortest},{'' if longest is None else longest}}}")


@pytest.mark.parametrize(("shortest", "longest"), [(-1, 2), (3, 2)])
def test_impossible_length_is_refused(shortest, longest):
    with pytest.raises(ValueError, match=f"Received: {shortest} to {longest}"):
        Constraint.length(ALPHABET, shortest, longest)


def test_words_with_unknown_characters_are_skipped():
    assert allowed_by(Constraint.words(ALPHABET, ["ab", "a", "", "b0", "xyz", "a"])) == {"ab", "a", "b0"}
    with pytest.raises(ValueError, match="Found none"):
        Constraint.words(ALPHABET, ["", "xyz"])


def test_combined_constraint_allows_what_both_allow():
    letters = Constraint.pattern(ALPHABET, "A?")
    words = Constraint.words(ALPHABET, ["ab", "a", "0b", "b0", "bab"])
    assert allowed_by(letters & words) == allowed_by(words & letters) == {"ab", "b0"}
    assert allowed_by(letters & Constraint.length(ALPHABET, 3)) == set()


def test_min_characters_is_the_distance_to_the_end():
    assert list(Constraint.pattern(ALPHABET, "A-9").min_characters) == [3, 2, 1, 0]
    assert list(Constraint.length(ALPHABET, 2).min_characters) == [2, 1, 0]
    nothing = Constraint.pattern(ALPHABET, "A") & Constraint.length(ALPHABET, 2)
    assert nothing.min_characters[0] == float("inf")


def test_word_list_has_a_trie_and_a_pattern_has_none():
    words = Constraint.words(ALPHABET, ["ab", "a", "b0"])
    assert {words.trie.text(end) for end in words.trie.ends} == {
        tuple(ALPHABET.encode(word)) for word in ("ab", "a", "b0")
    }
    assert (words & Constraint.length(ALPHABET)).trie is not None
    assert Constraint.pattern(ALPHABET, "A9").trie is None
    assert Constraint.length(ALPHABET).trie is None


def test_long_word_list_of_a_large_alphabet_stays_small():
    alphabet = Alphabet([chr(0x4E00 + number) for number in range(3000)])
    words = ["".join(np.random.default_rng(n).choice(list(alphabet.characters), 4)) for n in range(500)]
    tracemalloc.start()
    constraint = Constraint.words(alphabet, words) & Constraint.length(alphabet, 4, 4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6  # a table of 1,500 states and 3,001 classes takes 36 MB
    assert {"".join(alphabet.decode(constraint.trie.text(end))) for end in constraint.trie.ends} == set(words)


def test_words_of_a_right_to_left_script_are_matched_as_typed():
    alphabet = Alphabet("אבג12", logical=True)
    words = Constraint.words(alphabet, ["אבג 1", "אב12"])
    assert words.allows(alphabet.encode("אב12"))
    assert not words.allows(alphabet.encode("12אב"))


def test_pattern_for_a_right_to_left_script_is_refused():
    with pytest.raises(ValueError, match="right-to-left.*length or a word list"):
        Constraint.pattern(Alphabet("אבג12", logical=True), "AA9")
    assert Constraint.pattern(Alphabet("אבג12"), "AA9").allows([1, 2, 4])
