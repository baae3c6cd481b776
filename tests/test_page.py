from PIL import Image

from examples import ALPHABET
from reader import Reader
from tools import page


def test_rows_tell_text_alternatives_and_what_needs_review(model, shipped, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    palette = tmp_path / "image.gif"  # its bytes are no grey values
    with Image.open(shipped[1]) as image:
        image.convert("P").save(palette)
    sources = [str(broken), str(shipped[0]), str(palette)]
    readings = Reader(model, ALPHABET).read(sources[1:], top=page.TOP)
    threshold = max(reading.confidence for reading in readings)
    rows, first = page.read(Reader(model, ALPHABET, threshold=threshold), sources)
    assert first == sources[1]
    assert rows[0] == [1, "broken.png", "", "", "cannot be read: it is not an image"]
    assert [row[:3] for row in rows[1:]] == [
        [2, shipped[0].name, readings[0].text],
        [3, "image.gif", readings[1].text],
    ]
    for row, one in zip(rows[1:], readings, strict=True):
        assert row[4].startswith("needs review, ") == (one.confidence < threshold)
        assert all(f"or {another.text} " in row[4] for another in one.alternatives)


def test_page_of_nothing_is_empty(model):
    assert page.read(Reader(model, ALPHABET), []) == ([], None)
