"""Tables of labels: the files that programs and people write next to images, as rows of image and text."""

import csv
import io
import json
import os
import re
import unicodedata
from collections import defaultdict
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from snippet_ocr import images

COLUMNS = {
    "file": ("file", "filename", "file_name", "image", "image_path", "path", "name"),
    "text": ("text", "label", "transcription", "ground_truth", "plate_text", "words"),
}
PIXELS = ("x", "y", "width", "height")  # the columns of a box
REGION = (*PIXELS, "text", "rotation", "image_rotation", "original_width", "original_height")
PERCENT = tuple(f"{name}_percent" for name in PIXELS)
READ = (".csv", ".tsv", ".xlsx", ".json", ".jsonl")
REFUSED = (".xls", ".xlsm", ".xlsb", ".ods", ".numbers", ".parquet", ".tab", ".xml", ".csv.gz")  # not read
LISTS = ("labels.txt", "gt.txt")  # are tables, whatever they contain
SPREADSHEET = re.compile(  # what a spreadsheet writes in place of a text: errors, formulas, long numbers
    r'#(###*|N/A|REF!|VALUE!|NAME\?|DIV/0!|NUM!|NULL!)|=".*"|-?\d([.,]\d+)?E[+]\d\d+'
)
AS_CSV = "In Excel, choose File → Save As → CSV UTF-8 (Comma delimited)"
MAX_TABLE_BYTES = 100_000_000


class Row(NamedTuple):
    """A line of a label file, with its place, such as "line 2", and a problem if it is not used."""

    place: str
    file: str  # as the line names it
    path: Path | None  # of the image
    text: str
    cells: dict  # all cells, by the lower-case names of their columns
    problem: str


def file_key(data_dir, file):
    """Returns the absolute path of a file in `data_dir`, normalised and in NFC, as a key for comparisons."""
    return unicodedata.normalize("NFC", os.path.normpath(os.path.join(data_dir, file)))


def is_table(path):
    """Whether a file is a table, by its suffix; a `.txt` file, by its name or its first line."""
    name = path.name.lower()
    if name.startswith((".", "~$")):  # macOS and Excel keep such files next to a table
        return False
    if name.endswith((*READ, *REFUSED, ".gt.txt")) or name in LISTS:
        return True
    if not name.endswith(".txt") or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            start = file.read(4096).replace(b"\0", b"").strip()  # UTF-16 has a NUL in each Latin letter
    except OSError:
        return True  # it may be one; reading it reports the reason
    line = start.decode("ascii", "ignore").partition("\n")[0]
    return bool(re.match(r"(?i).*\t|\S+\.(png|jpe?g|bmp|gif|webp|tiff?)\b", line)) or _is_header(line)


def _is_header(line):
    cells = [cell.strip(' "\r').lower() for cell in re.split("[,;\t]", line)]
    return len(cells) > 1 and not {*cells}.isdisjoint(COLUMNS["file"])


class Index:
    """Finds the images that label files name, among the `paths` of all files below `data_dir`."""

    def __init__(self, data_dir, paths):
        self.data_dir = data_dir
        self.paths = [path for path in paths if path.name.lower().endswith(images.SUFFIXES)]
        parents = {path.parent for path in self.paths}
        self.folders = [data_dir, data_dir.parent, *(parents if len(parents) == 1 else ())]
        self.stems = defaultdict(list)  # kraken and Calamari write NAME.bin.png and NAME.nrm.png
        self.exact = {file_key(data_dir, path): [path] for path in self.paths}
        for key, same in self.exact.items():
            self.stems[os.path.splitext(key)[0].removesuffix(".bin").removesuffix(".nrm")] += same
        self.named = {}  # path of an image → the first `Row` that names it
        self.shortened = set()  # paths that were found without their folders

    def find(self, table, file):
        """Returns the image that a cell of a table names."""
        local = unquote(file.rpartition("?d=")[2]) if re.match(r"/data/|\w+://", file) else file
        names = [file, local, local.replace("\\", "/")]
        if re.match(r"\w+:|[/\\]", file) or local != file:  # a path on another machine, or a URL
            parts = names[-1].split("/")
            names += ["/".join(parts[start:]) for start in range(1, len(parts))]
            names.append(re.sub(r"^[0-9a-f]{8}-", "", parts[-1]))  # Label Studio names uploads so
        beside = table.name.lower().endswith(".gt.txt")
        folders = [table.parent] if beside else [*self.folders, table.parent]
        for number, name in enumerate(names):
            any_suffix = {} if name.lower().endswith(images.SUFFIXES) else self.stems
            keys = [file_key(folder, name) for folder in folders if name]
            found = [path for key in keys for path in self.exact.get(key) or any_suffix.get(key, [])]
            if len(set(found)) > 1:
                shown = [str(path.relative_to(self.data_dir)) for path in dict.fromkeys(found)]
                raise ValueError(f"names {file}, which may be {' or '.join(shown)}")
            if found:
                self.shortened |= {found[0]} if number > 2 else set()
                return found[0]
        inside = os.path.relpath(file_key(self.data_dir, file), self.data_dir)
        raise ValueError(f"names {inside}, which is not in the folder")


