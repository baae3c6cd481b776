import numpy as np

import images
from conftest import ALPHABET
from reader import Reader
from tools import page


def test_rows_tell_text_alternatives_and_what_needs_review(model, shipped, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    pasted = np.repeat(images.load_image(shipped[1])[..., None], 3, axis=2)
    (reading, other) = Reader(model, ALPHABET).read([shipped[0], pasted], top=page.TOP)
    threshold = max(reading.confidence, other.confidence)
    rows, first = page.read(
        Reader(model, ALPHABET, threshold=threshold), [str(broken), str(shipped[0]), pasted]
    )
    assert first == 1
    assert rows[0] == ["broken.png", "", "", "cannot be read: it is not an image"]
    assert [row[:2] for row in rows[1:]] == [
        [shipped[0].name, reading.text],
        ["pasted image", other.text],
    ]
    for row, one in zip(rows[1:], (reading, other), strict=True):
        assert row[3].startswith("needs review, ") == (one.confidence < threshold)
        assert all(f"or {another.text} " in row[3] for another in one.alternatives)


def test_page_of_nothing_is_empty(model):
    assert page.read(Reader(model, ALPHABET), []) == ([], None)
