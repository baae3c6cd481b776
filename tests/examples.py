"""What several tests take as an example."""

from alphabet import Alphabet

ALPHABET = Alphabet("abcdé ")