def read_rows(path, index, allow_empty=False):
    """Returns the two columns of a label file, such as "file, text", and a list of `Row`s.

    An empty text is a problem, unless `allow_empty`; a missing one, as in a line without a comma, always is.
    Raises ValueError if the file cannot be read or is not understood.
    """
    try:
        (_, header), *lines = _read_table(path)
        names = [str(getattr(cell, "value", cell) or "").strip().lower() for cell in header]
        columns = [_choose_column(names, column) for column in COLUMNS]
    except Exception as error:  # a damaged file raises many kinds
        raise ValueError(f"Expected a label file at {path}. {str(error).rstrip('.')}.") from error
    rows = []
    for place, line in lines:
        row = Row(place, "", None, "", dict(zip(names, line, strict=False)), "")
        try:
            if any(getattr(cell, "value", cell) for cell in line[len(names) :]):
                raise ValueError(f"has {len(line)} cells, the header {len(names)}; put such texts in quotes")
            file, text = (unicodedata.normalize("NFC", _cell_text(row.cells.get(name))) for name in columns)
            text = re.sub(r"\s*[\r\n]+\s*", "\n", text)  # rows of text have no spaces at their ends either
            if re.match(r'\[?\{"|\["', text):
                raise ValueError(f"has a list of texts or boxes, not one text: {text[:40]!r}")
            missing = row.cells.get(columns[1]) is None and path.suffix.lower() != ".xlsx"
            if not file or not text and (missing or not allow_empty):
                raise ValueError(f"has no text for {file}" if file else "names no file")
            shown = text.startswith("#") or path.suffix.lower() in (".csv", ".tsv")
            if shown and SPREADSHEET.fullmatch(text):
                raise ValueError(
                    f"has {text!r}, which a spreadsheet writes instead of a text; format the column as Text "
                    "and type such cells again, or use a .jsonl file if this is the text"
                )
            row = row._replace(file=file, path=index.find(path, file), text=text)
        except ValueError as error:
            row = row._replace(problem=str(error))
        rows.append(row)
        first = index.named.setdefault(row.path, row) if row.path else row
        if row.path in index.shortened and first.file != row.file and first.text != row.text:
            raise ValueError(
                f"Expected each image in {path} to be named once. {place} names {row.file}, {first.place} "
                f"{first.file}: both are {row.path}, with different texts. Use relative paths."
            )
    return ", ".join(columns), rows


def _choose_column(names, column):
    found = [name for name in names if name in COLUMNS[column]]
    found = [column] * found.count(column) or found  # the name that leaves no doubt
    if len(found) != 1:
        raise ValueError(
            f"Expected one column with the {column} of each image, named {', '.join(COLUMNS[column])}, as in "
            f"file,text. Found {', '.join(found) or 'none'} in {', '.join(names)[:80]!r}. Rename the columns."
        )
    return found[0]


def _read_table(path):
    """Returns the lines of a label file as tuples of a place and a list of cells; the first is the header."""
    name = path.name.lower()
    if path.is_symlink() or not path.is_file():
        raise ValueError("Found a link, a device or nothing. Copy the file there.")
    if name.endswith(REFUSED):
        raise ValueError(f"Found none of {', '.join(READ)} and .txt. Save it as CSV UTF-8.")
    if path.stat().st_size > MAX_TABLE_BYTES:
        raise ValueError(f"Found more than {MAX_TABLE_BYTES:,} bytes.")
    if name.endswith(".xlsx"):
        return _read_excel(path)
    content = path.read_bytes()
    utf_16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = content.decode("utf-16" if utf_16 else "utf-8-sig", "surrogateescape")  # with a byte order mark
    if bad := re.search("[\0\udc80-\udcff]", text):
        line = text[: bad.start()].count("\n") + 1
        raise ValueError(f"Line {line} is not UTF-8. Save the table as UTF-8. {AS_CSV}.")
    if name.endswith(".gt.txt"):
        text = text.strip("\r\n")
        return [("", ["file", "text"]), ("line 1", [path.name[:-7], text])]
    if name.endswith(".txt"):
        return _read_list(text)
    return _read_json(text, name) if name.endswith((".json", ".jsonl")) else _read_csv(text)


def _read_csv(text):
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        return [(f"line {reader.line_num}", row) for row in reader if row] or [("", [])]
    except csv.Error as error:
        raise ValueError(f"Line {reader.line_num} cannot be read: {error}.") from error


