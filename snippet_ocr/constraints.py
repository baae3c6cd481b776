"""Restricts the texts that a reader may return: by length, by pattern, or to a word list."""

import functools
import operator
import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from snippet_ocr.alphabet import BLANK
from snippet_ocr.decoding import log_softmax, search

NO_STATE = -1  # the target of a transition that is not allowed
WILDCARDS = {"A": str.isalpha, "9": str.isdecimal, "?": lambda character: True}

# One position of a pattern: an escaped character, a set, or a single character.
POSITION = re.compile(r"\\.|\[(?:\\.|[^\]\\])+\]|.", re.DOTALL)


class Trie(NamedTuple):
    """A prefix tree of a word list, as arrays of integers. Node 0 is the root, the empty prefix."""

    parents: np.ndarray  # (nodes,), 0 for the root
    characters: np.ndarray  # (nodes,): the class of each prefix's last character; `BLANK` for the root
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
        transitions: integers of shape `(states, classes)`: the next state
            after each class, or `NO_STATE` if it is not allowed.
        accepting: booleans of shape `(states,)`: whether a text may end in a state.

    Attributes:
        min_characters: floats of shape `(states,)`: the minimum number of
            characters to an accepting state; infinity if none can be reached.
        trie: the `Trie` of the texts if every state is reached by exactly one
            text, as with `words`; None otherwise.

    Examples:
        >>> alphabet = Alphabet("0123456789-abc")
        >>> codes = Constraint.pattern(alphabet, "99-A") & Constraint.words(alphabet, ["12-a", "1-b"])
        >>> codes.allows(alphabet.encode("12-a")), codes.allows(alphabet.encode("1-b"))
        (True, False)
    """

    def __init__(self, transitions, accepting):
        self.transitions = np.array(transitions, dtype="int32")
        self.transitions[:, BLANK] = NO_STATE
        self.accepting = np.array(accepting, dtype=bool)
        self.min_characters, previous = np.where(self.accepting, 0.0, np.inf), None
        while not np.array_equal(self.min_characters, previous):
            previous = self.min_characters
            after = np.where(self.transitions == NO_STATE, np.inf, previous[self.transitions])
            self.min_characters = np.minimum(previous, 1 + after.min(axis=1))
        self.trie = self._trie()

    def _trie(self):
        """Returns the texts as a `Trie`, or None if a state is reached by several texts."""
        states, characters = np.nonzero(self.transitions != NO_STATE)
        targets = self.transitions[states, characters]
        if len(set(targets.tolist())) < len(targets) or 0 in targets:
            return None
        parents, last = np.zeros((2, len(self.accepting)), dtype=int)
        parents[targets], last[targets] = states, characters
        return Trie(parents, last, np.flatnonzero(self.accepting))

    @classmethod
    def length(cls, alphabet, min_length=0, max_length=None):
        """Allows texts with a number of characters between two limits.

        Args:
            alphabet: the `Alphabet` of the reader.
            min_length, max_length: the limits, inclusive, 0 or more; `max_length` may be None for no limit.

        Raises:
            ValueError: if `min_length` is negative or exceeds `max_length`.
        """
        if min_length < 0 or (max_length is not None and max_length < min_length):
            raise ValueError(f"Expected 0 <= minimum <= maximum. Received: {min_length} to {max_length}")
        last = min_length if max_length is None else max_length
        transitions = np.repeat(np.arange(1, last + 2)[:, None], alphabet.number_of_classes, axis=1)
        transitions[last] = last if max_length is None else NO_STATE
        return cls(transitions, np.arange(last + 1) >= min_length)

    @classmethod
    def pattern(cls, alphabet, pattern):
        r"""Allows texts that match a pattern. Each part of it describes one character.

        `A` matches any letter, `9` any digit, `?` any character, `[xyz]` one of
        these characters, `[0-9a-f]` one in these ranges, `[^xyz]` none of these. Any other character
        matches itself. A backslash before a character removes its special
        meaning: `\A` matches an A.

        Args:
            alphabet: the `Alphabet` of the reader.
            pattern: a string such as `"AA-999"`.

        Raises:
            ValueError: if the pattern is incomplete, or if no character of the
                alphabet matches one of its positions.
        """
        parts = POSITION.findall(pattern)
        transitions = np.full((len(parts) + 1, alphabet.number_of_classes), NO_STATE)
        for position, part in enumerate(parts):
            allowed = list(filter(_matcher(part, pattern), alphabet.characters))
            if not allowed:
                raise ValueError(
                    f"Expected each part of the pattern to match a character of {alphabet.characters!r}. "
                    f"None matches {part!r} in {pattern!r}."
                )
            transitions[position, alphabet.encode(allowed)] = position + 1
        return cls(transitions, np.arange(len(parts) + 1) == len(parts))

    @classmethod
    def words(cls, alphabet, words):
        """Allows the words of a list.

        Args:
            alphabet: the `Alphabet` of the reader.
            words: an iterable of strings. Empty words and words with characters
                outside the alphabet are skipped.

        Raises:
            ValueError: if no word remains.
        """
        usable = dict.fromkeys(word for word in words if word and set(word).issubset(alphabet.characters))
        if not usable:
            raise ValueError(f"Expected words of the characters {alphabet.characters!r}. Found none.")
        prefixes = dict.fromkeys(word[:end] for word in usable for end in range(len(word) + 1))
        nodes = {prefix: node for node, prefix in enumerate(prefixes)}
        transitions = np.full((len(nodes), alphabet.number_of_classes), NO_STATE)
        for prefix in list(nodes)[1:]:  # the first is empty
            transitions[nodes[prefix[:-1]], alphabet.encode(prefix[-1])] = nodes[prefix]
        return cls(transitions, [prefix in usable for prefix in nodes])

    def __and__(self, other):
        """Returns a constraint that allows the texts that both allow (product of the two automata)."""
        queue, states, transitions = [(0, 0)], {(0, 0): 0}, []
        for mine, theirs in queue:  # grows in the loop
            rows = self.transitions[mine].tolist(), other.transitions[theirs].tolist()
            targets = list(zip(*rows, strict=True))
            for target in targets:
                if NO_STATE not in target and target not in states:
                    states[target] = len(queue)
                    queue.append(target)
            transitions.append([states.get(target, NO_STATE) for target in targets])
        return Constraint(transitions, [self.accepting[a] and other.accepting[b] for a, b in queue])

    def allows(self, classes):
        """Returns whether a text, given as class numbers, is allowed."""
        state = 0
        for character in classes:
            state = self.transitions[state, character]
            if state == NO_STATE:
                return False
        return bool(self.accepting[state])


def combine(alphabet, time_steps, length=None, pattern=None, words=None):
    """Combines the constraints given on the command line into one; returns None if there are none.

    Args:
        alphabet, time_steps: those of the reader.
        length: a tuple of the minimum and the maximum number of characters, or None.
        pattern: a string as in `Constraint.pattern`, or None.
        words: the path of a UTF-8 text file with one word per line, or None.

    Raises:
        ValueError: if an argument is invalid, or if no text that fits the time
            steps meets all constraints.
    """
    parts = []
    if length is not None:  # larger limits would only make the automaton larger
        parts.append(Constraint.length(alphabet, *(min(limit, time_steps + 1) for limit in length)))
    if pattern is not None:
        parts.append(Constraint.pattern(alphabet, unicodedata.normalize("NFC", pattern)))
    if words is not None:
        parts.append(Constraint.words(alphabet, _read_words(words)))
    if not parts:
        return None
    combined = functools.reduce(operator.and_, parts)
    uniform = log_softmax(np.zeros((time_steps, alphabet.number_of_classes)))
    if not search(uniform, combined):
        raise ValueError(
            "Expected at least one text that meets the given length, pattern and word list and fits in the "
            f"reader's {time_steps} time steps. There is none. Relax one of them."
        )
    return combined


def _read_words(path):
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"Expected a UTF-8 text file with one word per line at {path}: {error}") from error
    return [unicodedata.normalize("NFC", line.strip()) for line in lines]


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
        raise ValueError(f"Expected a pattern such as AA-[0-5]. In {pattern!r}, {part}: {error}") from error
