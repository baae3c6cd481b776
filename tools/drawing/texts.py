"""Texts to draw. Each source is a function of a NumPy random generator, and can be pickled."""

import functools
import re
import string
from collections import defaultdict

from snippet_ocr import images
from training.labels import check_labels, find_labels, label_from_name

DIGITS, LOWER, UPPER = string.digits, string.ascii_lowercase, string.ascii_uppercase
ALPHANUMERIC = DIGITS + LOWER + UPPER
ALPHABETS = [DIGITS, LOWER, UPPER, DIGITS + LOWER, DIGITS + UPPER, ALPHANUMERIC]
ALPHABETS.append(ALPHANUMERIC + ".,:;-/+*%#&()!?'\"$@=_")
CLASSES = {"9": DIGITS, "a": LOWER, "A": UPPER, "x": DIGITS + LOWER, "X": DIGITS + UPPER}  # of patterns
LENGTHS = 1, 16
PATTERNS = {  # separated by |
    "number": "9|99|999|9999|9999|99999|999999|999999|99999999|999999999999|9999 9999|999 999",
    "price": "9.99|99.99|999.99|9,999.99|$9.99|-9.99|99%|99,99|9.999,99|RM99.99|EUR 9.99|9.99 \\X|9 \\x 9.99",
    "date": "99/99/9999|99.99.9999|9999-99-99|99/99/99|99-99-99|99:99|99:99:99|99/99|9:99 PM|99-Aaa-99",
    "serial": "AA-9999|A999999|AAA-999-99|99999-99|XXXXXX|XXXXXXXX|XXXX-XXXX|AA9999999999|xxxxxxxx|No. 99999"
    "|#9999|(99999-A)|S/N XXXXXX|9999 9999 9999|+99 999 9999|999-999-9999|\\X:99",
    "plate": "AAA-9999|AA 99 AAA|A 999 AA|AA-AA 999|9AAA999|AAA 999|99-AAA-9|AX9999|AA99AAA|9999 AAA|AXXXXX",
}
MIX = {"word": 5, "random": 5, "number": 2, "price": 2, "date": 1, "serial": 2, "plate": 1}


def pick(items, generator):
    """Draws one of `items`, a sequence such as a list of texts."""
    return items[int(generator.integers(len(items)))]


def random_text(alphabet, lengths, generator):
    """Draws random characters; `lengths` is a tuple of the minimum and the maximum number of them."""
    return "".join(pick(alphabet, generator) for _ in range(generator.integers(lengths[0], lengths[1] + 1)))


def pattern_text(pattern, generator):
    """Draws a text such as `KB-2041` for `AA-9999`; see `CLASSES`. A backslash keeps the next character."""
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    return "".join(pick(CLASSES.get(part, part[-1]), generator) for part in parts)


class Chain:
    """Draws texts of the lengths of other texts; each character depends on the two before it, as in those."""

    def __init__(self, texts):
        self.lengths, followers = [len(text) for text in texts], defaultdict(list)
        for text in texts:
            for number, character in enumerate(text):
                followers[text[max(0, number - 2) : number]].append(character)
        self.followers = dict(followers)

    def __call__(self, generator):
        text, length = "", pick(self.lengths, generator)
        while len(text) < length:
            text += pick(self.followers.get(text[-2:]) or self.followers[""], generator)
        return text.strip() or self(generator)


@functools.cache
def _words():
    """Returns the words of Python's manual, which need no download, and a `Chain` of them."""
    from pydoc_data.topics import topics

    words = sorted({word for topic in topics.values() for word in re.findall("[a-z]{2,}", topic)})
    return functools.partial(pick, words), Chain(words)


def mixed_text(mix, generator):
    """Draws 1 to 16 digits, Latin letters and punctuation, of a kind with the weights of `mix`, as `MIX`."""
    kind = pick([kind for kind, weight in mix.items() for _ in range(weight)], generator)
    if kind in PATTERNS:
        return pattern_text(pick(PATTERNS[kind].split("|"), generator), generator)
    if kind == "random":
        length = min(generator.integers(1, LENGTHS[1] + 1, 2))
        return random_text(pick(ALPHABETS, generator), (length, length), generator)
    text = " ".join(pick(_words(), generator)(generator) for _ in range(pick((1, 1, 2), generator)))
    text = pick((str, str.title, str.upper), generator)(text[: LENGTHS[1] - 1].strip())
    return text + pick(["", "", "", "", "", *":.,!?"], generator)


def texts_of(file):
    """Returns the lines of a text file in UTF-8; raises a `ValueError` if there are none."""
    lines = file.read_bytes().decode("utf-8-sig", errors="replace").splitlines()
    if not (lines := [line.strip() for line in lines if line.strip()]):
        raise ValueError(f"Expected one text per line in {file}. Found none.")
    return lines


def labels_of(folder):
    """Returns the labels of a folder of images, as the training reads them; of several rows, each one."""
    if not folder.is_dir():
        raise ValueError(f"Expected a folder of labelled images at {folder}. There is no such folder.")
    labels = find_labels(folder, [path for path in sorted(folder.rglob("*")) if path.is_file()])
    texts = labels.texts or {path: label_from_name(path.name) for path in images.find_files([folder])}
    check_labels(folder, labels, texts)
    return [row for text in texts.values() for row in text.split("\n") if row]
