"""The command line of `reader.py`."""

import argparse
import json
import math
import os
import re
import sys
from pathlib import Path

from snippet_ocr import images, output
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


def min_confidence(wanted, reader):
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
    parser = argparse.ArgumentParser(prog="snippet-ocr", description="Reads the text in images.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    read = commands.add_parser("read", help="read images", description="Reads the text in images.")
    read.add_argument("model", metavar="MODEL", help="a saved reader: reader.onnx or reader.keras")
    read.add_argument("images", metavar="IMAGE_OR_FOLDER", nargs="+", help="images, or folders of images")
    form = read.add_mutually_exclusive_group()
    form.add_argument(
        "--csv",
        dest="write",
        action="store_const",
        const=output.write_csv,
        help="print CSV with a header (default: tab-separated lines)",
    )
    form.add_argument(
        "--json",
        dest="write",
        action="store_const",
        const=output.write_json,
        help="print a JSON array of objects",
    )
    form.add_argument("--out", type=Path, metavar="FILE", help="write CSV to a new file, row by row")
    read.add_argument(
        "--resume", action="store_true", help="continue the file of --out: read only the missing images"
    )
    read.add_argument(
        "--top", type=parse_count, default=1, help="number of candidate texts per image (default: 1)"
    )
    read.add_argument("--characters", action="store_true", help="print the confidence of each character")
    read.add_argument(
        "--min-confidence",
        type=parse_confidence,
        metavar="auto|NUMBER",
        help="mark readings with a lower confidence as `needs review`; auto: the reader's own threshold",
    )
    read.add_argument(
        "--length", type=parse_lengths, help="only texts with this number of characters: 5 or 4-6"
    )
    read.add_argument(
        "--pattern",
        help=r"only texts that match: A any letter, 9 any digit, ? any character, [a-f] one of these, \A an A",
    )
    read.add_argument("--words", metavar="FILE", help="only words from this text file, one per line")
    info = commands.add_parser(
        "info",
        help="describe a reader",
        description="Prints what a reader reads and how it was trained, as JSON.",
    )
    info.add_argument("model", metavar="MODEL", help="a saved reader: reader.onnx or reader.keras")
    options = parser.parse_args(arguments)
    if options.command == "read" and options.resume and not options.out:
        parser.error("--resume needs --out FILE")
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
        reader = Reader.load(options.model)
        if options.command == "info":
            print(json.dumps(reader.metadata(), indent=2, ensure_ascii=False))
            return 0
        files = images.find_files(options.images)
        layout = output.Layout(
            options.top, options.characters, min_confidence(options.min_confidence, reader)
        )
        header, files = output.remaining_files(files, options.out, options.resume, layout)
        constraint = combine(
            reader.alphabet, reader.time_steps, options.length, options.pattern, options.words
        )
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    failed = []

    def good_readings():
        for path, reading in output.with_progress(
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
                output.write_csv(good_readings(), layout, out, header)
        else:
            (options.write or output.write_lines)(good_readings(), layout, sys.stdout)
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
