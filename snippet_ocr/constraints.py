"""Restricts the texts that a reader may return: by length, by pattern or to a word list."""

import functools
import operator
import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from snippet_ocr.decoding import log_softmax, search
from snippet_ocr.errors import ConstraintError

NO_STATE = -1  # the target of a transition that is not allowed
WILDCARDS = {"A": str.isalpha, "9": str.isdecimal, "?": lambda character: True}

# One position of a pattern: an escaped character, a set, or a single character.
POSITION = re.compile(r"\\.|\[(?:\\.|[^\]\\])+\]|.", re.DOTALL)


class Trie(NamedTuple):
    """A prefix tree of a word list, as arrays of integers. Node 0 is the root, the empty prefix."""

    parents: np.ndarray  # (nodes,), 0 for the root
    characters: np.ndarray  # (nodes,): the class of each prefix's last character; 0, the blank, for the root
    ends: np.ndarray  # (words,): the nodes that are complete words

    def text(self, node):
        """Returns the prefix of a node as a tuple of class numbers."""
        classes = []
        while node:
            classes.append(int(self.characters[node]))
            node = self.parents[node]
        return tuple(reversed(classes))


class Constraint:
    """A set of allowed texts, as a finite automaton over class numbers. State 0 is the initial state.

    Create it with `length`, `pattern` or `words`, and combine several with `&`.

    Args:
        edges: a list with a dictionary for each state: the next state after each class that is allowed.
        accepting: booleans of shape `(states,)`: whether a text may end in a state.

    Attributes:
        min_characters: floats of shape `(states,)`: the distance to an accepting state, or infinity.
        trie: the `Trie` of the texts, as with `words`, or None if a state is reached by several texts.
    """

    def __init__(self, edges, accepting):
        self.edges = edges
        self.accepting = np.array(accepting, dtype=bool)
        # (edges,) each. A table of all states and classes would not fit in memory for a long word list.
        self._states = np.repeat(np.arange(len(edges)), [len(row) for row in edges])
        self._classes = np.array([number for row in edges for number in row], dtype=int)
        self._targets = np.array([target for row in edges for target in row.values()], dtype=int)
        self.min_characters, previous = np.where(self.accepting, 0.0, np.inf), None
        while not np.array_equal(self.min_characters, previous):
            previous = self.min_characters.copy()
            np.minimum.at(self.min_characters, self._states, 1 + previous[self._targets])
        self.trie, self._table = self._trie(), None

    def _trie(self):
        if 0 in self._targets or len(np.unique(self._targets)) < len(self._targets):
            return None
        parents, last = np.zeros((2, len(self.edges)), dtype=int)
        parents[self._targets], last[self._targets] = self._states, self._classes
        return Trie(parents, last, np.flatnonzero(self.accepting))

    def transitions(self, classes):
        """Returns the next states, of shape `(states, classes)`, or `NO_STATE`; `classes` is a number."""
        if self._table is None:  # only needed without a trie; then there are few states
            table = np.full((len(self.edges), classes), NO_STATE, dtype="int32")
            table[self._states, self._classes] = self._targets
            self._table = table  # complete: several threads read images
        return self._table

    @classmethod
    def length(cls, alphabet, min_length=0, max_length=None):
        """Allows texts of `min_length` to `max_length` characters (None: no limit) of an `Alphabet`.

        Raises:
            ConstraintError: if `min_length` is negative or exceeds `max_length`.
        """
        if min_length < 0 or (max_length is not None and max_length < min_length):
            raise ConstraintError(f"Expected 0 <= minimum <= maximum. Received: {min_length} to {max_length}")
        last = min_length if max_length is None else max_length
        characters = alphabet.classes.values()
        edges = [dict.fromkeys(characters, state + 1) for state in range(last)]
        edges.append(dict.fromkeys(characters, last) if max_length is None else {})
        return cls(edges, np.arange(last + 1) >= min_length)

    @classmethod
    def pattern(cls, alphabet, pattern):
        r"""Allows texts of an `Alphabet` that match a pattern such as `"AA-999"`, character by character.

        `A` matches any letter, `9` any digit, `?` any character, `[xyz]` one of these characters, `[0-9a-f]`
        one in these ranges, `[^xyz]` none of these, and any other character itself. A backslash before a
        character removes its special meaning: `\A` matches an A.

        Raises:
            ConstraintError: if the pattern is incomplete, if no character of the alphabet matches one of its
                positions, or if the alphabet is that of a right-to-left script in logical order.
        """
        if alphabet.logical:  # mixed with digits, the n-th character of a text is not the n-th in the image
            raise ConstraintError(
                "Expected a reader of a left-to-right script for a pattern. This one reads a right-to-left "
                "script. Use a length or a word list."
            )
        parts = POSITION.findall(pattern)
        edges = [{} for _ in range(len(parts) + 1)]
        for position, part in enumerate(parts):
            allowed = list(filter(_matcher(part, pattern), alphabet.characters))
            if not allowed:
                raise ConstraintError(
                    f"Expected each part of the pattern to match a character of {alphabet.characters!r}. "
                    f"None matches {part!r} in {pattern!r}."
                )
            edges[position] = {alphabet.classes[character]: position + 1 for character in allowed}
        return cls(edges, np.arange(len(parts) + 1) == len(parts))

    @classmethod
    def words(cls, alphabet, words):
        """Allows the words of a list, except empty ones and those with characters outside an `Alphabet`.

        Raises:
            ConstraintError: if no word remains.
        """
        edges, ends = [{}], set()
        for word in words:
            if word and alphabet.classes.keys() >= set(word):
                state = 0
                for character in alphabet.encode(word):
                    state = edges[state].setdefault(character, len(edges))
                    if state == len(edges):
                        edges.append({})
                ends.add(state)
        if not ends:
            raise ConstraintError(f"Expected words of the characters {alphabet.characters!r}. Found none.")
        return cls(edges, [state in ends for state in range(len(edges))])

    def __and__(self, other):
        """Returns a constraint that allows the texts that both allow (product of the two automata)."""
        queue, states, edges = [(0, 0)], {(0, 0): 0}, []
        for mine, theirs in queue:  # grows in the loop
            first, second, row = self.edges[mine], other.edges[theirs], {}
            for number in sorted(first.keys() & second.keys()):
                target = first[number], second[number]
                row[number] = states.setdefault(target, len(queue))
                if row[number] == len(queue):
                    queue.append(target)
            edges.append(row)
        return Constraint(edges, [self.accepting[a] and other.accepting[b] for a, b in queue])

    def allows(self, classes):
        """Returns whether a text, given as class numbers, is allowed."""
        state = 0
        for character in classes:
            if character not in self.edges[state]:
                return False
            state = self.edges[state][character]
        return bool(self.accepting[state])


