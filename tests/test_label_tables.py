import datetime
import re
import sys
import zipfile

import pytest
from label_files import find, labels_in, write


def workbook(folder, cells):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["File", "Text"])
    for number, (value, number_format) in enumerate(cells, 2):
        book.active.cell(number, 1, "ab"[number - 2] + ".png")
        book.active.cell(number, 2, value).number_format = number_format
    book.create_sheet("empty")
    book.save(folder / "labels.xlsx")


@pytest.mark.parametrize(
    ("value", "number_format", "shown"),
    [
        (4187, "000000", "004187"),
        (4187, "General", "4187"),
        (4187.0, "General", "4187"),
        ("04187", "@", "04187"),
        ("1E5", "General", "1E5"),
        (12.5, "0.00", "12.50"),
        (0.125, "0.00", "0.13"),
        (-5, "000", "-005"),
    ],
)
def test_excel_cells_are_read_as_they_are_shown(folder, value, number_format, shown):
    workbook(folder, [(value, number_format)])
    assert labels_in(folder) == {"a.png": shown}
    assert find(folder).source == "labels.xlsx (file, text)"


@pytest.mark.parametrize(
    ("value", "number_format"),
    [
        (0.5, "0%"),
        (123456789012, "General"),
        (4929123412341230, "0"),
        (datetime.date(2024, 5, 1), "dd.mm.yy"),
        (True, "General"),
    ],
)
def test_excel_number_in_an_unknown_format_is_skipped(folder, value, number_format):
    workbook(folder, [("1", "@"), (value, number_format)])
    found = find(folder)
    assert list(found.texts.values()) == ["1"]
    ((_, problem),) = found.problems
    assert re.match("row 3 has no text but .*; format the column as Text", problem)


def test_excel_sheet_with_a_wrong_size_is_read(folder):
    workbook(folder, [("04187", "@")])
    with zipfile.ZipFile(folder / "labels.xlsx") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    for size in (b"A1", b"A1:XFD1048576"):
        parts[sheet] = re.sub(rb'<dimension ref="[^"]*"', b'<dimension ref="' + size + b'"', parts[sheet])
        with zipfile.ZipFile(folder / "labels.xlsx", "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, content)
        assert labels_in(folder) == {"a.png": "04187"}


def test_damaged_excel_file_and_missing_reader_are_errors(folder, monkeypatch):
    write(folder, "labels.xlsx", "no table")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "openpyxl", None)
        with pytest.raises(ValueError, match=r"pip install openpyxl.*CSV UTF-8 \(Comma delimited\)"):
            find(folder)
    pytest.importorskip("openpyxl")
    with pytest.raises(ValueError, match=r"label file at .*labels\.xlsx\. File is not a zip"):
        find(folder)
