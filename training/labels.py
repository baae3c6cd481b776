"""Labels of images: from the label files of their folder, or else from the file names.

`python -m training.labels FOLDER` writes a `labels.csv` from file names.
"""

import argparse
import csv
import io
import json
import os
import re
import sys
import unicodedata
from collections import defaultdict
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from snippet_ocr import files, images
from snippet_ocr.terminal import printable

LABELS_FILE = "labels.csv"  # in any case; in the folder itself, it overrides every other source
FILE_NAMES = "file names"
COLUMNS = {
    "file": ("file", "filename", "file_name", "image", "image_path", "path", "name"),
    "text": ("text", "label", "transcription", "ground_truth", "plate_text", "words"),
}
READ = (".csv", ".tsv", ".xlsx", ".json", ".jsonl")
REFUSED = (".xls", ".ods", ".parquet")  # recognised as tables, not read
MAX_TABLE_BYTES = 100_000_000
MIN_DISTINCT_SHARE = 0.02  # fewer different labels than this are refused…
MIN_IMAGES_FOR_SHARE = 50  # …from this number of images
MIN_IMAGES_TO_JUDGE = 3  # equal labels and camera names are refused from this number of images
MIN_NUMBERED = 20  # names that count 1, 2, 3… are refused from this number of images

CAMERA_NAME = re.compile(
    r"(IMG|IMAGE|DSC|DSCN|DSCF|PXL|MVIMG|GOPR|PHOTO|PICTURE|WHATSAPP IMAGE|SCREENSHOT|SCAN|FRAME|CROP)"
    r"[ _.()-]*\d.*|_MG_\d+"  # a camera's, an app's or a script's prefix with a number
    r"|(SCREENSHOT|BILDSCHIRMFOTO|SIGNAL|PXL)[ _-].*"
    r"|(19|20)\d\d([-_.]?)(0[1-9]|1[0-2])\4(0[1-9]|[12]\d|3[01])([ _T.-].*)?"  # a date
    r"|[0-9A-F]{24,}|[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}",  # a hash; a UUID
    re.IGNORECASE,
)


class Labels(NamedTuple):
    """The labels that the files of a folder contain."""

    source: str  # as the summary shows it: "metadata.csv (file_name, text)", or `FILE_NAMES`
    name: str  # the name of the label file, "*.gt.txt" for one per image, or "" for file names
    texts: dict  # path of an image → label; empty for file names
    problems: list  # tuples of the path of a label file and the reason why a line of it is not used
    tables: dict  # path of a label file → None, or the reason why the file is not used


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


def find_labels(data_dir, paths, drop_copy_number=True):
    """Reads the label files of a folder; `docs/your_data.md` lists the formats.

    A `labels.csv` in the folder itself overrides all others. Otherwise, there may be one source: one file,
    files of one name in several subfolders, `rec_gt*.txt`, or a `NAME.gt.txt` next to each image.

    Args:
        data_dir: the folder, a `Path`.
        paths: the `Path`s of all files in it and below it.
        drop_copy_number: see `label_from_name`; used in messages.

    Returns:
        A `Labels`.

    Raises:
        ValueError: if a label file cannot be read or is not understood, or if there are several sources.
    """
    if any(path.is_dir() and path.name.lower() == LABELS_FILE for path in data_dir.iterdir()):
        raise ValueError(f"Expected a file at {data_dir / LABELS_FILE}. Found a folder. Rename the folder.")
    tables = [path for path in paths if _is_table(path)]
    own = [path for path in tables if path.parent == data_dir and path.name.lower() == LABELS_FILE]
    sources = defaultdict(list)
    for path in own or tables:
        sources[_source_name(path)].append(path)
    index = _Index(data_dir, [path for path in paths if path.name.lower().endswith(images.SUFFIXES)])
    found = {}
    for name, same in sources.items():
        try:
            found[name] = _combine(name, same, index)
        except ValueError as error:
            texts = {path: label_from_name(path.name, drop_copy_number) for path in index.paths}
            raise ValueError(
                f"{error} If the file names are the texts, move the file out of {data_dir}; "
                f"this would then be learnt: {_examples(texts)}."
            ) from error
    if len(found) > 1:
        raise ValueError(
            f"Expected one source of labels in {data_dir}. Found {len(found)}: "
            + "; ".join(f"{name} ({_examples(one.texts)})" for name, one in found.items())
            + f". Move all but the right one out of the folder, or save the right one as {LABELS_FILE}, "
            "with the columns file and text: it overrides the others."
        )
    if not found:
        return Labels(FILE_NAMES, "", {}, [], {})
    (labels,) = found.values()
    unused = {path: f"is not used, because there is a {LABELS_FILE}" for path in tables if own}
    return labels._replace(tables=unused | labels.tables)


