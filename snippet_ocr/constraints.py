"""Which texts a reading may be: of some lengths, of a pattern, of a list of words."""

import functools
import operator
import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from snippet_ocr.alphabet import BLANK
from snippet_ocr.decoding import log_softmax, search

NO_STATE = -1
"""The state after a character that is not allowed."""

KINDS = {"A": str.isalpha, "9": str.isdecimal, "?": lambda character: True}
"""The signs of a pattern that stand for kinds of characters."""

POSITIONS = re.compile(r"\\.|\[(?:\\.|[^\]\\])+\]|.", re.DOTALL)
"""One position of a pattern: an escaped character, a set, or a sign."""


class Trie(NamedTuple):
    """The beginnings of the texts of a list, each with the one before it; number 0 is the empty text.

    Attributes:
        parents: for each beginning the number of the one without its last
            character; 0 for the empty text.
        characters: the class numbers of the last characters; 0 for the empty text.
        ends: the numbers of those that are whole texts.
    """

    parents: np.ndarray
    characters: np.ndarray
    ends: np.ndarray

    def text(self, number):
        """The beginning of that number, as a tuple of class numbers."""
        classes = []
        while number:
            classes.append(int(self.characters[number]))
            number = self.parents[number]
        return tuple(reversed(classes))


class Constraint:
    """The texts that a reading may be, as an automaton that takes one character after the other.

    State 0 is the beginning. Characters are class numbers, as the alphabet gives them.

    Args:
        following: integers of shape `(states, classes)`: the state that a
            character leads to, `NO_STATE` if it is not allowed there.
        accepts: booleans of shape `(states,)`: whether the text may end there.

    Attributes:
        min_characters: the fewest characters from each state to an end;
            infinity where there is none.
        tree: the `Trie` of the texts, if each state is reached by one text
            alone, as it is with words; None otherwise.

    Example:

    >>> alphabet = Alphabet("0123456789-abc")
    >>> Constraint.pattern(alphabet, "99-A").allows(alphabet.encode("1a"))
    False
    """

    def __init__(self, following, accepts):
        self.following = np.array(following, dtype="int32")
        self.following[:, BLANK] = NO_STATE
        self.accepts = np.array(accepts, dtype=bool)
        least = np.where(self.accepts, 0.0, np.inf)
        for _ in range(len(least)):
            after = np.where(self.following == NO_STATE, np.inf, least[self.following])
            shorter = np.minimum(least, 1 + after.min(axis=1))
            if np.array_equal(shorter, least):
                break
            least = shorter
        self.min_characters = least
        self.trie = self._trie()

    def _trie(self):
        states, characters = np.nonzero(self.following != NO_STATE)
        targets = self.following[states, characters]
        if len(set(targets.tolist())) < len(targets) or 0 in targets:
            return None
        parents, last = np.zeros((2, len(self.accepts)), dtype=int)
        parents[targets], last[targets] = states, characters
        return Trie(parents, last, np.flatnonzero(self.accepts))

    @classmethod
    def length(cls, alphabet, least=0, most=None):
        """Allows the texts of some lengths.

        Args:
            alphabet: the `Alphabet` of the texts.
            least: the fewest characters, an integer of 0 or more.
            most: the most characters; None for no limit.

        Returns:
            A `Constraint`.

        Raises:
            ValueError: if `most` is less than `least`.
        """
        if least < 0 or (most is not None and most < least):
            raise ValueError(
                f"Expected a length of 0 or more, the shorter first. Received: {least} to {most}"
            )
        last = least if most is None else most
        following = np.repeat(np.arange(1, last + 2)[:, None], alphabet.number_of_classes, axis=1)
        following[last] = last if most is None else NO_STATE
        return cls(following, np.arange(last + 1) >= least)

    @classmethod
    def pattern(cls, alphabet, pattern):
        """Allows the texts of a pattern, which says for each position what may stand there.

        `A` stands for any letter, `9` for any digit, `?` for any character,
        `[xyz]` for one of these, `[0-9a-f]` for ranges of them; any other
        character for itself, and after `\\` those too.

        Args:
            alphabet: the `Alphabet` of the texts.
            pattern: a string such as `"AA-999"`.

        Returns:
            A `Constraint`.

        Raises:
            ValueError: if the pattern is not complete, or if no character of
                the alphabet may stand at one of its positions.
        """
        positions = _parse(pattern)
        following = np.full((len(positions) + 1, alphabet.number_of_classes), NO_STATE)
        for place, (written, fits) in enumerate(positions):
            allowed = [character for character in alphabet.characters if fits(character)]
            if not allowed:
                raise ValueError(
                    f"Expected a pattern of characters that the reader knows: {alphabet.characters!r}. "
                    f"None of them can be {written!r} in {pattern!r}."
                )
            following[place, alphabet.encode(allowed)] = place + 1
        return cls(following, np.arange(len(following)) == len(positions))

    @classmethod
    def words(cls, alphabet, words):
        """Allows the texts of a list.

        Args:
            alphabet: the `Alphabet` of the texts.
            words: an iterable of strings. Those with characters that the
                reader does not know are passed over.

        Returns:
            A `Constraint`.

        Raises:
            ValueError: if no word is left.
        """
        known = set(alphabet.characters)
        trie, ends = [{}], set()
        for word in words:
            if not word or set(word) - known:
                continue
            state = 0
            for character in alphabet.encode(word):
                if character not in trie[state]:
                    trie[state][character] = len(trie)
                    trie.append({})
                state = trie[state][character]
            ends.add(state)
        if not ends:
            raise ValueError(
                f"Expected words of characters that the reader knows: {alphabet.characters!r}. Found none."
            )
        following = np.full((len(trie), alphabet.number_of_classes), NO_STATE)
        for state, branches in enumerate(trie):
            following[state, list(branches)] = list(branches.values())
        return cls(following, [state in ends for state in range(len(trie))])

    def __and__(self, other):
        """Allows what both constraints allow."""
        states, pairs, following = {(0, 0): 0}, [(0, 0)], []
        for mine, its in pairs:  # it grows while we go through it
            row = []
            for target in zip(self.following[mine].tolist(), other.following[its].tolist(), strict=True):
                if NO_STATE in target:
                    row.append(NO_STATE)
                    continue
                if target not in states:
                    states[target] = len(pairs)
                    pairs.append(target)
                row.append(states[target])
            following.append(row)
        return Constraint(following, [self.accepts[mine] and other.accepts[its] for mine, its in pairs])

    def allows(self, classes):
        """Whether a text, given as class numbers, is allowed."""
        state = 0
        for character in classes:
            state = self.following[state, character]
            if state == NO_STATE:
                return False
        return bool(self.accepts[state])


