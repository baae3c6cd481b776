"""Characters and their class numbers, with the blank that CTC needs.

Nothing else in the project knows a class number.
"""

from collections import Counter

import numpy as np

BLANK = 0
"""The class of CTC's blank, which is also the padding of labels."""


class Alphabet:
    """The characters a reader knows, each with a class number.

    Class 0 is the blank of CTC and the padding of labels, as in Keras's own
    CTC operations (`mask_index=0`). The characters are the classes 1 to
    `len(alphabet)`, in the order in which they are given.

    Args:
        characters: the characters, each one code point and each only once,
            as a string or a sequence of strings.

    Raises:
        ValueError: if there are no characters, if one occurs twice, or if
            one is not a single code point.

    Example:

    >>> alphabet = Alphabet.from_labels(["cab", "bb"])
    >>> alphabet.characters
    'abc'
    >>> alphabet.encode("cab")
    [3, 1, 2]
    >>> alphabet.decode([3, 1, 2, 0, 0])
    'cab'
    """

    def __init__(self, characters):
        characters = list(characters)
        if not characters:
            raise ValueError("An alphabet needs at least one character. Received none.")
        wrong = [character for character in characters if len(character) != 1]
        if wrong:
            raise ValueError(f"Expected single characters. Received: {wrong}")
        twice = sorted(character for character, count in Counter(characters).items() if count > 1)
        if twice:
            raise ValueError(f"Expected every character once. Received twice: {''.join(twice)!r}")
        self.characters = "".join(characters)
        self._classes = {character: number for number, character in enumerate(characters, start=1)}

    @classmethod
    def from_labels(cls, labels):
        """Makes the alphabet of some labels: their characters, sorted by code point.

        Args:
            labels: an iterable of strings.

        Returns:
            An `Alphabet`. The same labels give the same alphabet in any order.
        """
        return cls(sorted(set().union(*labels)))

    @property
    def number_of_classes(self):
        """The characters and the blank."""
        return len(self.characters) + 1

    def encode(self, text):
        """Turns a text into its class numbers.

        Args:
            text: a string.

        Returns:
            A list of integers from 1 to `len(alphabet)`, one a character.

        Raises:
            ValueError: if a character of the text is not in the alphabet.
        """
        unknown = sorted(set(text) - set(self.characters))
        if unknown:
            raise ValueError(
                f"Expected only characters of the alphabet {self.characters!r}. "
                f"Received {text!r}, with {''.join(unknown)!r}."
            )
        return [self._classes[character] for character in text]

    def encode_batch(self, texts, length):
        """Turns texts into one array, padded with the blank.

        Args:
            texts: a list of strings, none longer than `length`.
            length: the columns of the array.

        Returns:
            An int32 array of shape `(len(texts), length)`.

        Raises:
            ValueError: if a text is longer than `length` or cannot be encoded.
        """
        batch = np.full((len(texts), length), BLANK, dtype="int32")
        for row, text in zip(batch, texts, strict=True):
            if len(text) > length:
                raise ValueError(f"Expected at most {length} characters. Received {text!r}.")
            row[: len(text)] = self.encode(text)
        return batch

    def decode(self, classes):
        """Turns class numbers into their text, leaving out blank and padding.

        Args:
            classes: a sequence of integers from 0 to `len(alphabet)`.

        Returns:
            A string.
        """
        return "".join(self.characters[number - 1] for number in classes if number != BLANK)

    def __len__(self):
        return len(self.characters)

    def __eq__(self, other):
        return isinstance(other, Alphabet) and self.characters == other.characters

    def __hash__(self):
        return hash(self.characters)

    def __repr__(self):
        return f"Alphabet({self.characters!r})"