def check_labels(data_dir, labels, texts):
    """Refuses labels that are probably not the texts of the images.

    Args:
        data_dir: the folder, for the message.
        labels: the `Labels` of the folder.
        texts: a dictionary from the path of each image to its label.

    Raises:
        ValueError: if labels come from names that a camera or a program gave; if all labels are equal; if
            fewer than `MIN_DISTINCT_SHARE` are different and do not come from `labels.csv` with the columns
            `file` and `text`. The message has three examples and says how to confirm the labels.
    """
    count, distinct = len(texts), len(set(texts.values()))
    if count < MIN_IMAGES_TO_JUDGE:
        return
    from_names = labels.source == FILE_NAMES
    confirm = f"save them as {LABELS_FILE} with the columns file and text, in {data_dir}"
    if from_names:
        confirm = f"run: python -m training.labels {data_dir!s}"
    advice = (
        f"This would be learnt: {_examples(texts)}. If these are not the texts of the images, list the texts "
        f"in {LABELS_FILE} with the columns file and text. If they are right, "
    )
    if from_names and _are_given_by_a_program([label_from_name(path.name, False) for path in texts]):
        raise ValueError(
            f"Expected images in {data_dir} that are named after their texts, or a label file. "
            f"Found names that a camera or a program gave. {advice}{confirm}"
        )
    found = f"in the {count} labels of {data_dir} (source: {labels.source})."
    if distinct == 1:
        raise ValueError(f"Expected different texts. Found one {found} {advice}add images with other texts.")
    confirmed = labels.source.lower() == f"{LABELS_FILE} (file, text)"
    if not confirmed and count >= MIN_IMAGES_FOR_SHARE and distinct < MIN_DISTINCT_SHARE * count:
        expected = f"Expected at least {MIN_DISTINCT_SHARE:.0%} different texts."
        raise ValueError(f"{expected} Found {distinct} {found} {advice}{confirm}")


def _are_given_by_a_program(names):
    if 2 * sum(bool(CAMERA_NAME.fullmatch(name)) for name in names) > len(names):
        return True
    numbers = {int(name) for name in names if re.fullmatch("[0-9]{1,9}", name)}
    return len(numbers) == len(names) >= MIN_NUMBERED and max(numbers) - min(numbers) < len(names)


def _examples(texts):
    shown = [f"{printable(path.name)} → {text!r}" for path, text in list(texts.items())[:3]]
    return ", ".join(shown) or "nothing"


def _is_table(path):
    """Whether a file is a table, by its suffix; a `.txt` file, by its name or its first line."""
    name = path.name.lower()
    if name.startswith((".", "~$")):  # macOS and Excel keep such files next to a table
        return False
    if name.endswith((*READ, *REFUSED, ".gt.txt")):
        return True
    if not name.endswith(".txt") or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            start = file.read(4096).replace(b"\0", b"")  # UTF-16 has a NUL in each Latin letter
    except OSError:
        return True  # it may be one; reading it reports the reason
    first_line = start.strip().partition(b"\n")[0].lower()
    suffixes = "|".join(map(re.escape, images.SUFFIXES)).encode()
    return b"\t" in first_line or bool(re.match(rb"\S+(" + suffixes + rb")\b", first_line))


def _source_name(path):
    name = path.name.lower()
    if name.endswith(".gt.txt"):
        return "*.gt.txt"
    return "rec_gt*.txt" if re.fullmatch(r"rec_gt.*\.txt", name) else path.name


