import csv
import json

import pytest

from conftest import full_disk
from snippet_ocr import files


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_interrupted_write_leaves_the_old_file_or_none(tmp_path, existing, error):
    path = tmp_path / "table.csv"
    if existing:
        path.write_text("old")
    with pytest.raises(error), files.atomic_write(path) as unfinished:
        unfinished.write_text("half")
        raise error
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == (
        {"table.csv": "old"} if existing else {}
    )


def test_finished_write_replaces_the_old_file(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with files.atomic_write(path) as unfinished:
        unfinished.write_text("new")
        assert path.read_text() == "old"
        assert unfinished.suffix == ".csv"
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == {"table.csv": "new"}


def test_error_of_a_full_disk_names_the_file(tmp_path):
    path = tmp_path / "table.csv"
    with (
        full_disk(10),
        pytest.raises(OSError, match=rf"File too large: '{path}'"),
        files.atomic_write(path) as unfinished,
    ):
        unfinished.write_bytes(bytes(100))
    assert list(tmp_path.iterdir()) == []


def test_json_keeps_its_content(tmp_path):
    content = {"text": "é", "values": [1, None]}
    files.write_json(tmp_path / "a.json", content)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == content


def test_csv_keeps_its_rows_or_has_a_header_only(tmp_path):
    rows = [{"file": "a\n,b", "text": "é"}, {"file": "c", "text": ""}]
    files.write_csv(tmp_path / "a.csv", rows)
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == rows
    files.write_csv(tmp_path / "a.csv", [], ["file", "text"])
    assert (tmp_path / "a.csv").read_text() == "file,text\n"
