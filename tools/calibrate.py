"""Gives a reader the temperature and the threshold that a cross-validation found.

    python -m tools.calibrate READER CROSSVALIDATION

READER is a `reader.keras`, which is written anew; CROSSVALIDATION is the folder
that `python -m tools.crossval` left, `runs/crossval-…`, of the same images and
the same kind of training. Its readings are of every image, the notebook's own
validation images are few.
"""

import argparse
import json
import sys
from pathlib import Path

from snippet_ocr.reader import Reader
from tools.crossval import SUMMARY
from training import calibration

OF_THE_SPLIT = (
    *("data_dir", "run_name", "seed", "fold", "folds"),
    *("validation_share", "test_share", "target_precision"),
)
"""The parameters in which the reader's training may differ from those of the folds."""


def recipe(provenance):
    """What tells one kind of training from another: the images, and the parameters but for the split."""
    parameters = {name: value for name, value in provenance["parameters"].items() if name not in OF_THE_SPLIT}
    return {"images": provenance["images"], **parameters}


def calibrate(path, summary):
    """Gives a reader the temperature and the threshold of a cross-validation.

    Args:
        path: the `Path` of the reader, a `.keras` file; it is written anew.
        summary: what a cross-validation saved as `crossval.json`, a dictionary.

    Returns:
        What `calibration.fit` found for the readings of the cross-validation.

    Raises:
        ValueError: if that is no reader, or was trained on other images or in another way than the folds.
        OSError: if it cannot be written.
    """
    if path.suffix != ".keras":
        raise ValueError(f"Expected a .keras file to calibrate; export it afterwards. Received: {path}")
    reader = Reader.load(path)
    try:
        own, folds = recipe(reader.provenance), recipe(summary["provenance"])
    except KeyError as error:
        raise ValueError(
            f"Expected a reader of the notebook and a cross-validation of today: no {error}"
        ) from error
    different = [name for name in folds if own.get(name) != folds[name]]
    if different:
        raise ValueError(
            f"Expected a reader of the same images and training as the cross-validation's. {path} differs: "
            + "; ".join(f"{name} {own.get(name)!r}, not {folds[name]!r}" for name in different)
        )
    fitted = summary["calibration"]
    reader.temperature, reader.threshold = fitted["temperature"], fitted["threshold"]
    reader.provenance = {**reader.provenance, "calibration": {"by": "cross-validation", **fitted}}
    reader.save(path)
    return fitted


def main(arguments=None):
    """Runs the command line and returns the exit code."""
    parser = argparse.ArgumentParser(prog="calibrate", description="Calibrates a reader.")
    parser.add_argument("reader", metavar="READER", type=Path, help="a reader.keras")
    parser.add_argument("folder", metavar="CROSSVALIDATION", type=Path, help="the folder runs/crossval-…")
    options = parser.parse_args(arguments)
    try:
        summary = json.loads((options.folder / SUMMARY).read_text(encoding="utf-8"))
        fitted = calibrate(options.reader, summary)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(calibration.describe(fitted))
    print(f"calibrated: {options.reader}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