class _Index:
    """Finds the image that a label file means."""

    def __init__(self, data_dir, paths):
        self.data_dir, self.paths = data_dir, paths
        self.exact = {file_key(data_dir, path): path for path in paths}
        self.stems = defaultdict(list)  # kraken and Calamari write NAME.bin.png and NAME.nrm.png
        for key, path in self.exact.items():
            self.stems[os.path.splitext(key)[0].removesuffix(".bin").removesuffix(".nrm")].append(path)

    def find(self, table, file):
        """Returns the images that a cell of a table may mean, and whether folders were left out."""
        local = unquote(file.rpartition("?d=")[2]) if re.match(r"/data/|https?:", file) else file
        for name in dict.fromkeys([file, local, local.replace("\\", "/")]):
            if found := self._below(table, name):
                return found, False
        parts = [part for part in local.replace("\\", "/").split("/") if part]
        if re.match(r"[A-Za-z]:|[/\\]|https?:", file) or local != file:  # a path on another machine
            parts_left = ["/".join(parts[start:]) for start in range(1, len(parts))] or parts
            uploaded = re.sub(r"^[0-9a-f]{8}-", "", parts[-1]) if parts else ""  # as Label Studio names them
            for name in [*parts_left, uploaded]:
                if name and (found := self._below(table, name)):
                    return found, True
        return [], False

    def _below(self, table, name):
        next_to_it, found = _source_name(table) == "*.gt.txt", []
        for folder in [table.parent] if next_to_it else [self.data_dir, table.parent]:
            key = file_key(folder, name)
            if key in self.exact:
                found.append(self.exact[key])
            elif not name.lower().endswith(images.SUFFIXES):
                found += self.stems.get(key, [])
        return list(dict.fromkeys(found))


def _combine(name, tables, index):
    """Returns the `Labels` of label files of one kind."""
    texts, problems, places, columns = {}, [], {}, set()
    for table in tables:
        header, rows = _read_table(table)
        columns.add(header)
        for place, file, text in rows:
            if isinstance(text, ValueError):
                problems.append((table, f"{place} {text}"))
                continue
            text = unicodedata.normalize("NFC", text.strip())
            found, shortened = index.find(table, file) if file else ([], False)
            if re.match(r'\[?\{"', text):
                raise ValueError(
                    f"Expected one text for each image in {table}. Found {text[:40]!r}, {place}. "
                    "Boxes and structured texts are not read; crop the images to their lines first."
                )
            if not file:
                problem = "names no file"
            elif not text:
                problem = f"has no text for {file}"
            elif len(found) > 1:
                names = [str(path.relative_to(index.data_dir)) for path in found]
                problem = f"names {file}, which may be {' or '.join(names)}"
            elif not found:
                inside = os.path.relpath(file_key(index.data_dir, file), index.data_dir)
                problem = f"names {inside}, which is not in the folder"
            elif (path := found[0]) in texts:
                other, other_shortened = places[path]
                if (shortened or other_shortened) and texts[path] != text:
                    raise ValueError(
                        f"Expected each line of {table} to name one image. {place} and {other} both name "
                        f"{path.name} in other folders, with different texts. Use relative paths."
                    )
                problem = f"names {file} again; {other} is used"
            else:
                texts[path], places[path] = text, (place, shortened)
                continue
            problems.append((table, f"{place} {problem}"))
    source = name + "".join(f" ({header})" for header in sorted(columns) if header)
    return Labels(source, name, texts, problems, dict.fromkeys(tables))


def _read_table(path):
    """Returns the columns of a label file as a text, and its rows as tuples of place, file and text."""
    name = path.name.lower()
    if path.is_symlink() or not path.is_file():
        raise ValueError(f"Expected a regular file at {path}. Found a link or a device. Copy the file there.")
    if name.endswith(REFUSED):
        raise ValueError(f"Expected one of {', '.join(READ)} and .txt. Found {path}. Save it as CSV UTF-8.")
    if path.stat().st_size > MAX_TABLE_BYTES:
        raise ValueError(f"Expected at most {MAX_TABLE_BYTES:,} bytes in {path}. Found more.")
    if name.endswith(".xlsx"):
        return _choose_columns(path, *_read_excel(path))
    text = _read_text(path)
    if name.endswith(".gt.txt"):
        line = text.strip("\r\n")
        several = ValueError("belongs to a text of several lines; crop the image to one line")
        return "", [("line 1", path.name[: -len(".gt.txt")], several if "\n" in line else line)]
    if name.endswith(".txt"):
        return _read_list(path, text)
    read = _read_json if name.endswith((".json", ".jsonl")) else _read_csv
    return _choose_columns(path, *read(path, text))


