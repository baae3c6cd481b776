"""Atomic writes: a file is complete, or it is not there."""

import contextlib
import csv
import json
import os


@contextlib.contextmanager
def atomic_write(path):
    """Writes to a temporary file in the same folder and renames it when it is complete.

    A kill, a full disk or an interrupt leave the old file, or none. (After a
    power failure there may be less: nothing is flushed to the disk.)

    Args:
        path: the `Path` of the file.

    Yields:
        The `Path` to write to, with the same suffix.

    Raises:
        OSError: if it cannot be written; it names the file.
    """
    unfinished = path.with_name(f"{path.stem}.unfinished{path.suffix}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    except OSError as error:  # a full disk names neither the file nor the folder
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        unfinished.unlink(missing_ok=True)


def write_json(path, content):
    """Writes a JSON file atomically."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_csv(path, rows, columns=None):
    """Writes a table as a CSV file atomically.

    Args:
        path: the `Path` of the file.
        rows: a list of dictionaries with the same keys.
        columns: those keys, a list; required if `rows` may be empty.
    """
    with (
        atomic_write(path) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.DictWriter(file, fieldnames=columns or list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
