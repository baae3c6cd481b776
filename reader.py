"""A saved reader: image in, text and confidence out.

    python reader.py MODEL IMAGE_OR_FOLDER… [--csv | --json]

prints a line for each image: its file, its text and the confidence.
"""

import argparse
import csv
import json
import math
import os
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

import images
from alphabet import Alphabet
from decoding import greedy_decode, log_softmax, text_log_probability

DESCRIPTION = "reader.json"
"""The member of a reader's archive that holds what reading needs besides the model."""

BATCH_SIZE = 64


class Reading(NamedTuple):
    """What was read in an image.

    Attributes:
        text: the text.
        confidence: the model's probability of the text, from 0 to 1, summed
            over all its alignments to the time steps.
    """

    text: str
    confidence: float


def save_reader(model, alphabet, path, provenance=None):
    """Saves all that reading needs in one file.

    The file is a Keras archive with one member more, `reader.json`; Keras
    opens it as any model. It is written beside its place and then moved
    there, so that no torn file is ever left under its name.

    Args:
        model: the reading model: from images of shape `(batch, width, height, 1)`
            to logits of shape `(batch, steps, classes)`.
        alphabet: the `Alphabet` of the classes.
        path: the file to write; its name ends in `.keras`.
        provenance: a dictionary that JSON can hold: where the reader comes from.
    """
    path = Path(path)
    _, width, height, _ = model.input_shape
    description = {
        "format": 1,
        "alphabet": alphabet.characters,
        "image_width": width,
        "image_height": height,
        "normalisation": "(mean - pixel) / standard deviation, per image",
        "provenance": provenance or {},
    }
    unfinished = path.with_name(f"{path.stem}.unfinished.keras")
    model.save(unfinished)
    with zipfile.ZipFile(unfinished, "a") as archive:
        archive.writestr(DESCRIPTION, json.dumps(description, indent=1, ensure_ascii=False))
    os.replace(unfinished, path)


class Reader:
    """Reads the text in images with a trained model.

    Args:
        model: the reading model: from images of shape `(batch, width, height, 1)`
            to logits of shape `(batch, steps, classes)`.
        alphabet: the `Alphabet` of the classes.
        provenance: where the reader comes from, a dictionary.

    Attributes:
        image_width, image_height: the size that images are fitted to, in pixels.
        time_steps: the steps in which the model reads an image.

    Example:

    >>> reader = Reader.load("runs/captcha_images-1/reader.keras")
    >>> reader.read(["snippet.png"])
    [Reading(text='2b827', confidence=0.998)]
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
            path: a file that `save_reader` wrote.

        Returns:
            A `Reader`.

        Raises:
            ValueError: if the file is not there or is not a reader.
        """
        path = Path(path).absolute()
        if not path.is_file():
            found = "That is a folder." if path.is_dir() else "There is no such file."
            raise ValueError(f"Expected a saved reader at {path}. {found}")
        try:
            with zipfile.ZipFile(path) as archive:
                description = json.loads(archive.read(DESCRIPTION))
            alphabet = Alphabet(description["alphabet"])
        except (zipfile.BadZipFile, KeyError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(
                f"Expected a reader that this project saved, a .keras file with {DESCRIPTION} in it. "
                f"{path} is none: {error}"
            ) from error
        # Imported here, so that the rest of this module lives without Keras.
        import keras

        try:
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
        except Exception as error:
            raise ValueError(
                f"Expected a model that Keras {keras.__version__} can open. {path}: {error}"
            ) from error
        if model.output_shape[-1] != alphabet.number_of_classes:
            raise ValueError(
                f"Expected a model with {alphabet.number_of_classes} classes, the blank and the alphabet "
                f"{alphabet.characters!r}. {path} has {model.output_shape[-1]}."
            )
        return cls(model, alphabet, description.get("provenance"))

    def read(self, sources):
        """Reads images.

        Args:
            sources: a list of paths, bytes of files, or uint8 arrays of shape
                `(height, width)` or `(height, width, channels)`, of any size.

        Returns:
            A list of `Reading`s, one for each source.

        Raises:
            ValueError: for the first source that cannot be read; see `read_each`.
        """
        readings = []
        for source, reading in self.read_each(sources):
            if isinstance(reading, ValueError):
                name = source if isinstance(source, str | Path) else f"image {len(readings)}"
                raise ValueError(f"{name} {reading}") from reading
            readings.append(reading)
        return readings

    def read_each(self, sources):
        """Reads images one after the other, in batches, whatever may be wrong with some.

        Args:
            sources: an iterable as in `read`; it is consumed batch by batch.

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
                yield from self._read_batch(batch)
                batch = []
        yield from self._read_batch(batch)

    def _read_batch(self, batch):
        good = [image for _, image in batch if isinstance(image, np.ndarray)]
        readings = iter(self.read_prepared(np.stack(good)) if good else [])
        for source, image in batch:
            yield source, next(readings) if isinstance(image, np.ndarray) else image

    def read_prepared(self, prepared):
        """Reads images that `images.prepare_image` made ready.

        Args:
            prepared: float32 of shape `(batch, image_width, image_height, 1)`.

        Returns:
            A list of `Reading`s.
        """
        log_probabilities = log_softmax(self.model.predict_on_batch(prepared))
        readings = []
        for row, classes in zip(log_probabilities, greedy_decode(log_probabilities), strict=True):
            confidence = math.exp(text_log_probability(row, classes))
            readings.append(Reading(self.alphabet.decode(classes), min(confidence, 1.0)))
        return readings


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


def write_lines(readings, out):
    """Writes a line for each reading: file, text and confidence, separated by tabs."""
    for path, reading in readings:
        print(path, reading.text, f"{reading.confidence:.4f}", sep="\t", file=out)


def write_csv(readings, out):
    """Writes the readings as CSV with the columns file, text and confidence."""
    writer = csv.writer(out)
    writer.writerow(["file", "text", "confidence"])
    for path, reading in readings:
        writer.writerow([path, reading.text, f"{reading.confidence:.4f}"])


def write_json(readings, out):
    """Writes the readings as one JSON array, an object a line."""
    out.write("[")
    for number, (path, reading) in enumerate(readings):
        row = {"file": str(path), "text": reading.text, "confidence": round(reading.confidence, 4)}
        out.write(("," if number else "") + "\n" + json.dumps(row, ensure_ascii=False))
    out.write("\n]\n")


def main(arguments=None):
    """Runs the command line.

    Returns:
        The exit code: 0 if every image was read, 1 if one was not, 2 if there
        was no reader or nothing to read.
    """
    parser = argparse.ArgumentParser(prog="reader.py", description="Reads the text in images.")
    parser.add_argument("model", metavar="MODEL", help="a saved reader, runs/…/reader.keras; it comes first")
    parser.add_argument("images", metavar="IMAGE_OR_FOLDER", nargs="+", help="images, or folders of images")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--csv", dest="write", action="store_const", const=write_csv, help="write CSV")
    shape.add_argument("--json", dest="write", action="store_const", const=write_json, help="write JSON")
    options = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a file's name may be no text
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        files = find_files(options.images)
        reader = Reader.load(options.model)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    failed = []

    def good_readings():
        for number, (path, reading) in enumerate(reader.read_each(files), start=1):
            if isinstance(reading, ValueError):
                failed.append(path)
                print(f"{path} {reading}", file=sys.stderr)
            else:
                yield path, reading
            if number % 1000 == 0:
                print(f"read {number} of {len(files)}", file=sys.stderr)

    try:
        (options.write or write_lines)(good_readings(), sys.stdout)
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