def _read_text(path):
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error
    utf_16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = content.decode("utf-16" if utf_16 else "utf-8-sig")  # spreadsheets write a byte order mark
        position = text.find("\0")
    except UnicodeDecodeError as error:
        position = error.start
    if position >= 0:
        line = content[:position].count(b"\n") + 1
        raise ValueError(
            f"Expected {path} in UTF-8. Line {line} is not. Save the table as UTF-8. "
            "In Excel, choose File → Save As → CSV UTF-8 (Comma delimited)."
        )
    return text


def _read_csv(path, text):
    first_line = text.partition("\n")[0]
    delimiter = max(",;\t", key=first_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        rows = [(f"line {reader.line_num}", row) for row in reader if row]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}, cannot be read: {error}.") from error
    return (rows[0][1] if rows else []), rows[1:]


def _read_list(path, text):
    """Reads lines of `path TAB text` or `path, "text"`; a first line with the names of columns is allowed."""
    lines = [line.rstrip("\r") for line in text.split("\n")]
    rows = [(f"line {number}", line) for number, line in enumerate(lines, 1) if line.strip()]
    rows = rows or [("line 1", text)]
    if "\t" in rows[0][1]:
        cells = [(place, line.split("\t")) for place, line in rows]
        if {cell.strip().lower() for cell in cells[0][1]} & set(COLUMNS["file"]):
            return _choose_columns(path, cells[0][1], cells[1:])
    else:  # ICDAR escapes quotes with a backslash
        matches = [(place, re.fullmatch(r'(.+?),\s*"(.*)"\s*', line)) for place, line in rows]
        cells = [(place, [m[1], m[2].replace('\\"', '"')] if m else []) for place, m in matches]
    expected = 'path, tab, text or path, "text"'
    if len(cells[0][1]) != 2:
        raise ValueError(f"Expected {expected} in {path}. Found: {rows[0][1][:80]!r}.")
    bad = ["", ValueError(f"is not {expected}")]
    return "path, text", [(place, *(row if len(row) == 2 else bad)) for place, row in cells]


def _read_json(path, text):
    lines = text.split("\n") if path.suffix.lower() == ".jsonl" else [text]
    try:  # numbers stay as they are written: 12.50 is not 12.5
        items = [json.loads(line, parse_int=str, parse_float=str) if line.strip() else None for line in lines]
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Expected JSON in {path}. It cannot be read: {error}.") from error
    unit = "line" if path.suffix.lower() == ".jsonl" else "item"
    content = items if unit == "line" else items[0]
    if not isinstance(content, list) or any(type(item) not in (dict, type(None)) for item in content):
        raise ValueError(f"Expected a list of objects with a file and a text in {path}. Found another form.")
    items = [(f"{unit} {number}", item) for number, item in enumerate(content, 1) if item is not None]
    items = [(place, _label_studio_task(item) if "annotations" in item else item) for place, item in items]
    header = list(dict.fromkeys(key for _, item in items for key in item))
    return header, [(place, [item.get(key) for key in header]) for place, item in items]


def _label_studio_task(task):
    """Returns the image and the text of a task in Label Studio's JSON, or why it has not one of each."""
    try:
        paths = [str(path) for path in task["data"].values()]
        file = [path for path in paths if unquote(path).lower().endswith(images.SUFFIXES)]
        done = [one for one in task["annotations"] if not one.get("was_cancelled")]
        results = [result for one in done for result in one["result"]]
        boxes = any({"x", "points"} & set(result["value"]) for result in results)
        texts = {tuple(result["value"]["text"]) for result in results if result["type"] == "textarea"}
    except (AttributeError, KeyError, TypeError):
        return {"file": None, "text": ValueError("is not a task of Label Studio")}
    if boxes or len(file) != 1 or len(texts) > 1:
        found = "boxes" if boxes else f"{len(file)} images and {len(texts)} different texts"
        return {"file": None, "text": ValueError(f"has {found}, not one image with one text")}
    return {"file": file[0], "text": list(*texts)}


