"""The command line of `reader.py`."""

import argparse
import json
import math
import os
import re
import sys
from pathlib import Path

from snippet_ocr import images, results
from snippet_ocr.constraints import combine
from snippet_ocr.reader import Reader


def parse_lengths(text):
    """Parses a number of characters, `5`, or a range, `3-8`, from a command line: a tuple of two integers."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected a number or a range such as 3-8, received {text!r}")
    return int(match[1]), int(match[2] or match[1])


def parse_count(text):
    """Parses a number of 1 or more from a command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, received {text!r}")
    return int(text)


def parse_confidence(text):
    """Parses a confidence from 0 to 1, or `auto`, from a command line."""
    if text == "auto":
        return text
    try:
        confidence = float(text)
    except ValueError:
        confidence = math.nan
    if not 0 <= confidence <= 1:
        raise argparse.ArgumentTypeError(f"expected auto or a number from 0 to 1, received {text!r}")
    return confidence


def least_confidence(wanted, reader):
    """The confidence below which a reading needs review: a float from 0 to 1, or None.

    Args:
        wanted: what `parse_confidence` returns, or None.
        reader: the `Reader`.

    Raises:
        ValueError: if the reader's own threshold is wanted, and it has none.
    """
    if wanted == "auto" and reader.threshold is None:
        raise ValueError(
            "Expected a reader with a threshold for --min-confidence auto. This one has none: it was never "
            "calibrated, or its readings could not support a promise. A number from 0 to 1 instead marks "
            "what is below it; “What to trust” in the README says how to get a threshold."
        )
    return reader.threshold if wanted == "auto" else wanted


def parse(arguments):
    """Parses the command line."""
    parser = argparse.ArgumentParser(prog="reader.py", description="Reads the text in images.")
    parser.add_argument("model", metavar="MODEL", help="a saved reader, runs/…/reader.keras; it comes first")
    parser.add_argument("images", metavar="IMAGE_OR_FOLDER", nargs="*", help="images, or folders of images")
    parser.add_argument(
        "--info",
        action="store_true",
        help="print what the reader is and where it comes from, and read nothing",
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--csv", dest="write", action="store_const", const=results.write_csv, help="CSV")
    shape.add_argument(
        "--json", dest="write", action="store_const", const=results.write_json, help="write JSON"
    )
    shape.add_argument("--out", type=Path, metavar="FILE", help="write CSV to a file, row by row")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the file of --out: read only the rest, named as before",
    )
    parser.add_argument("--top", type=parse_count, default=1, help="texts to tell of each image; 1")
    parser.add_argument("--characters", action="store_true", help="tell the confidence of each character")
    parser.add_argument(
        "--min-confidence",
        type=parse_confidence,
        metavar="auto|NUMBER",
        help="mark readings that are less sure as `needs review`; auto takes the reader's own threshold",
    )
    parser.add_argument("--length", type=parse_lengths, help="only texts of so many characters: 5, or 4-6")
    parser.add_argument(
        "--pattern",
        help=r"only texts of a pattern: A any letter, 9 any digit, ? any sign, [a-f] one of these, \A an A",
    )
    parser.add_argument("--words", metavar="FILE", help="only the words of a text file, one a line")
    options = parser.parse_args(arguments)
    if options.resume and not options.out:
        parser.error("--resume goes on with the file of --out")
    if bool(options.images) == options.info:
        parser.error("expected images to read, or --info alone")
    return options


def main(arguments=None):
    """Runs the command line.

    Returns:
        The exit code: 0 if every image was read, 1 if one was not or the output
        could not be written, 2 if there was no reader, nothing to read, or an
        option that makes no sense.
    """
    options = parse(arguments)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a file's name may be no text
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        files = images.find_files(options.images)
        reader = Reader.load(options.model)
        if options.info:
            print(json.dumps(reader.describe(), indent=2, ensure_ascii=False))
            return 0
        layout = results.Layout(
            options.top, options.characters, least_confidence(options.min_confidence, reader)
        )
        header, files = results.left_to_read(files, options.out, options.resume, layout)
        constraint = combine(
            reader.alphabet, reader.time_steps, options.length, options.pattern, options.words
        )
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    failed = []

    def good_readings():
        for path, reading in results.with_progress(
            reader.read_each(files, constraint, options.top, options.characters), len(files)
        ):
            if isinstance(reading, ValueError):
                failed.append(path)
                print(f"{path} {reading}", file=sys.stderr)
            else:
                yield path, reading

    try:
        if options.out:
            # Line by line, so that a kill loses no row that was written.
            with options.out.open("a", buffering=1, encoding="utf-8", newline="") as out:
                results.write_csv(good_readings(), layout, out, header)
        else:
            (options.write or results.write_lines)(good_readings(), layout, sys.stdout)
            sys.stdout.flush()
    except OSError as error:
        # Whoever read our output has seen enough, as in `… | head`, or the disk is full.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python must not flush again
        if isinstance(error, BrokenPipeError):
            return 1
        goes_on = " --resume goes on with what is written." if options.out else ""
        failed.append(options.out)
        print(f"{options.out or 'the output'} cannot be written: {error.strerror}.{goes_on}", file=sys.stderr)
    else:
        if failed:
            print(f"{len(failed)} of {len(files)} images could not be read", file=sys.stderr)
    return 1 if failed else 0
