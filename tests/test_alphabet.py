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
    assert Alphabet("ab") == Alphabet("ab")
    assert Alphabet("ab") != Alphabet("ba")
    assert Alphabet("ab") != "ab"


# Logical and visual order by hand, following the Unicode Bidirectional Algorithm for a right-to-left line.
ORDERS = [
    ("שלום", "םולש"),
    ("שלום 123", "123 םולש"),
    ("أبج ١٢٣", "١٢٣ جبأ"),
    ("١٢ب٣٤", "٣٤ب١٢"),
    ("تهران ۱۲/۵", "۱۲/۵ نارهت"),
    ("AB שלום", "םולש AB"),
]


@pytest.mark.parametrize("logical, visual", ORDERS)
def test_right_to_left_text_is_encoded_as_seen_and_decoded_as_typed(logical, visual):
    alphabet = Alphabet.from_labels([logical], logical=True)
    classes = alphabet.encode(logical)
    assert "".join(alphabet.characters[number - 1] for number in classes) == visual
    assert alphabet.decode(classes) == logical


@pytest.mark.parametrize("text", ["AB-12", "12 Ab", "日本 7", "हिन्दी १२"])
def test_left_to_right_text_is_the_same_in_both_orders(text):
    alphabets = [Alphabet.from_labels([text], logical=logical) for logical in (False, True)]
    assert alphabets[0].encode(text) == alphabets[1].encode(text)


def test_visual_order_is_kept_unless_the_alphabet_is_logical():
    alphabet = Alphabet.from_labels(["١٢ابت"])
    assert alphabet.decode(alphabet.encode("١٢ابت")) == "١٢ابت"
    assert alphabet.encode("١٢ابت")[0] == alphabet.classes["١"]


def test_alphabets_of_different_orders_are_different():
    assert Alphabet("אב") != Alphabet("אב", logical=True)
    assert "logical=True" in repr(Alphabet("אב", logical=True))