def _read_list(text):
    """Reads lines of `path TAB text` or ICDAR's `path, "text"`; with a header, it is a CSV file."""
    if _is_header(text.lstrip().partition("\n")[0]):
        return _read_csv(text.lstrip())
    lines = [line.rstrip("\r ") for line in text.split("\n")]
    cells = [line.split("\t") for line in lines]
    if "\t" not in text.lstrip().partition("\n")[0]:
        quoted = [(line, re.fullmatch('(.+?),\\s*"(.*)"', line)) for line in lines]
        cells = [[found[1], found[2].replace('\\"', '"')] if found else [line] for line, found in quoted]
    rows = [(f"line {number}", row) for number, row in enumerate(cells, 1) if "".join(row).strip()]
    if not rows or len(rows[0][1]) != 2:
        raise ValueError(f'Expected path, tab, text or path, "text". Found: {lines[0][:80]!r}.')
    return [("", ["path", "text"]), *rows]


def _read_json(text, name):
    unit, lines = ("line", text.split("\n")) if name.endswith("l") else ("item", [text])
    # Numbers stay as they are written: 12.50 is not 12.5.
    items = [json.loads(line, parse_int=str, parse_float=str) if line.strip() else {} for line in lines]
    items = enumerate(items if unit == "line" else items[0], 1)
    try:
        rows = [(number, row) for number, item in items if item is not None for row in _rows_of(item) if row]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("Expected a list of objects, or an export of Label Studio.") from error
    header = list(dict.fromkeys(name for _, row in rows for name in row))
    return [("", header)] + [(f"{unit} {number}", [row.get(name) for name in header]) for number, row in rows]


def _has_boxes(values):
    lists = [value for value in values if type(value) is list and value]
    return any(all(type(one) is dict and {"x", "points"} & {*one} for one in value) for value in lists)


def _rows_of(item):
    """Returns the rows of an object: one for each of Label Studio's boxes, or one for a whole image."""
    if "annotations" not in item:
        reason = "has boxes in JSON-MIN, which does not say which text a box has; export JSON"
        return [{"file": None, "text": ValueError(reason)} if _has_boxes(item.values()) else item]
    done, regions = [one for one in item["annotations"] if not one.get("was_cancelled")], {}
    for number, one in enumerate(done):
        for position, result in enumerate(one["result"]):  # a box and its text have the same id
            region = regions.setdefault((number, result.get("id", position)), {"text": []})
            value = result.get("value", {})
            text = value.get("text", ())
            text = [text] if isinstance(text, str) else text
            region |= result | value | {"text": [*region["text"], *text]}
    boxes = [region for region in regions.values() if {"x", "points", "rle"} & set(region)]
    texts = [region["text"] for region in regions.values() if region["text"]]
    paths = [str(path) for path in item.get("data", item).values()]
    paths = [path for path in paths if unquote(path).lower().endswith(images.SUFFIXES)]
    right = len(done) < 2 if boxes else all(text == texts[0] for text in texts)
    if len(paths) != 1 or not right:
        found = f"has {len(paths)} images, {len(done)} annotations, {len(boxes)} boxes and {len(texts)} texts"
        return [{"file": None, "text": ValueError(f"{found}, not one image with one text or one per box")}]
    if not boxes:
        return [{"file": paths[0], "text": texts[0] if texts else None}]
    names = dict(zip(PIXELS, PERCENT, strict=True))
    return [{"file": paths[0]} | {names.get(name, name): box.get(name) for name in REGION} for box in boxes]


def _read_excel(path):
    try:
        import openpyxl
    except ImportError as error:
        raise ValueError(f"Reading it needs openpyxl. Run: pip install openpyxl. Or {AS_CSV}.") from error
    tables = []
    for sheet in openpyxl.load_workbook(path, read_only=True, data_only=True).worksheets:
        sheet.reset_dimensions()  # they may be wrong, or those of an empty sheet: 17 billion cells
        rows = ((f"row {number}", row) for number, row in enumerate(sheet.iter_rows(), 1))
        tables.append([(place, row) for place, row in rows if any(cell.value is not None for cell in row)])
    if sum(map(bool, tables)) != 1:
        raise ValueError("Expected one sheet with a table. Found none or several.")
    return max(tables, key=len)


def _cell_text(cell):
    """Returns a cell as its program shows it; raises ValueError for a number in an unknown format."""
    value, number_format = getattr(cell, "value", cell), getattr(cell, "number_format", "")
    if type(value) is list and len(value) < 2:  # Label Studio writes lists of texts
        value = value[0] if value else None
    if isinstance(value, ValueError):
        raise value
    if value is None or isinstance(value, str):
        return (value or "").strip()
    if type(value) in (int, float) and number_format and abs(value) < 1e15:  # Excel keeps 15 digits
        if zeros := re.fullmatch(r"(0+)(?:\.(0+))?", number_format):
            unit = Decimal(1).scaleb(-len(zeros[2] or ""))
            return f"{Decimal(str(value)).quantize(unit, ROUND_HALF_UP):0{len(zeros[0]) + (value < 0)}f}"
        text = str(int(value) if value == int(value) else value)
        if number_format in ("General", "@") and len(text) <= 11:  # a longer number is shown rounded
            return text
    found = f"{value!r}" + (f" in the number format {number_format!r}" if number_format else "")
    raise ValueError(f"has no text but {found}; format the column as Text and type such cells again")
