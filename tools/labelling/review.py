"""What to review: labels that a model or a copy of the image contradicts."""

import csv
import json
from collections import defaultdict

from training.pixels import find_near_duplicates


def wrong_readings(path):
    """Reads the labels that a model disagrees with, the most suspect first.

    Args:
        path: the `Path` of a `suspect_labels.csv`, `readings.csv`, `test_readings.csv` or `crossval.json`.

    Returns:
        A dictionary from the names of files to tuples of label, reading, and reason.

    Raises:
        ValueError: if the file is none of these.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = json.load(file)["wrong"] if path.suffix == ".json" else csv.DictReader(file)
            rows = [row for row in rows if not int(row["right"])]
        rows.sort(key=lambda row: -float(row.get("log_odds", row["confidence"])))
        return {
            row["file"]: (row["label"], row["text"], f"labelled {row['label']!r}, read as {row['text']!r}")
            for row in rows
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"Expected suspect_labels.csv, readings.csv, test_readings.csv or crossval.json, as in runs/. "
            f"Found something else at {path}: {error!r}."
        ) from error


def contested(thumbnails, labels):
    """Finds images that are nearly the same and have different labels.

    `thumbnails` and `labels` are dictionaries from files. The result is as that of `wrong_readings`.
    """
    groups, items = defaultdict(dict), {}
    for file, first in zip(thumbnails, find_near_duplicates(list(thumbnails.values())), strict=True):
        groups[first] |= {file: labels[file]} if file in labels else {}
    for group in groups.values():
        for file, label in group.items():
            others = [(name, other) for name, other in group.items() if other != label]
            for name, other in others[:1]:
                items[file] = label, other, f"{name} is nearly the same image, with the label {other!r}"
    return items
