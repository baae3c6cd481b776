"""Writes readings as lines, CSV or JSON, and continues an interrupted CSV file."""

import csv
import io
import json
import os
import sys
from typing import NamedTuple

from snippet_ocr.terminal import printable

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
        return names + [
            f"{name}_{rank}" for rank in range(2, self.top + 1) for name in ("text", "confidence")
        ]

    def row(self, path, reading):
        """Returns a reading as a dictionary from column names. Columns of missing candidates are left out."""
        row = {"file": printable(path), "text": reading.text, "confidence": round(reading.confidence, 4)}
        if self.min_confidence is not None:
            row["review"] = NEEDS_REVIEW if reading.confidence < self.min_confidence else ""
        if self.characters:
            row["characters"] = " ".join(f"{confidence:.4f}" for confidence in reading.character_confidences)
        for rank, other in enumerate(reading.alternatives, start=2):
            row |= {f"text_{rank}": other.text, f"confidence_{rank}": round(other.confidence, 4)}
        return row


def write_lines(readings, layout, out):
    """Writes a line per reading, with tabs between columns. `readings` yields `(path, Reading)`."""
    for path, reading in readings:
        print(*layout.row(path, reading).values(), sep="\t", file=out)


def write_csv(readings, layout, out, header=True):
    """Writes readings, as in `write_lines`, as CSV."""
    writer = csv.DictWriter(out, layout.columns, restval="", lineterminator=ROW_END)
    if header:
        writer.writeheader()
    writer.writerows(layout.row(path, reading) for path, reading in readings)


def write_json(readings, layout, out):
    """Writes readings, as in `write_lines`, as a JSON array with one object per line."""
    out.write("[")
    for number, (path, reading) in enumerate(readings):
        out.write(("," if number else "") + "\n" + json.dumps(layout.row(path, reading), ensure_ascii=False))
    out.write("\n]\n")


def finished_files(path, layout):
    """Returns the set of files in a CSV of readings, after removing an incomplete last row from the CSV.

    Raises:
        ValueError: if the file is not a CSV of this layout; the file is then unchanged.
    """
    content = path.read_bytes()
    complete = b"".join(content.rpartition(ROW_END.encode())[:2])
    header = (",".join(layout.columns) + ROW_END).encode()
    try:
        rows = list(csv.reader(io.StringIO(complete.decode(), newline="")))
    except (UnicodeDecodeError, csv.Error):
        rows = [[]]  # refused below
    same_header = content.startswith(header) or header.startswith(content)
    if not same_header or any(len(row) != len(layout.columns) for row in rows):
        raise ValueError(
            f"Expected {path} to be a CSV of readings with the columns {', '.join(layout.columns)}. "
            "Found other columns or damaged rows. Use the options of the first run, or another file."
        )
    if len(complete) < len(content):
        os.truncate(path, len(complete))
    return {row[0] for row in rows[1:]}


def remaining_files(files, out, resume, layout):
    """Returns those of `files` that are not in the CSV `out`, which may be None.

    Raises:
        ValueError: if the folder of `out` does not exist, or if `out` exists and either `resume` is false or
            it is not a CSV of this layout.
    """
    if out is not None and not out.absolute().parent.is_dir():
        raise ValueError(f"Expected {out.name} in an existing folder. Create {out.absolute().parent} first.")
    if out is None or not out.exists():
        return files
    if not resume:
        raise ValueError(f"Expected a new file for --out. {out} exists. Add --resume to continue it.")
    finished = finished_files(out, layout)
    remaining = [file for file in files if printable(file) not in finished]
    print(f"{len(files) - len(remaining)} of {len(files)} images are already in {out}", file=sys.stderr)
    return remaining