def combine(alphabet, time_steps, length=None, pattern=None, words=None):
    """Makes one constraint of all that is known of the texts.

    Args:
        alphabet: the `Alphabet` of the reader.
        time_steps: the steps in which the reader reads an image.
        length: a tuple of the fewest and the most characters, or None.
        pattern: a string as `Constraint.pattern` takes it, or None.
        words: the path of a text file of words, or None.

    Returns:
        A `Constraint`, or None if nothing is known.

    Raises:
        ValueError: if no text that the reader can read fulfils it, or the file
            of words cannot be read.
    """
    parts = []
    if length is not None:
        # No reader reads more characters than it has steps.
        parts.append(Constraint.length(alphabet, *(min(one, time_steps + 1) for one in length)))
    if pattern is not None:
        parts.append(Constraint.pattern(alphabet, unicodedata.normalize("NFC", pattern)))
    if words is not None:
        parts.append(Constraint.words(alphabet, read_words(words)))
    if not parts:
        return None
    combined = functools.reduce(operator.and_, parts)
    nothing_known = np.zeros((time_steps, alphabet.number_of_classes))
    if not search(log_softmax(nothing_known), combined):
        raise ValueError(
            "Expected length, pattern and words that some text fulfils together, "
            f"and that fits the {time_steps} time steps of the reader. None does."
        )
    return combined


def read_words(path):
    """Reads a list of words, one a line.

    Args:
        path: a text file in UTF-8.

    Returns:
        A list of strings, composed (NFC) as labels are.

    Raises:
        ValueError: if the file cannot be read.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"Expected a text file of words (UTF-8), one a line, at {path}: {error}") from error
    return [unicodedata.normalize("NFC", line.strip()) for line in lines if line.strip()]


def _parse(pattern):
    """Splits a pattern into its positions: pairs of what is written and a function of a character."""
    positions = []
    for written in POSITIONS.findall(pattern):
        if written in ("[", "\\"):
            raise ValueError(
                rf"Expected characters and a ] after [, and a character after \. Received: {pattern!r}"
            )
        if written in KINDS:
            positions.append((written, KINDS[written]))
        elif written[0] == "[":
            try:
                positions.append((written, re.compile(written).fullmatch))
            except re.error as error:
                raise ValueError(f"Expected a set of characters such as [a-f]. {written}: {error}") from error
        else:
            positions.append((written, written[-1].__eq__))
    return positions
