"""Atomic writes: a file is complete, or it is not there."""

import contextlib
import csv
import json
import os


@contextlib.contextmanager
def atomic_write(path):
    """Yields a temporary `Path` with the same suffix in the same folder, and renames it when it is complete.

    After a kill, a full disk or an interrupt, the file at `path` is the old one, or does not exist. Nothing
    is flushed to the disk, so this does not protect against a power failure. An `OSError` names the file.
    """
    unfinished = path.with_name(f"{path.stem}.unfinished{path.suffix}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    except OSError as error:  # the error of a full disk names no file
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        unfinished.unlink(missing_ok=True)


def write_json(path, content):
    """Writes a JSON file atomically."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_csv(path, rows, columns=None):
    """Writes a list of dictionaries as a CSV file atomically. An empty list needs `columns`."""
    options = {"newline": "", "encoding": "utf-8", "errors": "backslashreplace"}
    with atomic_write(path) as unfinished, unfinished.open("w", **options) as file:
        writer = csv.DictWriter(file, fieldnames=columns or list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
