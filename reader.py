"""A saved reader: image in, text and confidence out.

    python reader.py MODEL IMAGE_OR_FOLDER… [--csv | --json]

prints a line for each image: its file, its text and the confidence. What may
be read can be narrowed down: `--length 4-6`, `--pattern AA-999`, `--words FILE`.
"""

import argparse
import functools
import math
import operator
import os
import re
import sys
import unicodedata
from pathlib import Path
from typing import NamedTuple

import numpy as np

import archive
import images
import results
from alphabet import Alphabet
from constraints import Constraint, read_words
from decoding import greedy_decode, log_softmax, search, text_log_probabilities

BATCH_SIZE = 64


class Reading(NamedTuple):
    """What was read in an image.

    Attributes:
        text: the text.
        confidence: the model's probability of the text, from 0 to 1, summed
            over all its alignments to the time steps.
        alternatives: the next texts, `Reading`s too, the most probable first.
    """

    text: str
    confidence: float
    alternatives: tuple = ()


class Reader:
    """Reads the text in images with a trained model.

    Args:
        model: the reading model: from images of shape `(batch, width, height, 1)`
            to logits, or log-probabilities, of shape `(batch, steps, classes)`.
        alphabet: the `Alphabet` of the classes.
        provenance: where the reader comes from, a dictionary.

    Attributes:
        image_width, image_height: the size that images are fitted to, in pixels.
        time_steps: the steps in which the model reads an image.

    Example:

    >>> reader = Reader.load("runs/captcha_images-1/reader.keras")
    >>> reader.read(["snippet.png"])
    [Reading(text='2b827', confidence=0.998, alternatives=())]
    """

    def __init__(self, model, alphabet, provenance=None):
        self.model = model
        self.alphabet = alphabet
        self.provenance = provenance or {}
        _, self.image_width, self.image_height, _ = model.input_shape
        _, self.time_steps, _ = model.output_shape

    @classmethod
    def load(cls, path):
        """Opens a saved reader. No code of the file is run (Keras's safe mode).

        Args:
            path: a file that `save` wrote, or an `.onnx` file of
                `tools.export`, which needs onnxruntime in place of Keras.

        Returns:
            A `Reader`.

        Raises:
            ValueError: if the file is not there or is not a reader.
        """
        model, description = archive.load(path)
        try:
            alphabet = Alphabet(description["alphabet"])
        except (KeyError, TypeError) as error:
            raise archive.no_reader(path, f"{archive.DESCRIPTION} names no alphabet") from error
        if model.output_shape[-1] != alphabet.number_of_classes:
            raise ValueError(
                f"Expected a model with {alphabet.number_of_classes} classes, the blank and the alphabet "
                f"{alphabet.characters!r}. {path} has {model.output_shape[-1]}."
            )
        return cls(model, alphabet, description.get("provenance"))

    def describe(self):
        """All that reading needs besides the model, and where the reader comes from.

        Returns:
            A dictionary that JSON can hold.
        """
        return {
            "format": 1,
            "alphabet": self.alphabet.characters,
            "image_width": self.image_width,
            "image_height": self.image_height,
            "normalisation": "(mean - pixel) / standard deviation, per image",
            "provenance": self.provenance,
        }

    def save(self, path):
        """Saves all that reading needs in one file, a Keras archive.

        Args:
            path: the file to write; its name ends in `.keras`.
        """
        archive.save(self.model, self.describe(), path)

    def read(self, sources, constraint=None, top=1):
        """Reads images.

        Args:
            sources: a list of paths, bytes of files, or uint8 arrays of shape
                `(height, width)` or `(height, width, channels)`, of any size.
            constraint: a `constraints.Constraint`: the texts that may be read;
                None for all.
            top: the texts that are told of each image, with the alternatives, 1 or more.

        Returns:
            A list of `Reading`s, one for each source.

        Raises:
            ValueError: for the first source that cannot be read; see `read_each`.
        """
        readings = []
        for source, reading in self.read_each(sources, constraint, top):
            if isinstance(reading, ValueError):
                name = source if isinstance(source, str | Path) else f"image {len(readings)}"
                raise ValueError(f"{name} {reading}") from reading
            readings.append(reading)
        return readings

    def read_each(self, sources, constraint=None, top=1):
        """Reads images one after the other, in batches, whatever may be wrong with some.

        Args:
            sources: an iterable as in `read`; it is consumed batch by batch.
            constraint, top: as in `read`.

        Yields:
            Tuples of a source and its `Reading`, or the `ValueError` that says
            why it could not be read, in the order of the sources.
        """
        batch = []
        for source in sources:
            try:
                batch.append((source, images.prepare_image(source, self.image_width, self.image_height)))
            except ValueError as error:
                batch.append((source, error))
            if len(batch) == BATCH_SIZE:
                yield from self._read_batch(batch, constraint, top)
                batch = []
        yield from self._read_batch(batch, constraint, top)

    def _read_batch(self, batch, constraint, top):
        good = [image for _, image in batch if isinstance(image, np.ndarray)]
        readings = iter(self.read_prepared(np.stack(good), constraint, top) if good else [])
        for source, image in batch:
            yield source, next(readings) if isinstance(image, np.ndarray) else image

    def read_prepared(self, prepared, constraint=None, top=1):
        """Reads images that `images.prepare_image` made ready.

        Args:
            prepared: float32 of shape `(batch, image_width, image_height, 1)`.
            constraint, top: as in `read`.

        Returns:
            A list of `Reading`s. Where no text that the constraint allows fits
            the steps, the text is empty and the confidence 0.
        """
        log_probabilities = log_softmax(self.model.predict_on_batch(prepared))
        if constraint is None and top == 1:
            texts = greedy_decode(log_probabilities)
            found = [
                [one] for one in zip(texts, text_log_probabilities(log_probabilities, texts), strict=True)
            ]
        else:
            allowed = constraint or Constraint.length(self.alphabet)
            found = [search(row, allowed, top) or [((), -np.inf)] for row in log_probabilities]
        return [self._reading(texts) for texts in found]

    def _reading(self, texts):
        """Makes a `Reading` of the best texts: tuples of class numbers and log-probability."""
        first, *others = (
            Reading(self.alphabet.decode(text), min(math.exp(probability), 1.0))
            for text, probability in texts
        )
        return first._replace(alternatives=tuple(others))


