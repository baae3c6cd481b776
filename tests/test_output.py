import csv
import io
import json
import os
import re

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


def test_rows_that_end_in_lf_are_kept_and_continued(tmp_path):
    path, rows = tmp_path / "readings.csv", csv_of(2).replace("\r\n", "\n").encode()
    path.write_bytes(rows + b"half,a,")
    assert output.finished_files(path, output.Layout(2)) == set(NAMES)
    assert path.read_bytes() == rows


def test_file_name_with_crlf_is_one_row(tmp_path):
    path = tmp_path / "readings.csv"
    path.write_bytes(b'file,text,confidence\r\na.png,a,1\r\n"b\r\nc.png",b')
    assert output.finished_files(path, output.Layout()) == {"a.png"}
    assert path.read_bytes() == b"file,text,confidence\r\na.png,a,1\r\n"


def test_control_characters_in_a_line_are_escaped():
    out = io.StringIO()
    output.write_lines([("a\tb\n\x1b[31m.png", Reading("ü\u2028", 0.5))], output.Layout(), out)
    assert out.getvalue() == "a\\tb\\n\\x1b[31m.png\tü\\u2028\t0.5\n"


def test_csv_is_locked_until_it_is_closed(tmp_path):
    path = tmp_path / "readings.csv"
    out, finished = output.open_csv(path, True, output.Layout(), {"reader": "a"})
    assert finished == set()
    with out, pytest.raises(ValueError, match="Another process is reading into it"):
        output.open_csv(path, True, output.Layout(), {"reader": "a"})
    output.open_csv(path, True, output.Layout(), {"reader": "a"})[0].close()


def test_rows_of_another_reader_are_not_continued(tmp_path, capsys):
    path = tmp_path / "readings.csv"
    with output.open_csv(path, False, output.Layout(), {"reader": "a", "length": (4, 5)})[0] as out:
        output.write_csv([("a.png", Reading("2b", 0.5))], output.Layout(), out)
    content, other = path.read_bytes(), {"reader": "b", "length": (4, 5)}
    with pytest.raises(ValueError, match="Found: reader was 'a', not 'b'"):
        output.open_csv(path, True, output.Layout(), other)
    record = tmp_path / "readings.csv.json"
    record.write_text("[1]")
    with pytest.raises(ValueError, match=f"Expected {record} to contain the reader"):
        output.open_csv(path, True, output.Layout(), other)
    assert (record.read_text(), path.read_bytes()) == ("[1]", content)
    record.unlink()
    output.open_csv(path, True, output.Layout(), other)[0].close()
    assert f"{record} is missing" in capsys.readouterr().err


def test_folder_and_pipe_are_refused_as_output(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ValueError, match=f"{path} is a folder, a pipe or a device"):
            output.open_csv(path, True, output.Layout(), {})


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("write", [output.write_csv, output.write_json, output.write_lines])
def test_control_characters_of_names_never_reach_a_terminal(write):
    out = Terminal(newline="")
    write([("a\x1b[31m\x9b31m.png", READING)], output.Layout(2), out)
    assert not re.search(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f]", out.getvalue().replace("\t", ""))
    assert r"a\x1b[31m\x9b31m.png" in out.getvalue() or r"a\u001b[31m\u009b31m.png" in out.getvalue()


def test_json_with_control_characters_is_parsed_to_the_same_names():
    out, name = io.StringIO(), "a\x1b\x9b\u2028ü.png"
    output.write_json([(name, READING)], output.Layout(2), out)
    assert json.loads(out.getvalue())["file"] == name
