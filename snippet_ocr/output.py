"""How readings are written: a line each, as CSV or as JSON, to a file that a killed reading goes on with."""

import csv
import io
import json
import os
import sys
from typing import NamedTuple

from snippet_ocr.terminal import printable

NEEDS_REVIEW = "needs review"
"""What is written beside a reading that is not sure enough."""

ROW_END = "\r\n"
"""The end of a CSV row; a newline in a file's name is another one."""


class Layout(NamedTuple):
    """What is written of each reading.

    Attributes:
        top: the texts that are told of each image.
        characters: whether the confidence of each character is told.
        min_confidence: what is less sure than this is marked as `needs review`;
            None marks nothing.
    """

    top: int = 1
    characters: bool = False
    min_confidence: float | None = None

    @property
    def columns(self):
        """The names of what is written, a list."""
        names = ["file", "text", "confidence"]
        names += ["review"] if self.min_confidence is not None else []
        names += ["characters"] if self.characters else []
        more = [f"{name}_{number}" for number in range(2, self.top + 1) for name in ("text", "confidence")]
        return names + more

    def row(self, path, reading):
        """What is written of a reading, a dictionary; it has fewer columns where there are fewer texts."""
        row = {"file": printable(path), "text": reading.text, "confidence": round(reading.confidence, 4)}
        if self.min_confidence is not None:
            row["review"] = NEEDS_REVIEW if reading.confidence < self.min_confidence else ""
        if self.characters:
            row["characters"] = " ".join(f"{one:.4f}" for one in reading.character_confidences)
        for number, other in enumerate(reading.alternatives, start=2):
            row |= {f"text_{number}": other.text, f"confidence_{number}": round(other.confidence, 4)}
        return row


def write_lines(readings, layout, out):
    """Writes a line for each reading, separated by tabs."""
    for path, reading in readings:
        print(*layout.row(path, reading).values(), sep="\t", file=out)


def write_csv(readings, layout, out, header=True):
    """Writes the readings as CSV."""
    writer = csv.DictWriter(out, layout.columns, restval="", lineterminator=ROW_END)
    if header:
        writer.writeheader()
    for path, reading in readings:
        writer.writerow(layout.row(path, reading))


def write_json(readings, layout, out):
    """Writes the readings as one JSON array, an object a line."""
    out.write("[")
    for number, (path, reading) in enumerate(readings):
        out.write(("," if number else "") + "\n" + json.dumps(layout.row(path, reading), ensure_ascii=False))
    out.write("\n]\n")


def finished_files(path, layout):
    """Reads which files a CSV of readings holds already, and cuts off a row that a kill left unfinished.

    Args:
        path: the `Path` of the file; it is changed only if its last row is unfinished.
        layout: the `Layout` of the file.

    Returns:
        A set of strings, as in the column `file`; None if there is not even a
        whole header.

    Raises:
        ValueError: if the file is not such a CSV.
    """
    content = path.read_bytes()
    whole = content[: content.rfind(ROW_END.encode()) + len(ROW_END) if ROW_END.encode() in content else 0]
    try:
        header, *rows = list(csv.reader(io.StringIO(whole.decode(), newline=""))) or [None]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"Expected a CSV of readings to go on with at {path}: {error}") from error
    if header != (layout.columns if whole else None) or any(len(row) != len(header) for row in rows):
        raise ValueError(
            f"Expected a CSV of readings to go on with at {path}, with the columns "
            f"{', '.join(layout.columns)}. Found others."
        )
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    return {row[0] for row in rows} if whole else None


def remaining_files(files, out, resume, layout):
    """Finds what is left of the files, if a reading is gone on with.

    Args:
        files: a list of `Path`s.
        out: the `Path` of the CSV that the readings go to, or None.
        resume: whether the CSV may be there already, and be gone on with.
        layout: the `Layout` of the CSV.

    Returns:
        A tuple: whether the CSV still needs a header, and a list of `Path`s.

    Raises:
        ValueError: if the CSV is there and is not to be gone on with, or cannot be.
    """
    if out is not None and not out.absolute().parent.is_dir():
        raise ValueError(
            f"Expected a folder at {out.absolute().parent} to write {out.name} into. There is none."
        )
    if out is None or not out.exists():
        return True, files
    if not resume:
        raise ValueError(f"Expected nothing at {out} yet. --resume goes on with it.")
    done = finished_files(out, layout)
    left = [file for file in files if done is None or printable(file) not in done]
    print(f"{len(files) - len(left)} of {len(files)} images are read already", file=sys.stderr)
    return done is None, left


def with_progress(iterable, total):
    """Passes an iterable on, with a progress bar on a terminal if tqdm is there."""
    try:
        from tqdm import tqdm
    except ImportError:
        return iterable
    return tqdm(iterable, total=total, unit=" images", disable=None, file=sys.stderr)
