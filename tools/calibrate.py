"""Copies the temperature and the threshold of a cross-validation into a reader's file.

The reader must have been trained on the same images with the same settings. Export the reader afterwards.
"""

import argparse
import json
import sys
from pathlib import Path

from snippet_ocr import Reader
from snippet_ocr.reader import check_calibration
from tools.crossval import SUMMARY

MAY_DIFFER = (
    *("data_dir", "run_name", "seed", "fold", "folds", "group_by"),
    *("validation_share", "test_share", "target_precision"),
)
"""The settings that may differ between reader and cross-validation; images are compared by content."""


def calibrate(path, folder):
    """Calibrates the reader at `path` with the results in the folder of a cross-validation.

    Returns:
        The calibration that was copied, a dictionary from `training.calibration.fit`.

    Raises:
        ValueError: if the reader or the results cannot be used, or if the reader was trained differently.
        OSError: if the reader cannot be written.
    """
    if path.suffix != ".keras":
        raise ValueError(f"Expected a .keras file. Calibrate it, then export it. Received: {path}")
    reader = Reader.load(path)
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        found, expected = _recipe(reader.provenance), _recipe(summary["provenance"])
        different, fitted = sorted(expected.items() - found.items()), dict(summary["calibration"])
        check_calibration(fitted["temperature"], fitted["threshold"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"Expected {path} to be a reader that the notebook trained, and {folder / SUMMARY} to be the "
            f"results of a cross-validation. {type(error).__name__}: {error}"
        ) from error
    if different:
        listed = "; ".join(f"{name} {found.get(name)!r}, not {value!r}" for name, value in different)
        raise ValueError(
            f"Expected a reader trained on the same images with the same settings as in {folder}. "
            f"{path} has {listed}."
        )
    reader.temperature, reader.threshold = fitted["temperature"], fitted["threshold"]
    reader.provenance = {**reader.provenance, "calibration": {"by": "cross-validation", **fitted}}
    reader.save(path)
    return fitted


def _recipe(provenance):
    """Returns what must be equal: the images, and all settings except `MAY_DIFFER`."""
    settings = {name: value for name, value in provenance["parameters"].items() if name not in MAY_DIFFER}
    return {"images": provenance["images"], **settings}


def main(arguments=None):
    """Runs the command line and returns the exit code."""
    example = "Example: python -m tools.calibrate reader.keras runs/crossval-meters-1a2b3c4d"
    parser = argparse.ArgumentParser("python -m tools.calibrate", description=__doc__, epilog=example)
    parser.add_argument("reader", metavar="READER.keras", type=Path, help="the reader; its file is rewritten")
    parser.add_argument("folder", metavar="CROSSVALIDATION", type=Path, help="the folder runs/crossval-…")
    options = parser.parse_args(arguments)
    from training import calibration

    try:
        fitted = calibrate(options.reader, options.folder)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(calibration.describe(fitted))
    print(f"calibrated: {options.reader}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
