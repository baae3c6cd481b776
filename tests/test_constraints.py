import itertools
import re

import pytest

from snippet_ocr.alphabet import Alphabet
from snippet_ocr.constraints import Constraint

ALPHABET = Alphabet("019-Aab")


def allowed_by(constraint, longest=4):
    """Every text of up to four characters that a constraint allows."""
    texts = ("".join(t) for n in range(longest + 1) for t in itertools.product(ALPHABET.characters, repeat=n))
    return {text for text in texts if constraint.allows(ALPHABET.encode(text))}


def matching(expression, longest=4):
    """The same, by Python's regular expressions."""
    texts = ("".join(t) for n in range(longest + 1) for t in itertools.product(ALPHABET.characters, repeat=n))
    return {text for text in texts if re.fullmatch(expression, text)}


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
def test_pattern_allows_what_the_regular_expression_matches(pattern, expression):
    assert allowed_by(Constraint.pattern(ALPHABET, pattern)) == matching(expression)


@pytest.mark.parametrize(("least", "most"), [(0, 0), (0, 2), (2, 3), (3, None), (0, None)])
def test_length_allows_texts_of_so_many_characters(least, most):
    found = allowed_by(Constraint.length(ALPHABET, least, most))
    assert found == matching(f".{{{least},{'' if most is None else most}}}")


def test_words_are_allowed_but_those_of_unknown_characters():
    constraint = Constraint.words(ALPHABET, ["ab", "a", "", "b0", "xyz", "a"])
    assert allowed_by(constraint) == {"ab", "a", "b0"}


def test_both_constraints_hold_together():
    letters = Constraint.pattern(ALPHABET, "A?")
    words = Constraint.words(ALPHABET, ["ab", "a", "0b", "b0", "bab"])
    assert allowed_by(letters & words) == allowed_by(words & letters) == {"ab", "b0"}
    assert allowed_by(letters & Constraint.length(ALPHABET, 3)) == set()


def test_least_characters_are_those_to_the_nearest_end():
    assert list(Constraint.pattern(ALPHABET, "A-9").min_characters) == [3, 2, 1, 0]
    assert list(Constraint.length(ALPHABET, 2).min_characters) == [2, 1, 0]
    nothing = Constraint.pattern(ALPHABET, "A") & Constraint.length(ALPHABET, 2)
    assert nothing.min_characters[0] == float("inf")


def test_only_what_is_reached_by_one_text_is_a_tree():
    words = Constraint.words(ALPHABET, ["ab", "a", "b0"])
    assert {words.trie.text(end) for end in words.trie.ends} == {
        tuple(ALPHABET.encode(word)) for word in ("ab", "a", "b0")
    }
    assert (words & Constraint.length(ALPHABET)).trie is not None
    assert Constraint.pattern(ALPHABET, "A9").trie is None
    assert Constraint.length(ALPHABET).trie is None


@pytest.mark.parametrize("pattern", ["[ab", "a\\", "[]", "[z-a]", "x", "é"])
def test_pattern_that_says_nothing_is_refused(pattern):
    with pytest.raises(ValueError, match="Expected"):
        Constraint.pattern(ALPHABET, pattern)
