"""Where the text of an image comes from: its file's name, or a `labels.csv` beside it."""

import csv
import io
import os
import re
import unicodedata
from pathlib import Path

LABELS_FILE = "labels.csv"


def label_from_name(name, drop_copy_number=True):
    """The label in a file's name: the name without its ending.

    Args:
        name: the name of the file, such as `"2b827_1.png"`.
        drop_copy_number: whether a trailing `_` and digits are left out, so
            that one text can occur in several files. What follows a hyphen
            always stays: `AB-1234.png` is `AB-1234`.

    Returns:
        The label, in Unicode's normal form NFC, so that one text is one label
        on every file system.
    """
    label = name[: name.rfind(".")] if "." in name else name
    if drop_copy_number:
        label = re.sub(r"_[0-9]+$", "", label)
    return unicodedata.normalize("NFC", label)


def steps_needed(label):
    """The time steps that CTC needs for a label: its length and a blank between equal neighbours."""
    return len(label) + sum(left == right for left, right in zip(label, label[1:], strict=False))


def read_labels_file(data_dir):
    """Reads `labels.csv` of a folder: a table with the columns `file` and `text`, in UTF-8.

    Its columns are separated by commas, semicolons or tabs, whichever its first
    line has.

    Args:
        data_dir: the folder.

    Returns:
        A tuple of a dictionary from files (the keys that `key_of` gives) to pairs
        of label and line number, and a list of pairs of a line number and what
        is wrong with it. The dictionary is None if the folder has no `labels.csv`.

    Raises:
        ValueError: if there is a `labels.csv` that is no such table.
    """
    path = Path(data_dir, LABELS_FILE)
    if not path.is_file():
        return None, []
    try:
        # utf-8-sig: spreadsheets begin a file with a mark that is no part of the first column's name.
        text = path.read_text(encoding="utf-8-sig")
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
            raise ValueError(
                f"Expected {path} to begin with the line file,text. Received: {first_line[:80].strip()!r}"
            )
        return _labels_and_problems(rows, data_dir)
    except csv.Error as error:
        raise ValueError(f"Expected a table in {path}. Line {rows.line_num}: {error}") from error


def key_of(data_dir, file):
    """The form in which a file in `labels.csv` and a file in the folder are the same.

    Args:
        data_dir: the folder.
        file: the file's path, absolute or within the folder.

    Returns:
        A string: the absolute path, without `.` and `..`, in Unicode's form NFC.
    """
    return unicodedata.normalize("NFC", os.path.normpath(os.path.join(data_dir, file)))


def _labels_and_problems(rows, data_dir):
    labels, problems = {}, []
    for row in rows:
        file, text = ((row[column] or "").strip() for column in ("file", "text"))
        key = key_of(data_dir, file)
        if not file:
            problems.append((rows.line_num, "names no file"))
        elif not text:
            problems.append((rows.line_num, f"has no text for {file}"))
        elif key in labels:
            first = labels[key][1]
            problems.append((rows.line_num, f"names {file} again, after line {first}; the first is used"))
        else:
            labels[key] = unicodedata.normalize("NFC", text), rows.line_num
    return labels, problems
