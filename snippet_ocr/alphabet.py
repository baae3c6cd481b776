"""Characters and their class numbers. No other module depends on how the classes are numbered."""

import unicodedata
from collections import Counter

import numpy as np

BLANK = 0  # the class of the CTC blank, and the padding of labels


def is_right_to_left(text):
    """Returns whether a text contains letters or digits of a right-to-left script."""
    return any(unicodedata.bidirectional(character) in ("R", "AL", "AN") for character in text)


def reorder(text):
    """Converts a text between logical order, as typed, and visual order, from left to right in the image.

    It is the Unicode Bidirectional Algorithm (UAX #9) for each line in a right-to-left paragraph, and its own
    inverse except for rare mixtures of right-to-left letters, Latin letters and digits. Texts without
    right-to-left characters are returned unchanged.
    """
    if not is_right_to_left(text):
        return text
    from bidi import get_display  # only some readers need it

    return "\n".join(get_display(row, base_dir="R") for row in text.split("\n"))


class Alphabet:
    """The characters that a reader knows, as classes from 1 to `len(alphabet)`; class 0 is the CTC blank.

    Args:
        characters: a string, or a sequence of strings of one code point each. Each character occurs once.
        logical: whether texts are in logical order, so that `encode` and `decode` convert them to and from
            the visual order of the classes; see `reorder`. It matters only for right-to-left scripts.

    Attributes:
        classes: a dictionary from each character to its class number.

    Raises:
        ValueError: if there are no characters, or if one is repeated or is not a single code point.
    """

    def __init__(self, characters, logical=False):
        characters = list(characters)
        if not characters:
            raise ValueError("Expected at least one character in the alphabet. Received none.")
        longer = [character for character in characters if len(character) != 1]
        if longer:
            raise ValueError(f"Expected single characters in the alphabet. Received: {longer}")
        repeated = [character for character, count in Counter(characters).items() if count > 1]
        if repeated:
            raise ValueError(f"Expected each character once in the alphabet. Repeated: {''.join(repeated)!r}")
        self.characters = "".join(characters)
        self.classes = {character: number for number, character in enumerate(characters, start=1)}
        self.logical = logical

    @classmethod
    def from_labels(cls, labels, logical=False):
        """Creates an `Alphabet` of all characters in an iterable of strings, sorted by code point."""
        return cls(sorted(set().union(*labels)), logical)

    @property
    def number_of_classes(self):
        """The number of characters plus one for the blank."""
        return len(self.characters) + 1

    def encode(self, text):
        """Converts a string to a list of class numbers, from left to right.

        Raises:
            ValueError: if a character of the text is not in the alphabet.
        """
        unknown = sorted(set(text) - set(self.characters))
        if unknown:
            raise ValueError(
                f"Expected only characters of the alphabet {self.characters!r}. "
                f"Received {text!r}, with {''.join(unknown)!r}."
            )
        return [self.classes[character] for character in (reorder(text) if self.logical else text)]

    def encode_batch(self, texts, length):
        """Converts strings to one int32 array of shape `(len(texts), length)`, padded with the blank.

        Raises:
            ValueError: if a text is longer than `length`, or has a character that is not in the alphabet.
        """
        batch = np.full((len(texts), length), BLANK, dtype="int32")
        for row, text in zip(batch, texts, strict=True):
            if len(text) > length:
                raise ValueError(f"Expected at most {length} characters. Received {text!r}.")
            row[: len(text)] = self.encode(text)
        return batch

    def decode(self, classes):
        """Converts class numbers, from 0 to `len(alphabet)`, to a string. Blanks and padding are dropped."""
        text = "".join(self.characters[number - 1] for number in classes if number != BLANK)
        return reorder(text) if self.logical else text

    def __len__(self):
        return len(self.characters)

    def __eq__(self, other):
        return isinstance(other, Alphabet) and vars(self) == vars(other)

    def __hash__(self):
        return hash((self.characters, self.logical))

    def __repr__(self):
        return f"Alphabet({self.characters!r}{', logical=True' if self.logical else ''})"
