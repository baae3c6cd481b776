import itertools
import re

import pytest

from alphabet import Alphabet
from constraints import Constraint

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
        ("", ""),
    ],
)
def test_pattern_allows_what_the_regular_expression_matches(pattern, expression):
    assert allowed_by(Constraint.pattern(ALPHABET, pattern)) == matching(expression)
