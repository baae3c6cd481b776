"""Copies the threshold of a cross-validation into a reader: into both reader.onnx and reader.keras of a run.

The reader must have been trained on the same images with the same settings.
"""

import argparse
import json
import sys
from pathlib import Path

from snippet_ocr import model_file
from snippet_ocr.reader import check_threshold
from tools.crossval import SUMMARY

# The settings that may differ between reader and cross-validation; images are compared by content.
MAY_DIFFER = {"data_dir", "run_name", "seed", "fold", "folds"}
MAY_DIFFER |= {"validation_share", "test_share", "target_precision"}


def files_of(path):
    """Returns the files of a reader: `path` and its counterpart in the other format, or those in a folder."""
    path = path / "reader.onnx" if path.is_dir() else path
    found = [file for file in (path.with_suffix(".onnx"), path.with_suffix(".keras")) if file.is_file()]
    if path.suffix not in (".onnx", ".keras") or not found:
        raise ValueError(f"Expected a run's folder, or a reader.onnx or reader.keras. Found none at {path}.")
    return found


def calibrate(path, folder):
    """Calibrates a reader, a `Path` as in `files_of`, with the results in the folder of a cross-validation.

    Returns a tuple of the calibration that was copied, a dictionary from `training.calibration.fit`, and the
    files that were changed.

    Raises:
        ValueError: if the reader or the results cannot be used, or if the reader was trained differently.
        OSError: if a file cannot be written.
    """
    found = {file: model_file.description(file) for file in files_of(path)}
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        fitted = dict(summary["calibration"])
        check_threshold(fitted["threshold"])
        different = {file: _differences(one["provenance"], summary) for file, one in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"Expected {path} to be a reader that the notebook trained, and {folder / SUMMARY} to be the "
            f"results of a cross-validation. {type(error).__name__}: {error}"
        ) from error
    for file, differences in different.items():
        if differences:
            raise ValueError(
                f"Expected a reader trained on the same images with the same settings as in {folder}. "
                f"{file} has {differences}."
            )
    for file, description in found.items():
        provenance = description["provenance"] | {"calibration": {"by": "cross-validation", **fitted}}
        changes = {"threshold": fitted["threshold"], "provenance": provenance}
        model_file.set_description(file, description | changes)
    return fitted, list(found)


def _differences(provenance, summary):
    """Returns what differs in images and settings between a reader and a cross-validation, as text."""
    found, expected = (
        {"images": one["images"], **one["parameters"]} for one in (provenance, summary["provenance"])
    )
    # Groups make a cross-validation stricter. Without them, it promises too much for images of other groups.
    found["group_by"] = found.get("group_by") or expected.get("group_by")
    different = sorted(item for item in expected.items() - found.items() if item[0] not in MAY_DIFFER)
    return "; ".join(f"{name} {found.get(name)!r}, not {value!r}" for name, value in different)


def main(arguments=None):
    """Runs the command line and returns the exit code."""
    example = "Example: python -m tools.calibrate runs/meters-1 runs/crossval-meters-1a2b3c4d"
    parser = argparse.ArgumentParser("python -m tools.calibrate", description=__doc__, epilog=example)
    reader_help = "the run's folder, or a file in it; its reader.onnx and reader.keras are rewritten"
    parser.add_argument("reader", metavar="READER", type=Path, help=reader_help)
    parser.add_argument("folder", metavar="CROSSVALIDATION", type=Path, help="the folder runs/crossval-…")
    options = parser.parse_args(arguments)
    from training import calibration

    try:
        fitted, changed = calibrate(options.reader, options.folder)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(calibration.describe(fitted))
    print(f"calibrated: {', '.join(map(str, changed))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
