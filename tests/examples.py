"""An alphabet for tests."""

from snippet_ocr.alphabet import Alphabet

ALPHABET = Alphabet("abcdé ")
