"""The `labels.csv` that is written while someone labels: rows that do not change keep their bytes."""

import contextlib
import csv
import io
import os
import re
import unicodedata
from pathlib import Path

from snippet_ocr import files
from training.labels import LABELS_FILE, MAX_ROWS, find_labels
from training.tables import COLUMNS, SPREADSHEET, Index, read_rows

MAX_LENGTH = 200  # characters of a text, with its line breaks
ALLOWED = "\u200c\u200d\n"  # the only invisible characters that a label may contain: joiners, line breaks


def check_text(text):
    """Returns a text as `labels.csv` holds it; raises a `ValueError` if a training would refuse it."""
    rows = re.split("\r\n|\r|\n", unicodedata.normalize("NFC", text))
    rows = [row.strip() for row in rows if row.strip()]
    text = "\n".join(rows)
    if not 0 < len(text) <= MAX_LENGTH:
        raise ValueError(f"Expected a text of 1 to {MAX_LENGTH} characters. Received {len(text)}.")
    if len(rows) > MAX_ROWS:
        raise ValueError(f"Expected a text of at most {MAX_ROWS} rows. Received {len(rows)}.")
    if bad := [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in ALLOWED]:
        raise ValueError(f"The text has an invisible character, {bad[0]!a}. Type it again without.")
    if SPREADSHEET.fullmatch(text) or re.match(r'\[?\{"|\["', text):
        raise ValueError(f"A label file cannot hold {text!r}: programs write this instead of a text.")
    return text


class LabelsFile:
    """The labels of a folder, and the rows that name its images; `save` creates a missing `labels.csv`.

    The attribute `texts` is a dictionary from the paths of images to their labels. Raises a `ValueError` if
    `labels.csv` is not understood or names an image twice, or if the labels are in another file.
    """

    def __init__(self, folder):
        self.folder = folder
        (folder / LABELS_FILE).with_suffix(".unfinished.csv").unlink(missing_ok=True)  # of a killed `save`
        paths = []
        for parent, folders, names in os.walk(self.folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            paths += [Path(parent, name) for name in sorted(names)]
        found = find_labels(self.folder, paths)
        if found.name and found.name.lower() != LABELS_FILE:
            raise ValueError(
                f"Expected labels in {LABELS_FILE} only, in {self.folder}. Found {found.name}, which a new "
                f"{LABELS_FILE} would override. Save it as {LABELS_FILE}, or move it out of the folder."
            )
        tables = [path for path, problem in found.tables.items() if problem is None]
        self.path, self.texts = tables[0] if tables else self.folder / LABELS_FILE, dict(found.texts)
        self._loaded = self._signature()
        content = self.path.read_bytes() if tables else b"file,text\n"
        starts = {b"\xef\xbb": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
        self._encoding = starts.get(content[:2], "utf-8")
        text, self._index = content.decode(self._encoding), Index(self.folder, paths)
        self._newline = "\r\n" if "\r\n" in text else "\n"
        self._delimiter = max(",;\t", key=text.partition("\n")[0].count)
        names = read_rows(self.path, self._index)[0].split(", ") if tables else ["file", "text"]
        self._header, self._rows = [], {}  # path of an image, or number of another row → the row in the file
        for number, (row, cells) in enumerate(self._split(text)):
            place = self._columns["file"] if self._header else len(cells)
            image = self._find(cells[place]) if place < len(cells) else None
            if image in self._rows:
                found = f"{self.path}. Found {image.name} twice"
                raise ValueError(f"Expected each image once in {found}. Delete a row.")
            if cells and not self._header:
                self._header, lower = cells, [cell.strip().lower() for cell in cells]
                self._columns = {kind: lower.index(name) for kind, name in zip(COLUMNS, names, strict=True)}
            self._rows[image or number] = row if row.endswith(("\n", "\r")) else row + self._newline

    def _signature(self):
        found = self.path.stat() if self.path.exists() else None
        return found and (found.st_mtime_ns, found.st_size, found.st_ino)

    def refresh(self, anyway=False):
        """Reads the file again if another program has changed it.

        Raises an `OSError` if the file is not understood any more. Nothing is forgotten then: the file is
        read again by the next call.
        """
        if anyway or self._loaded != self._signature():
            try:
                vars(self).update(vars(LabelsFile(self.folder)))
            except ValueError as error:
                raise OSError(str(error)) from error

    def _split(self, text):
        """Yields each row of a table as it is in the file, and as a list of its cells."""
        lines = []
        source = (lines.append(line) or line for line in io.StringIO(text, newline=""))
        for cells in csv.reader(source, delimiter=self._delimiter, skipinitialspace=True):
            yield "".join(lines), cells
            lines.clear()

    def _find(self, file):
        """Returns the image that a cell names, or None if it is empty or names no image of the folder."""
        with contextlib.suppress(ValueError):
            return self._index.find(self.path, unicodedata.normalize("NFC", file).strip())

    def finds(self, path):
        """Returns whether a row that names an image would be found again."""
        return self._find(path.relative_to(self.folder).as_posix()) == path

    def row(self, path):
        """Returns the row of an image as it is in the file, or an empty string."""
        return self._rows.get(path, "")

    def change(self, path, text):
        """Sets the label of an image; None removes its row."""
        cells = next((cells for _, cells in self._split(self.row(path))), [])
        cells += [""] * (len(self._header) - len(cells))
        file, column = self._columns["file"], self._columns["text"]
        cells[file], cells[column] = cells[file] or path.relative_to(self.folder).as_posix(), text
        line = io.StringIO()
        csv.writer(line, delimiter=self._delimiter, lineterminator=self._newline).writerow(cells)
        self.restore(path, "" if text is None else line.getvalue(), text)

    def restore(self, path, row, text):
        """Sets the row of an image, an empty string for none, and its label or None."""
        self._rows[path] = row
        self.texts.pop(path, None)
        self.texts |= {} if text is None else {path: text}

    def save(self):
        """Writes the file atomically."""
        with files.atomic_write(self.path) as unfinished:
            unfinished.write_text("".join(self._rows.values()), encoding=self._encoding, newline="")
        self._loaded = self._signature()
