import csv
import io

import pytest

from snippet_ocr import output
from snippet_ocr.reader import Reading

NAMES = ['a "b", c.png', "d\ne.png", "gü.png", "h.png"]
READING = Reading("2b", 0.51239, (Reading("2d", 0.25),))


def written(top):
    out = io.StringIO(newline="")
    output.write_csv([(name, READING) for name in NAMES], output.Layout(top), out)
    return out.getvalue()


def test_csv_is_what_another_reader_of_csv_understands():
    rows = list(csv.DictReader(io.StringIO(written(2), newline="")))
    assert [row["file"] for row in rows] == NAMES
    assert [rows[0][name] for name in output.Layout(2).columns[1:]] == ["2b", "0.5124", "2d", "0.25"]


def test_file_cut_off_at_any_byte_keeps_its_whole_rows_and_nothing_else(tmp_path):
    path, whole = tmp_path / "readings.csv", written(2).encode()
    ends = [place + 2 for place in range(len(whole)) if whole[place : place + 2] == b"\r\n"]
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        kept = [end for end in ends if end <= length]
        expected = set(NAMES[: len(kept) - 1]) if kept else None
        assert output.finished_files(path, output.Layout(2)) == expected
        assert path.read_bytes() == whole[: max(kept, default=0)]


@pytest.mark.parametrize(
    "content",
    [
        b"file,text\r\na.png,b\r\n",
        b"file,text,confidence\r\na.png\r\n",
        b"file,text,confidence\r\n\xff,b,1\r\n",
        written(2).encode(),
    ],
)
def test_file_of_another_kind_is_refused_and_left_as_it_is(content, tmp_path):
    path = tmp_path / "readings.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="Expected a CSV of readings to go on with"):
        output.finished_files(path, output.Layout())
    assert path.read_bytes() == content
