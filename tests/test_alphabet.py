import numpy as np
import pytest

from snippet_ocr.alphabet import BLANK, Alphabet


def test_alphabet_is_sorted_whatever_the_order_of_labels():
    labels = ["b2", "ax", "2a"]
    assert Alphabet.from_labels(labels).characters == "2abx"
    assert Alphabet.from_labels(labels[::-1]) == Alphabet.from_labels(labels)


def test_blank_is_class_0_and_characters_follow_from_1():
    alphabet = Alphabet("abc")
    assert BLANK == 0
    assert [alphabet.encode(character) for character in "abc"] == [[1], [2], [3]]
    assert alphabet.number_of_classes == len(alphabet) + 1 == 4


@pytest.mark.parametrize("text", ["", "a", "cab", "aabb", "ccc"])
def test_decode_inverts_encode_batch(text):
    alphabet = Alphabet("abc")
    batch = alphabet.encode_batch([text], 6)
    assert batch.dtype == np.int32
    assert list(batch[0, len(text) :]) == [BLANK] * (6 - len(text))
    assert alphabet.decode(batch[0]) == text


def test_any_code_point_can_be_a_character():
    labels = ["日本", "é", "ب", "😀", "e\u0301"]
    alphabet = Alphabet.from_labels(labels)
    assert all(alphabet.decode(alphabet.encode(label)) == label for label in labels)


def test_unknown_character_is_named():
    with pytest.raises(ValueError, match="'axz'.*'xz'"):
        Alphabet("abc").encode("axz")


def test_label_longer_than_the_batch_is_named():
    with pytest.raises(ValueError, match="at most 2.*'abc'"):
        Alphabet("abc").encode_batch(["ab", "abc"], 2)


@pytest.mark.parametrize(
    ("characters", "reason"),
    [
        ("", "at least one"),
        ("aba", "once in the alphabet.*'a'"),
        (["a", "bc"], r"single characters.*\['bc'\]"),
    ],
)
def test_invalid_alphabet_is_refused(characters, reason):
    with pytest.raises(ValueError, match=reason):
        Alphabet(characters)


def test_alphabets_are_equal_if_their_characters_are():
    assert Alphabet("ab") == Alphabet("ab") and hash(Alphabet("ab")) == hash(Alphabet("ab"))
    assert Alphabet("ab") != Alphabet("ba")
    assert Alphabet("ab") != "ab"
