"""A saved reader: image in, text and confidence out.

    python -m snippet_ocr MODEL IMAGE_OR_FOLDER… [--csv | --json]

prints a line for each image: its file, its text and the confidence. What may
be read can be narrowed down: `--length 4-6`, `--pattern AA-999`, `--words FILE`.

    python -m snippet_ocr --info MODEL

prints what the reader is and where it comes from.
"""

import itertools
import math
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from snippet_ocr import images, model_file, terminal
from snippet_ocr.alphabet import Alphabet
from snippet_ocr.constraints import Constraint
from snippet_ocr.decoding import (
    character_probabilities,
    greedy_decode,
    log_softmax,
    search,
    text_log_probabilities,
)


class Reading(NamedTuple):
    """What was read in an image.

    Attributes:
        text: the text.
        confidence: the model's probability of the text, from 0 to 1, summed
            over all its alignments to the time steps, at the reader's temperature.
        alternatives: the next texts, `Reading`s too, the most probable first.
        character_confidences: the probability of each character, given the
            others, from 0 to 1; empty unless they were asked for.
    """

    text: str
    confidence: float
    alternatives: tuple = ()
    character_confidences: tuple = ()


class Reader:
    """Reads the text in images with a trained model.

    Args:
        model: the reading model: from images of shape `(batch, width, height, 1)`
            to logits, or log-probabilities, of shape `(batch, steps, classes)`.
        alphabet: the `Alphabet` of the classes.
        provenance: where the reader comes from, a dictionary.
        temperature: what the logits are divided by, so that confidence tells
            how often readings are right; above 0.
        threshold: the confidence from which on readings need no review, from
            0 to 1; None if none can be promised. `calibration` finds both.

    Attributes:
        image_width, image_height: the size that images are fitted to, in pixels.
        time_steps: the steps in which the model reads an image.
        batch_size: the images that the model is given at once.
        threads: the batches that are read at the same time.

    Example:

    >>> reader = Reader.load("runs/captcha_images-1/reader.keras")
    >>> reading, = reader.read(["snippet.png"])
    >>> reading.text, reading.confidence
    ('2b827', 0.998)
    """

    def __init__(self, model, alphabet, provenance=None, temperature=1.0, threshold=None):
        self.model = model
        self.alphabet = alphabet
        self.provenance = provenance or {}
        self.temperature, self.threshold = temperature, threshold
        _, self.image_width, self.image_height, _ = model.input_shape
        _, self.time_steps, _ = model.output_shape
        self.batch_size, self.threads = getattr(model, "batch_size", 64), getattr(model, "threads", 1)

    @classmethod
    def load(cls, path):
        """Opens a saved reader. No code of the file is run; see `safety`.

        Args:
            path: a file that `save` wrote, or an `.onnx` file of
                `tools.export`, which needs onnxruntime in place of Keras.

        Returns:
            A `Reader`.

        Raises:
            ValueError: if the file is not there or is not a reader.
        """
        model, description = model_file.load(path)
        try:
            alphabet = Alphabet(description["alphabet"])
        except (KeyError, TypeError) as error:
            raise model_file.not_a_reader(path, f"{model_file.DESCRIPTION} names no alphabet") from error
        if model.output_shape[-1] != alphabet.number_of_classes:
            raise ValueError(
                f"Expected a model with {alphabet.number_of_classes} classes, the blank and the alphabet "
                f"{alphabet.characters!r}. {path} has {model.output_shape[-1]}."
            )
        temperature, threshold = description.get("temperature", 1.0), description.get("threshold")
        if not _is_number(temperature, 0.01, 100) or not (threshold is None or _is_number(threshold, 0, 1)):
            raise model_file.not_a_reader(
                path, f"{model_file.DESCRIPTION} has temperature {temperature!r} and threshold {threshold!r}"
            )
        return cls(model, alphabet, description.get("provenance"), temperature, threshold)

    def metadata(self):
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
            "temperature": self.temperature,
            "threshold": self.threshold,
            "provenance": self.provenance,
        }

    def save(self, path):
        """Saves all that reading needs in one file, a Keras archive.

        Args:
            path: the file to write; its name ends in `.keras`.
        """
        model_file.save(self.model, self.metadata(), path)

    def read(self, sources, constraint=None, top=1, characters=False, progress=False):
        """Reads images.

        Args:
            sources: a list of paths, bytes of files, or uint8 arrays of shape
                `(height, width)` or `(height, width, channels)`, of any size.
            constraint: a `constraints.Constraint`: the texts that may be read;
                None for all.
            top: the texts that are told of each image, with the alternatives, 1 or more.
            characters: whether the confidence of each character is told, too.
            progress: whether to report, if it takes long, how far it is.

        Returns:
            A list of `Reading`s, one for each source.

        Raises:
            ValueError: for the first source that cannot be read; see `read_each`.
        """
        readings = []
        if progress:
            sources = terminal.progress(sources, len(sources), "images read")
        for source, reading in self.read_each(sources, constraint, top, characters):
            if isinstance(reading, ValueError):
                name = source if isinstance(source, str | Path) else f"image {len(readings)}"
                raise ValueError(f"{name} {reading}") from reading
            readings.append(reading)
        return readings

    def read_each(self, sources, constraint=None, top=1, characters=False):
        """Reads images one after the other, in batches, whatever may be wrong with some.

        Args:
            sources: an iterable as in `read`; it is consumed only a few batches ahead.
            constraint, top, characters: as in `read`.

        Yields:
            Tuples of a source and its `Reading`, or the `ValueError` that says
            why it could not be read, in the order of the sources.
        """
        sources = iter(sources)
        batches = iter(lambda: list(itertools.islice(sources, self.batch_size)), [])
        for results in _in_threads(
            lambda batch: self._read_batch(batch, constraint, top, characters), batches, self.threads
        ):
            yield from results

    def _read_batch(self, batch, *how):
        """Reads a batch of sources; returns what `read_each` yields of them, a list."""
        prepared = []
        for source in batch:
            try:
                prepared.append(images.prepare_image(source, self.image_width, self.image_height))
            except ValueError as error:
                prepared.append(error)
        good = [image for image in prepared if isinstance(image, np.ndarray)]
        readings = iter(self.read_prepared(np.stack(good), *how) if good else [])
        found = [next(readings) if isinstance(image, np.ndarray) else image for image in prepared]
        return list(zip(batch, found, strict=True))

    def read_prepared(self, prepared, constraint=None, top=1, characters=False):
        """Reads images that `images.prepare_image` made ready.

        Args:
            prepared: float32 of shape `(batch, image_width, image_height, 1)`.
            constraint, top, characters: as in `read`.

        Returns:
            A list of `Reading`s. Where no text that the constraint allows fits
            the steps, the text is empty and the confidence 0.
        """
        log_probabilities = self.log_probabilities(prepared)
        if constraint is None and top == 1:
            texts = greedy_decode(log_probabilities)
            found = [
                [one] for one in zip(texts, text_log_probabilities(log_probabilities, texts), strict=True)
            ]
        else:
            allowed = constraint or Constraint.length(self.alphabet)
            found = [search(row, allowed, top) or [((), -np.inf)] for row in log_probabilities]
        return [
            self._reading(texts, row, characters) for texts, row in zip(found, log_probabilities, strict=True)
        ]

    def prepare(self, sources):
        """Makes images ready, as they are read.

        Args:
            sources: as in `read`.

        Returns:
            float32 of shape `(len(sources), image_width, image_height, 1)`.

        Raises:
            ValueError: if a source cannot be read; see `images.load_image`.
        """
        prepared = [images.prepare_image(one, self.image_width, self.image_height) for one in sources]
        return np.stack(prepared)

    def log_probabilities(self, prepared, temperature=None):
        """The log-probability of each class at each step.

        Args:
            prepared: as in `read_prepared`.
            temperature: what the logits are divided by; None for the reader's own.

        Returns:
            float64 of shape `(batch, time_steps, classes)`.
        """
        return log_softmax(self.model.predict_on_batch(prepared) / (temperature or self.temperature))

    def _reading(self, texts, log_probabilities, characters):
        """Makes a `Reading` of the best texts: tuples of class numbers and log-probability."""
        first, *others = (
            Reading(self.alphabet.decode(text), min(math.exp(probability), 1.0))
            for text, probability in texts
        )
        each = character_probabilities(log_probabilities, texts[0][0]).tolist() if characters else ()
        return first._replace(alternatives=tuple(others), character_confidences=tuple(each))


def _in_threads(function, items, threads):
    """Maps a function over an iterable, as `map` does, in several threads and only a little ahead."""
    first = list(itertools.islice(items, 2))
    if threads == 1 or len(first) < 2:  # a single one does not wait for a thread to start
        yield from map(function, itertools.chain(first, items))
        return
    with ThreadPoolExecutor(threads) as pool:
        ahead = deque()
        for item in itertools.chain(first, items):
            ahead.append(pool.submit(function, item))
            if len(ahead) > threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _is_number(value, least, most):
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