def _read_excel(path):
    try:
        import openpyxl
    except ImportError as error:
        raise ValueError(
            f"openpyxl is needed to read {path}. Run: pip install openpyxl. "
            "Or, in Excel, choose File → Save As → CSV UTF-8 (Comma delimited)."
        ) from error
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        sheets = [
            [(f"row {n}", row) for n, row in enumerate(sheet.iter_rows(), 1)] for sheet in book.worksheets
        ]
    except Exception as error:  # a damaged file raises many kinds
        raise ValueError(f"{path} cannot be read: {error}.") from error
    tables = [
        [(place, row) for place, row in sheet if any(cell.value is not None for cell in row)]
        for sheet in sheets
    ]
    tables = [rows for rows in tables if rows]
    if len(tables) != 1:
        raise ValueError(f"Expected one sheet with a table in {path}. Found {len(tables)}.")
    return [cell.value for cell in tables[0][0][1]], tables[0][1:]


def _cell_text(value):
    """Returns a cell as its program shows it; raises ValueError for a number in an unknown format."""
    number_format = getattr(value, "number_format", None)
    value = getattr(value, "value", value)
    if type(value) is list and len(value) == 1:  # Label Studio writes lists of texts
        value = value[0]
    if value is None or value == []:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, ValueError):
        raise value
    if type(value) in (int, float):
        if zeros := re.fullmatch(r"(0+)(?:\.(0+))?", number_format):
            unit = Decimal(1).scaleb(-len(zeros[2] or ""))
            return f"{Decimal(str(value)).quantize(unit, ROUND_HALF_UP):0{len(zeros[0]) + (value < 0)}f}"
        text = str(int(value) if value == int(value) else value)
        if number_format in ("General", "@") and len(text) <= 11:  # a longer number is shown rounded
            return text
    found = f"{value!r}" + (f" in the number format {number_format!r}" if number_format else "")
    raise ValueError(f"has no text but {found}; format the column as Text and type such cells again")


def _choose_columns(path, header, rows):
    """Returns the names of the two columns that are used, and rows of place, file and text."""
    names = [str(name or "").strip().lower() for name in header]
    chosen = []
    for column, aliases in COLUMNS.items():
        found = [name for name in names if name in aliases]
        if column in found:  # the name that leaves no doubt
            found = [name for name in found if name == column]
        if len(found) != 1:
            raise ValueError(
                f"Expected one column with the {column} of each image in {path}, named "
                f"{', '.join(aliases[:-1])} or {aliases[-1]}; {LABELS_FILE} begins with the line file,text. "
                f"Found {', '.join(found) or 'none'} in {', '.join(names)[:80]!r}. Rename the columns."
            )
        chosen.append(names.index(found[0]))
    table = []
    for place, row in rows:
        cells = [row[number] if number < len(row) else None for number in chosen]
        try:
            if any(getattr(cell, "value", cell) for cell in row[len(names) :]):
                raise ValueError(f"has {len(row)} cells, the header {len(names)}; put such texts in quotes")
            table.append((place, *map(_cell_text, cells)))
        except ValueError as error:
            table.append((place, "", error))
    return ", ".join(names[number] for number in chosen), table


def main(arguments=None):
    """Writes a `labels.csv` from the file names of a folder; returns the exit code."""
    parser = argparse.ArgumentParser("python -m training.labels", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--keep-copy-number", action="store_true", help="ab_1.png has the label ab_1")
    options = parser.parse_args(arguments)
    try:
        if any(path.name.lower() == LABELS_FILE for path in options.folder.iterdir()):
            raise ValueError(f"Expected no {LABELS_FILE} in {options.folder}. Found one. It was not changed.")
        rows = [
            {"file": path.relative_to(options.folder).as_posix(), "text": text}
            for path in sorted(options.folder.rglob("*"))
            if path.name.lower().endswith(images.SUFFIXES)
            and not any(part.startswith(".") for part in path.relative_to(options.folder).parts)
            and (text := label_from_name(path.name, not options.keep_copy_number))
        ]
        files.write_csv(options.folder / LABELS_FILE, rows, ["file", "text"])
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{options.folder / LABELS_FILE}: {len(rows)} labels from file names. Check it, then train.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