def find_files(names):
    """Lists the images that a command line names: files as they are, folders with all below them.

    Args:
        names: paths of files and folders.

    Returns:
        A list of `Path`s.

    Raises:
        ValueError: if a folder holds no image.
    """
    files = []
    for name in map(Path, names):
        if name.is_dir():
            found = sorted(path for path in name.rglob("*") if path.name.lower().endswith(images.SUFFIXES))
            if not found:
                raise ValueError(
                    f"Expected images ({', '.join(images.SUFFIXES)}) in {name.absolute()}. Found none."
                )
            files += found
        else:
            files.append(name)
    return files


def constraint_of(options, reader):
    """Makes the constraint of a command line.

    Args:
        options: what `parse` returns.
        reader: the `Reader` that is to read.

    Returns:
        A `Constraint`, or None if all texts are allowed.

    Raises:
        ValueError: if no text that the reader can read fulfils it, or the file
            of words cannot be read.
    """
    alphabet, parts = reader.alphabet, []
    if options.length:
        # No reader reads more characters than it has steps.
        least, most = (min(length, reader.time_steps + 1) for length in options.length)
        parts.append(Constraint.length(alphabet, least, most))
    if options.pattern is not None:
        parts.append(Constraint.pattern(alphabet, unicodedata.normalize("NFC", options.pattern)))
    if options.words is not None:
        parts.append(Constraint.words(alphabet, read_words(options.words)))
    if not parts:
        return None
    constraint = functools.reduce(operator.and_, parts)
    nothing_known = np.zeros((reader.time_steps, alphabet.number_of_classes))
    if not search(log_softmax(nothing_known), constraint):
        raise ValueError(
            "Expected length, pattern and words that some text fulfils together, "
            f"and that fits the {reader.time_steps} time steps of the reader. None does."
        )
    return constraint


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


def parse(arguments):
    """Parses the command line."""
    parser = argparse.ArgumentParser(prog="reader.py", description="Reads the text in images.")
    parser.add_argument("model", metavar="MODEL", help="a saved reader, runs/…/reader.keras; it comes first")
    parser.add_argument("images", metavar="IMAGE_OR_FOLDER", nargs="+", help="images, or folders of images")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--csv", dest="write", action="store_const", const=results.write_csv, help="CSV")
    shape.add_argument(
        "--json", dest="write", action="store_const", const=results.write_json, help="write JSON"
    )
    shape.add_argument("--out", type=Path, metavar="FILE", help="write CSV to a file, row by row")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the file of --out: read only the rest"
    )
    parser.add_argument("--top", type=parse_count, default=1, help="texts to tell of each image; 1")
    parser.add_argument("--length", type=parse_lengths, help="only texts of so many characters: 5, or 4-6")
    parser.add_argument(
        "--pattern",
        help=r"only texts of a pattern: A any letter, 9 any digit, ? any sign, [a-f] one of these, \A an A",
    )
    parser.add_argument("--words", metavar="FILE", help="only the words of a text file, one a line")
    options = parser.parse_args(arguments)
    if options.resume and not options.out:
        parser.error("--resume goes on with the file of --out")
    return options


def main(arguments=None):
    """Runs the command line.

    Returns:
        The exit code: 0 if every image was read, 1 if one was not, 2 if there
        was no reader or nothing to read.
    """
    options = parse(arguments)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a file's name may be no text
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        files = find_files(options.images)
        header, files = results.left_to_read(files, options.out, options.resume, options.top)
        reader = Reader.load(options.model)
        constraint = constraint_of(options, reader)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    failed = []

    def good_readings():
        for path, reading in results.with_progress(
            reader.read_each(files, constraint, options.top), len(files)
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
                results.write_csv(good_readings(), options.top, out, header)
        else:
            (options.write or results.write_lines)(good_readings(), options.top, sys.stdout)
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough, as in `… | head`. Python must not flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if failed:
        print(f"{len(failed)} of {len(files)} images could not be read", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
