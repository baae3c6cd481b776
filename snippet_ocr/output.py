"""Writes readings as lines, CSV or JSON, and continues an interrupted CSV file."""

import contextlib
import csv
import io
import json
import os
import re
import sys
from typing import NamedTuple

from snippet_ocr import files
from snippet_ocr.terminal import escape, printable, to_json

NEEDS_REVIEW = "needs review"
ROW_END = "\r\n"  # of a CSV row: unlike a single newline, it is unlikely in a file name


class Layout(NamedTuple):
    """The columns to write for each reading."""

    top: int = 1  # the number of candidate texts per image
    characters: bool = False  # whether to write the confidence of each character
    min_confidence: float | None = None  # readings below it are marked; None for no column `review`

    @property
    def columns(self):
        names = ["file", "text", "confidence"]
        names += ["review"] if self.min_confidence is not None else []
        names += ["characters"] if self.characters else []
        ranks = range(2, self.top + 1)
        return names + [f"{name}_{rank}" for rank in ranks for name in ("text", "confidence")]

    def row(self, path, reading):
        """Returns a reading as a dictionary by column, without those of missing candidates."""
        row = {"file": printable(path), "text": reading.text, "confidence": round(reading.confidence, 4)}
        if self.min_confidence is not None:
            row["review"] = "" if reading.confidence >= self.min_confidence else NEEDS_REVIEW
        if self.characters:
            row["characters"] = " ".join(f"{confidence:.4f}" for confidence in reading.character_confidences)
        for rank, other in enumerate(reading.alternatives, start=2):
            row |= {f"text_{rank}": other.text, f"confidence_{rank}": round(other.confidence, 4)}
        return row


def write_lines(readings, layout, out):
    """Writes a line per reading, with tabs between columns. `readings` yields `(path, Reading)`."""
    for path, reading in readings:
        print(*(escape(str(value)) for value in layout.row(path, reading).values()), sep="\t", file=out)


def write_csv(readings, layout, out, header=True):
    """Writes readings, as in `write_lines`, as CSV. Names keep their newlines, in quotes."""
    writer = csv.DictWriter(out, layout.columns, restval="", lineterminator=ROW_END)
    if header:
        writer.writeheader()
    for path, reading in readings:
        row = layout.row(path, reading)
        writer.writerow({name: escape(str(row[name])) for name in row} if out.isatty() else row)


def write_json(readings, layout, out):
    """Writes a JSON object per reading and line, as in `write_lines`."""
    for path, reading in readings:
        print(to_json(layout.row(path, reading)), file=out)


def finished_files(path, layout):
    """Returns the set of files in a CSV of readings, after removing an incomplete last row.

    If the file is not a CSV of this layout, raises a `ValueError` and does not change it.
    """
    content = path.read_bytes()
    # A newline in quotes belongs to a file name. Other programs may have changed the rows' ends to LF.
    unquoted = re.sub(rb'"[^"]*("|$)', lambda found: bytes(len(found[0])), content)
    complete = content[: unquoted.rfind(b"\n") + 1]
    header = ",".join(layout.columns).encode()
    try:
        rows = list(csv.reader(io.StringIO(complete.decode(), newline="")))
    except (UnicodeDecodeError, csv.Error):
        rows = [[]]  # refused below
    crlf, lf = header + b"\r\n", header + b"\n"
    same_header = content.startswith((crlf, lf)) or crlf.startswith(content)
    if not same_header or any(len(row) != len(layout.columns) for row in rows):
        raise ValueError(
            f"Expected {path} to be a CSV of readings with the columns {', '.join(layout.columns)}. "
            "Found other columns or damaged rows. Use the options of the first run, or another file."
        )
    if len(complete) < len(content):
        os.truncate(path, len(complete))
    return {row[0] for row in rows[1:]}


def open_csv(path, resume, layout, origin):
    """Opens a CSV to append readings, locked until it is closed; returns it and the set of files in it.

    Args:
        path: the `Path` of the file, which may exist only with `resume`.
        layout, origin: the `Layout` of its rows, and the reader and options of them all, as JSON values,
            which are saved next to it, in a file with `.json` after its name.

    Raises:
        ValueError: if the file cannot be used, if another process writes to it, or if its rows have another
            layout or origin. The file is then unchanged.
    """
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ValueError(f"Expected {path.name} in an existing folder. Create {folder} first.")
    if path.exists() and not path.is_file():
        raise ValueError(f"Expected the name of a file for --out. {path} is a folder, a pipe or a device.")
    options = {"buffering": 1, "encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    try:
        out = path.open("a" if resume else "x", **options)  # line by line: an interruption loses no row
    except FileExistsError as error:
        message = f"Expected a new file for --out. {path} exists. Add --resume to continue it."
        raise ValueError(message) from error
    try:
        _lock(out)
        _check_origin(path, origin)
        finished = finished_files(path, layout)
        out.seek(0, os.SEEK_END)  # an incomplete row may be gone
    except BaseException:
        out.close()
        raise
    return out, finished


def _lock(out):
    """Locks an open file until it is closed or its process ends, even by a kill."""
    try:
        import fcntl

        fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ValueError(
            f"Expected that nothing else writes to {out.name}. Another process is reading into it. "
            "Wait until it has ended, or use another file."
        ) from error
    except (ImportError, OSError):  # Windows has no fcntl, and some network disks have no locks
        return


def _check_origin(path, origin):
    """Compares `origin` with the one in the file next to a CSV; saves it there if the CSV is empty."""
    record, origin = path.with_name(f"{path.name}.json"), json.loads(json.dumps(origin))
    before = None
    if record.exists():
        with contextlib.suppress(ValueError):  # refused below
            before = json.loads(record.read_text(encoding="utf-8"))
        if not isinstance(before, dict) or before.keys() != origin.keys():
            raise ValueError(
                f"Expected {record} to contain the reader and the options of {path}. Found something else. "
                "Move or delete it."
            )
    if path.stat().st_size == 0:
        files.write_json(record, origin)
    elif before is None:
        print(f"{record} is missing: the rows in {path} may have another reader or options", file=sys.stderr)
    elif different := [name for name in origin if origin[name] != before[name]]:
        changes = "; ".join(f"{name} was {before[name]!r}, not {origin[name]!r}" for name in different)
        raise ValueError(
            f"Expected the reader and the options of the first run for {path}. Found: {changes}. "
            "Use the same ones, or another file."
        )
