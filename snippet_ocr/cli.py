"""The command `snippet-ocr`: reads images, describes readers, and writes pages that read."""

import argparse
import contextlib
import hashlib
import os
import re
import sys
from pathlib import Path

from snippet_ocr import images, model_file, output
from snippet_ocr.constraints import combine, read_words
from snippet_ocr.errors import ImageError
from snippet_ocr.reader import Reader
from snippet_ocr.terminal import escape, printable, progress, to_json

MAX_TOP = 1000  # texts per image: searching more takes minutes


def parse_lengths(text):
    """Parses a number such as `5`, or a range such as `3-8`: a tuple of minimum and maximum."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected a number or a range such as 3-8, received {text!r}")
    return int(match[1]), int(match[2] or match[1])


def parse_count(text):
    if not re.fullmatch(r"\d{1,9}", text) or not 1 <= int(text) <= MAX_TOP:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to {MAX_TOP}, received {text!r}")
    return int(text)


def parse_confidence(text):
    if text == "auto":
        return text
    with contextlib.suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"expected auto or a number from 0 to 1, received {text!r}")


# PYTHON_ARGCOMPLETE_OK
def parse(arguments):
    parser = argparse.ArgumentParser("snippet-ocr", description="Reads short text in images.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    text = "Prints what a reader reads and how it was trained, as JSON."
    info = commands.add_parser("info", help="describe a reader", description=text)
    text = "Reads images. Prints a line for each: file, text and confidence, separated by tabs."
    read = commands.add_parser("read", help="read images", description=text)
    text = "Writes one HTML file that reads images in a browser, without a server, and opens it."
    page = commands.add_parser("page", help="write a page that reads images", description=text)
    text = "The new file (default: next to the reader)."
    page.add_argument("--out", type=Path, metavar="FILE.html", help=text)
    for command in (info, read, page):
        command.add_argument(
            "model", metavar="MODEL", help="A saved reader: reader.onnx, reader.keras or base."
        )
        text = "Open MODEL without checks: it is your own, and you trust it (default: check it)."
        command.add_argument("--trust", action="store_true", help=text)
    add = read.add_argument
    add("images", metavar="IMAGE_OR_FOLDER", nargs="+", help="Images, or folders to search for images.")
    write = read.add_mutually_exclusive_group()
    constant = {"dest": "write", "action": "store_const", "default": output.write_lines}
    write.add_argument("--csv", const=output.write_csv, **constant, help="Print CSV (default: lines).")
    write.add_argument(
        "--json", const=output.write_json, **constant, help="Print JSON lines (default: lines)."
    )
    text = "Write CSV to a new file, row by row (default: print to standard output)."
    write.add_argument("--out", type=Path, metavar="FILE.csv", help=text)
    text = "Continue the file of --out: read only the missing images (default: the file must not exist)."
    add("--resume", action="store_true", help=text)
    text = "Print the N most probable texts of each image (default: %(default)s)."
    add("--top", type=parse_count, default=1, metavar="N", help=text)
    text = "Print the confidence of each character, too (default: only that of the text)."
    add("--characters", action="store_true", help=text)
    text = "Mark readings below it as needing review; auto is the reader's threshold (default: mark none)."
    add("--min-confidence", type=parse_confidence, metavar="auto|NUMBER", help=text)
    text = "Allow only texts of this number of characters, such as 5 or 4-6 (default: any number)."
    add("--length", type=parse_lengths, metavar="NUMBER|RANGE", help=text)
    text = (
        "Allow only texts of this form: A matches any letter, 9 any digit, ? any character, [a-f] one of "
        r"these, \A the letter A, and other characters themselves (default: any form)."
    )
    add("--pattern", help=text)
    text = "Allow only the words in this UTF-8 text file, one per line (default: any text)."
    add("--words", metavar="FILE", help=text)
    if "_ARGCOMPLETE" in os.environ:  # the shell asks how a command line may continue
        import argcomplete

        argcomplete.autocomplete(parser)
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] != ["read"]:
        return parser.parse_args(arguments)
    # Options may stand between the model and the images, which argparse does not support in subcommands.
    options = read.parse_intermixed_args(arguments[1:], argparse.Namespace(command="read"))
    if options.resume and not options.out:
        read.error("--resume needs --out FILE.csv")
    return options


def main(arguments=None):
    """Runs the command; returns the exit code.

    It is 0 if all went well; 1 if images were not read, or if the output could not be written; 2 for a wrong
    option, no reader or no images; 130 if it was interrupted.
    """
    try:
        return _run(parse(arguments))
    except KeyboardInterrupt:
        _report("interrupted")
        return 130


def _run(options):
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None if the caller closed it
        stream.reconfigure(errors="backslashreplace")  # file names may be invalid UTF-8
    if sys.stdout is None and not (options.command == "read" and options.out):
        _report("Expected an open standard output. It is closed. Use --out FILE.csv.")
        return 1
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # .keras readers import TensorFlow
    try:
        if options.command == "page":
            import webbrowser

            from snippet_ocr import page

            out = page.write(options.model, options.out, options.trust)
            webbrowser.open(out.as_uri())
            return _write(lambda: print(out))
        reader = Reader.load(options.model, options.trust)
        if options.command == "info":
            description = to_json(reader.metadata(), indent=2)
            return _write(lambda: print(description))
        words = None if options.words is None else read_words(options.words)
        limits = {"length": options.length, "pattern": options.pattern, "words": words}
        combine(reader.alphabet, reader.time_steps, **limits)  # before the output is opened
        threshold = options.min_confidence
        if threshold == "auto" and (threshold := reader.threshold) is None:
            raise ValueError(
                "Expected a reader with a threshold for --min-confidence auto. This one has none. "
                "Set one as described in docs/trust.md, or use a number from 0 to 1 instead of auto."
            )
        layout = output.Layout(options.top, options.characters, threshold)
        files = images.find_files(options.images)
        if options.out:
            reader_digest = _digest(model_file.locate(options.model).read_bytes())
            origin = {"reader": reader_digest} | limits | layout._asdict()
            origin["words"] = words and _digest("\n".join(sorted(words)).encode())
            out, finished = output.open_csv(options.out, options.resume, layout, origin)
            remaining = [file for file in files if printable(file) not in finished]
            if finished:
                _report(f"{len(files) - len(remaining)} of {len(files)} images are already in {options.out}")
            files = remaining
    except (ValueError, OSError) as error:
        _report(error)
        return 2
    failed = []
    results = reader.read_each(files, top=options.top, characters=options.characters, **limits)
    readings = _successful(progress(results, len(files), "images read", _report), failed)

    def write():
        if options.out:
            with out:
                output.write_csv(readings, layout, out, header=out.tell() == 0)
        else:
            options.write(readings, layout, sys.stdout)

    code = _write(write, options.out)
    if failed and not code:
        _report(f"{len(failed)} of {len(files)} images could not be read")
    return 1 if failed else code


def _digest(content):
    return hashlib.sha256(content).hexdigest()[:16]


def _successful(results, failed):
    """Yields the readings; reports the errors and appends their files to `failed`."""
    for path, result in results:
        if isinstance(result, ImageError):
            failed.append(path)
            _report(escape(f"{printable(path)} {result}"))
        else:
            yield path, result


def _write(write, file=None):
    """Calls a function that writes to a file, or to standard output. Returns the exit code."""
    try:
        write()
        print(end="", flush=True)  # does nothing if standard output is closed
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes again when it exits
        if not isinstance(error, BrokenPipeError):  # `… | head` closes the pipe on purpose
            advice = " Use --resume to continue." if file else ""
            _report(f"{file or 'standard output'} cannot be written: {error.strerror}.{advice}")
        return 1
    return 0


def _report(line):
    if sys.stderr:  # otherwise, it would be printed to standard output
        line = "\n".join(map(escape, str(line).split("\n")))
        print(line, file=sys.stderr, flush=True)
