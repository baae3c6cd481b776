"""Labels of images, from their file names or from a `labels.csv` in their folder."""

import csv
import io
import os
import re
import unicodedata
from pathlib import Path

LABELS_FILE = "labels.csv"


def label_from_name(name, drop_copy_number=True):
    """Returns the label in a file name: the name without its extension, in Unicode normal form NFC.

    Args:
        name: the file name, such as `"2b827_1.png"`.
        drop_copy_number: whether a trailing `_` and number are removed, so that several files can show one
            text. A number after a hyphen always stays: the label of `AB-1234.png` is `AB-1234`.
    """
    label = name[: name.rfind(".")] if "." in name else name
    if drop_copy_number:
        label = re.sub(r"_[0-9]+$", "", label)
    return unicodedata.normalize("NFC", label)


def steps_needed(label):
    """Returns the time steps that CTC needs: one per character, and a blank between repeated characters."""
    return len(label) + sum(left == right for left, right in zip(label, label[1:], strict=False))


def file_key(data_dir, file):
    """Returns the absolute path of a file in `data_dir`, normalised and in NFC, as a key for comparisons."""
    return unicodedata.normalize("NFC", os.path.normpath(os.path.join(data_dir, file)))


def read_labels_file(data_dir):
    """Reads `labels.csv` of a folder.

    It is a table in UTF-8 with the columns `file` and `text`, separated by commas, semicolons or tabs.

    Returns:
        A tuple of two. First, a dictionary from the `file_key` of each file to a tuple of label and line
        number; None if there is no `labels.csv`. Second, a list with a tuple of line number and problem for
        each line that cannot be used.

    Raises:
        ValueError: if `labels.csv` cannot be read or is not such a table.
    """
    path = Path(data_dir, LABELS_FILE)
    if not path.is_file():
        return None, []
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets put a byte order mark first
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ValueError(f"Expected {path} in UTF-8. Line {line} is not. Save the table as UTF-8.") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    first_line = text.partition("\n")[0]
    delimiter = max(",;\t", key=first_line.count)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        if rows.fieldnames is None or not {"file", "text"} <= set(rows.fieldnames):
            found = first_line[:80].strip()
            raise ValueError(f"Expected the line file,text at the beginning of {path}. Found: {found!r}")
        return _labels_and_problems(rows, data_dir)
    except csv.Error as error:
        raise ValueError(f"{path}, line {rows.line_num}, cannot be read: {error}") from error


def _labels_and_problems(rows, data_dir):
    labels, problems = {}, []
    for row in rows:
        file, text = ((row[column] or "").strip() for column in ("file", "text"))
        key = file_key(data_dir, file)
        if not file:
            problems.append((rows.line_num, "names no file"))
        elif not text:
            problems.append((rows.line_num, f"has no text for {file}"))
        elif key in labels:
            problems.append((rows.line_num, f"names {file} again; line {labels[key][1]} is used"))
        else:
            labels[key] = unicodedata.normalize("NFC", text), rows.line_num
    return labels, problems