@functools.lru_cache(maxsize=4)  # a long word list takes tens of megabytes
def combine(alphabet, time_steps, length=None, pattern=None, words=None):
    """Combines constraints into one; returns None if there are none. Recent results are kept.

    Args:
        alphabet, time_steps: those of the reader.
        length, pattern, words: those of `Reader.read`, where `words` is a tuple.

    Raises:
        ConstraintError: if an argument is invalid, or if no text that fits in the time steps meets them all.
    """
    parts = []
    if length is not None:  # larger limits would only make the automaton larger
        limits = (length, length) if isinstance(length, int) else length
        parts.append(Constraint.length(alphabet, *(min(limit, time_steps + 1) for limit in limits)))
    if pattern is not None:
        parts.append(Constraint.pattern(alphabet, unicodedata.normalize("NFC", pattern)))
    if words is not None:
        words = (unicodedata.normalize("NFC", word) for word in words)
        parts.append(Constraint.words(alphabet, words))
    if not parts:
        return None
    combined = functools.reduce(operator.and_, parts)
    uniform = log_softmax(np.zeros((time_steps, alphabet.number_of_classes)))
    if not search(uniform, combined):
        raise ConstraintError(
            "Expected at least one text that meets the given length, pattern and word list and fits in the "
            f"reader's {time_steps} time steps. There is none. Relax one of them."
        )
    return combined


def read_words(path):
    """Returns the lines of a UTF-8 text file, without surrounding spaces, as a tuple."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConstraintError(
            f"Expected a UTF-8 text file with one word per line at {path}: {error}"
        ) from error
    return tuple(line.strip() for line in lines)


def _matcher(part, pattern):
    """Returns a function that checks whether a character matches one part of a pattern."""
    if part in WILDCARDS:
        return WILDCARDS[part]
    if part[0] == "[":
        expression = re.sub(r"\\([A-Za-z0-9])", r"\1", part)  # in a pattern, \d is the letter d
    else:
        expression = part if part == "\\" else re.escape(part[-1])
    try:
        return re.compile(expression).fullmatch
    except re.error as error:
        raise ConstraintError(
            f"Expected a pattern such as AA-[0-5]. In {pattern!r}, {part}: {error}"
        ) from error
