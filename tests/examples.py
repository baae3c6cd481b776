"""What several tests take as an example."""

from snippet_ocr.alphabet import Alphabet

ALPHABET = Alphabet("abcdé ")
