"""Texts to draw. Each source is a function of a NumPy random generator; those of this module can be pickled."""

import functools
import re
import string
from collections import defaultdict

from snippet_ocr import images
from training.labels import check_labels, find_labels, label_from_name

DIGITS, LOWER, UPPER = string.digits, string.ascii_lowercase, string.ascii_uppercase
ALPHANUMERIC = DIGITS + LOWER + UPPER
PUNCTUATION = ".,:;-/+*%#&()!?'\"$@=_"
CLASSES = {"9": DIGITS, "a": LOWER, "A": UPPER, "x": DIGITS + LOWER, "X": DIGITS + UPPER}  # of patterns
ALPHABETS = [DIGITS, LOWER, UPPER, DIGITS + LOWER, DIGITS + UPPER, ALPHANUMERIC, ALPHANUMERIC + PUNCTUATION]
MAX_LENGTH = 16  # of the mix
PATTERNS = {
    "number": "9|99|999|9999|9999|99999|999999|99999999|999999999999|9999 9999|999 999",
    "price": "9.99|99.99|999.99|9,999.99|$9.99|$99.99|-9.99|99%|9.9|99,99|9.999,99|RM99.99|EUR 9.99|9.99 X|9 \\x 9.99",
    "date": "99/99/9999|99.99.9999|9999-99-99|99/99/99|99-99-99|99:99|99:99:99|99/99|9:99 PM|99-Aaa-99|99 AAA 9999",
    "serial": "AA-9999|A999999|AAA-999-99|99999-99|XXXXXX|XXXXXXXX|XXXX-XXXX|9999-9999|AA9999999999|xxxxxxxx"
    "|No. 99999|#9999|(99999-A)|S/N XXXXXX|9999 9999 9999|+99 999 9999|999-999-9999|X:99",
    "plate": "AAA-9999|AA 99 AAA|A 999 AA|AA-AA 999|9AAA999|AAA 999|99-AAA-9|AX9999|AA99AAA|9999 AAA|AXXXXX",
}
MIX = {"word": 5, "random": 5, "number": 2, "price": 2, "date": 1, "serial": 2, "plate": 1}


def pick(generator, items):
    """Returns one of `items`, a sequence."""
    return items[int(generator.integers(len(items)))]


def random_text(alphabet, lengths, generator):
    """Draws random characters; `lengths` is a tuple of the minimum and the maximum number of them."""
    return "".join(pick(generator, alphabet) for _ in range(generator.integers(lengths[0], lengths[1] + 1)))


def pattern_text(pattern, generator):
    """Draws a text of a pattern such as `AA-9999`: A and a stand for letters, 9 for a digit, X and x for both."""
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    return "".join(pick(generator, CLASSES.get(part, part[-1])) for part in parts)


class Chain:
    """Texts that resemble others: each character depends on the two before it, and lengths are those of texts."""

    def __init__(self, texts):
        self.lengths = [len(text) for text in texts]
        self.next = defaultdict(list)
        for text in texts:
            for number, character in enumerate(text):
                self.next[text[max(0, number - 2) : number]].append(character)
        self.next = dict(self.next)

    def __call__(self, generator):
        text, length = "", pick(generator, self.lengths)
        while len(text) < length:
            text += pick(generator, self.next.get(text[-2:]) or self.next[""])
        return text.strip() or self(generator)


def word_text(words, generator):
    """Draws one of a list of texts."""
    return pick(generator, words)


@functools.cache
def _words():
    """Returns English words, those of Python's manual, and a `Chain` of them."""
    from pydoc_data.topics import topics

    words = sorted({word for topic in topics.values() for word in re.findall("[a-z]{2,}", topic)})
    return words, Chain(words)


def mixed_text(generator, mix=MIX):
    """Draws a text of 1 to 16 digits, Latin letters and punctuation, of a kind that is drawn from `mix`.

    Args:
        generator: a NumPy random generator.
        mix: a dictionary from the kinds, "word", "random" and those of `PATTERNS`, to their weights.
    """
    kind = pick(generator, [kind for kind, weight in mix.items() for _ in range(weight)])
    if kind in PATTERNS:
        return pattern_text(pick(generator, PATTERNS[kind].split("|")), generator)
    if kind == "random":
        return random_text(
            pick(generator, ALPHABETS), (1, min(generator.integers(1, MAX_LENGTH + 1, 2))), generator
        )
    words, chain = _words()
    text = " ".join(
        chain(generator) if generator.random() < 0.4 else pick(generator, words)
        for _ in range(pick(generator, (1, 1, 2)))
    )
    text = pick(generator, (str, str.title, str.upper))(text[: MAX_LENGTH - 1].strip())
    return text + pick(generator, ["", "", "", "", "", *":.,!?"])


def words_of(path):
    """Returns the lines of a text file.

    Raises:
        ValueError: if there are none.
    """
    words = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if not words:
        raise ValueError(f"Expected one text per line in {path}. Found none.")
    return words


def labels_of(folder):
    """Returns the labels of a folder of images, as the training reads them."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    labels = find_labels(folder, paths)
    texts = labels.texts or {path: label_from_name(path.name) for path in images.find_files([folder])}
    check_labels(folder, labels, texts)
    return [text for text in texts.values() if text]
