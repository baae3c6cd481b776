import csv
import io

import pytest

from snippet_ocr import output
from snippet_ocr.reader import Reading

NAMES = ['a "b", c.png', "d\ne.png", "gü.png", "h.png"]
READING = Reading("2b", 0.51239, (Reading("2d", 0.25),))


def csv_of(top):
    out = io.StringIO(newline="")
    output.write_csv([(name, READING) for name in NAMES], output.Layout(top), out)
    return out.getvalue()


def test_csv_is_read_back_by_a_csv_reader():
    rows = list(csv.DictReader(io.StringIO(csv_of(2), newline="")))
    assert [row["file"] for row in rows] == NAMES
    assert [rows[0][name] for name in output.Layout(2).columns[1:]] == ["2b", "0.5124", "2d", "0.25"]


def test_csv_cut_at_any_byte_keeps_its_complete_rows(tmp_path):
    path, content = tmp_path / "readings.csv", csv_of(2).encode()
    ends = [start + 2 for start in range(len(content)) if content[start : start + 2] == b"\r\n"]
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        complete = [end for end in ends if end <= length]
        assert output.finished_files(path, output.Layout(2)) == set(NAMES[: max(0, len(complete) - 1)])
        assert path.read_bytes() == content[: max(complete, default=0)]


@pytest.mark.parametrize(
    "content",
    [
        b"file,text\r\na.png,b\r\n",
        b"file,text,confidence\r\na.png\r\n",
        b"file,text,confidence\r\n\xff,b,1\r\n",
        b"file,text,confidence\na.png,b,1\n",
        b"notes",
        csv_of(2).encode(),
    ],
)
def test_other_file_is_refused_and_left_unchanged(content, tmp_path):
    path = tmp_path / "readings.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="to be a CSV of readings with the columns"):
        output.finished_files(path, output.Layout())
    assert path.read_bytes() == content
