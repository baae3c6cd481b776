"""What to review: labels that a model or a copy of the image contradicts."""

import csv
import json
from collections import defaultdict

from training.pixels import find_near_duplicates


def wrong_readings(path):
    """Reads the labels that a model disagrees with, the most suspect first, from a file of a run.

    Returns a dictionary from files to tuples of label, reading, and reason. Raises a `ValueError`
    if `path` is not a suspect_labels.csv, readings.csv, test_readings.csv or crossval.json.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = json.load(file)["wrong"] if path.suffix == ".json" else csv.DictReader(file)
            rows = [row for row in rows if not int(row["right"])]
        rows.sort(key=lambda row: -float(row.get("log_odds", row["confidence"])))
        items = [(row["file"], row["label"], row["text"]) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"Expected suspect_labels.csv, readings.csv, test_readings.csv or crossval.json, as in runs/. "
            f"Found something else at {path}: {error!r}."
        ) from error
    return {file: (label, text, f"labelled {label!r}, read as {text!r}") for file, label, text in items}


def contested(thumbnails, labels):
    """Finds images that are nearly the same and have different labels, as `wrong_readings` returns them.

    `thumbnails` and `labels` are dictionaries from files.
    """
    groups, items = defaultdict(dict), {}
    for file, first in zip(thumbnails, find_near_duplicates(list(thumbnails.values())), strict=True):
        groups[first] |= {file: labels[file]} if file in labels else {}
    for group in groups.values():
        for file, label in group.items():
            if other := next((name for name in group if group[name] != label), None):
                reason = f"{other} is nearly the same image, with the label {group[other]!r}"
                items[file] = label, group[other], reason
    return items
