"""Reads images with a trained model: from image files to texts and confidences."""

import functools
import itertools
import math
import os
import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypedDict, Unpack, overload

import numpy as np

from snippet_ocr import decoding, images, model_file, safety, terminal
from snippet_ocr.alphabet import Alphabet
from snippet_ocr.constraints import Constraint, combine
from snippet_ocr.errors import ConstraintError, ImageError
from snippet_ocr.images import Source

MAX_BATCH_PIXELS = 2**20  # of all images of a batch
NOT_A_NUMBER = ImageError("cannot be read: the model returns NaN, which is not a number")


class Reading(NamedTuple):
    """The result of reading one image.

    Attributes:
        text: the text in the image, as the model reads it.
        confidence: the model's probability of the text, from 0 to 1, over all its CTC alignments.
        alternatives: a tuple of the next `Reading`s, the most probable first; empty unless requested.
        character_confidences: a tuple of the probability of each character, given the other characters,
            from 0 to 1, from left to right in the image; empty unless requested.
    """

    text: str
    confidence: float
    alternatives: tuple["Reading", ...] = ()
    character_confidences: tuple[float, ...] = ()


class Options(TypedDict, total=False):
    """The keywords of `Reader.read` and `Reader.read_each`."""

    length: int | tuple[int, int] | None
    pattern: str | None
    words: Iterable[str] | None
    top: int
    characters: bool


class Reader:
    """Reads the text in images with a trained model. Several threads can use one reader.

    Args:
        model: a Keras model or an `OnnxModel`, from uint8 images of shape `(batch, image_height, width)`
            to logits or log-probabilities of shape `(batch, time_steps, classes)`, for any width.
        alphabet: the `Alphabet` of the classes.
        widths: an ascending list of widths in pixels; each image is fitted to the smallest that it fits.
        provenance: how the reader was trained (images, parameters, scores), a dictionary of JSON values.
        threshold: the confidence, from 0 to 1, from which readings need no review; None if there is none.

    Attributes:
        image_height: the height that images are fitted to, in pixels.
        batch_size, threads: the number of images per batch, and of batches read in parallel.
    """

    def __init__(
        self,
        model: Any,
        alphabet: Alphabet,
        widths: list[int],
        provenance: dict[str, Any] | None = None,
        threshold: float | None = None,
    ) -> None:
        self.model, self.alphabet, self.widths = model, alphabet, widths
        self.provenance, self.threshold = provenance or {}, threshold
        self.image_height = model.input_shape[1]
        # onnxruntime is fastest with one small batch per core: threads within a batch wait for each other.
        in_onnx = isinstance(model, model_file.OnnxModel)
        size, self.threads = (16, os.cpu_count() or 1) if in_onnx else (64, 1)
        self.batch_size = max(1, min(size, MAX_BATCH_PIXELS // (self.widths[-1] * self.image_height)))

    @classmethod
    def load(cls, path: str | os.PathLike[str], trusted: bool = False) -> "Reader":
        """Loads a reader from a file. The file is checked first, so that files from strangers can be loaded.

        Args:
            path: a `reader.onnx`, or a `reader.keras`, which needs Keras and TensorFlow. `"base"` is the base
                reader of this package, which reads short printed texts.
            trusted: whether to open the file without checks, because it is your own. Models with unusual
                layers need it. A `.keras` file can then run code.

        Raises:
            ReaderError: if the file does not exist, is not a reader, or is refused.
        """
        model, metadata = model_file.load(path, trusted)
        try:
            alphabet, threshold = _alphabet_of(metadata, model), check_threshold(metadata.get("threshold"))
        except ValueError as error:
            raise model_file.not_a_reader(path, error) from error
        return cls(model, alphabet, metadata["widths"], metadata.get("provenance"), threshold)

    @functools.cached_property
    def time_steps(self) -> int:
        """The maximum number of time steps: those of an image of the largest width."""
        return len(self.log_probabilities([np.zeros((self.image_height, self.widths[-1]), "uint8")])[0])

    def metadata(self) -> dict[str, Any]:
        """Returns everything that reading needs besides the model, as a dictionary of JSON values."""
        return {
            "format": safety.FORMAT,
            "alphabet": self.alphabet.characters,
            "logical_order": self.alphabet.logical,
            "widths": self.widths,
            "image_height": self.image_height,
            "threshold": self.threshold,
            "provenance": self.provenance,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Saves the reader, whose model must be a Keras model, as one file. `path` must end in `.keras`."""
        model_file.save(self.model, self.metadata(), path)

    @overload
    def read(self, sources: Source, progress: bool = False, **options: Unpack[Options]) -> Reading: ...  # type: ignore[overload-overlap] # a str is an iterable of str, too

    @overload
    def read(
        self, sources: Iterable[Source], progress: bool = False, **options: Unpack[Options]
    ) -> list[Reading]: ...

    def read(self, sources, progress=False, **options):
        """Reads one image or several.

        Args:
            sources: an image or a list of images. An image is a path, the content of a file (bytes), a Pillow
                image, or a uint8 array of shape `(height, width)` or `(height, width, channels)`.
            progress: whether to report the progress of reading a list if it takes more than 2 seconds.
            length: the number of characters of the allowed texts, or a tuple of a minimum and a maximum.
            pattern: the form of the allowed texts, such as `"AA-999"`; see `Constraint.pattern`.
            words: the allowed texts, a list of strings. Those with characters that the reader does not know
                are ignored. Without `length`, `pattern` and `words`, every text is allowed.
            top: the maximum number of texts per image, including alternatives; 1 or more.
            characters: whether to return the confidence of each character.

        Returns:
            A `Reading` of one image, or a list with a `Reading` of each. If no allowed text fits in the time
            steps, the text is empty and its confidence is 0.

        Raises:
            ImageError: for the first image that cannot be read; it names the image.
            ConstraintError: if the allowed texts are not valid, or if there are none.
        """
        results = self.read_each(sources, **options)
        if isinstance(sources, Source):
            return _all_or_error(results, "the image")[0]
        if progress:
            results = terminal.progress(results, len(sources), "images read")
        return _all_or_error(results)

    def read_each(
        self,
        sources: Source | Iterable[Source],
        *,
        length: int | tuple[int, int] | None = None,
        pattern: str | None = None,
        words: Iterable[str] | None = None,
        top: int = 1,
        characters: bool = False,
    ) -> Iterator[tuple[Source, Reading | ImageError]]:
        """Reads images in batches. An image that cannot be read does not stop the others.

        Args:
            sources: as in `read`, or an iterator, from which only a few batches are taken in advance.
            length, pattern, words, top, characters: as in `read`.

        Returns:
            An iterator over tuples of each source, in order, and its `Reading`, or an `ImageError` with the
            reason why it cannot be read.

        Raises:
            ConstraintError: as in `read`.
        """
        constraint = None
        if not length is pattern is words is None:
            if isinstance(words, str):
                raise ConstraintError("Expected a list of words. Received a string.")
            limits = length if length is None or isinstance(length, int) else tuple(length)
            words = None if words is None else tuple(words)
            constraint = combine(self.alphabet, self.time_steps, limits, pattern, words)
        sources = iter([sources] if isinstance(sources, Source) else sources)
        size = self.batch_size * len(self.widths)  # so that there are full batches of each width
        parts = iter(lambda: list(itertools.islice(sources, size)), [])
        read_part = functools.partial(self._read_part, constraint=constraint, top=top, characters=characters)
        return itertools.chain.from_iterable(_map_in_threads(read_part, parts, self.threads))

    def _read_part(self, sources, constraint, top, characters):
        results = [self._prepare(source) for source in sources]
        prepared = [result for result in results if isinstance(result, np.ndarray)]
        readings = iter(self._read_batches(prepared, constraint, top, characters))
        results = [next(readings) if isinstance(result, np.ndarray) else result for result in results]
        return list(zip(sources, results, strict=True))

    def _read_batches(self, prepared, constraint, top, characters):
        """Returns a list with a `Reading`, or an `ImageError` with the reason, for each prepared image."""

        def read_batch(batch):
            try:
                rows = self.log_probabilities(batch)  # each (time_steps, classes)
            except ValueError as error:
                return [ImageError(*error.args)] * len(batch)
            failed = [np.isnan(row).any() for row in rows]
            rows = np.nan_to_num(rows, nan=0.0, neginf=-np.inf)  # (batch, time_steps, classes)
            if constraint is None and top == 1:
                texts = decoding.greedy_decode(rows)
                scores = decoding.text_log_probabilities(rows, texts)  # (batch,)
                found = [[(text, score)] for text, score in zip(texts, scores, strict=True)]
            else:
                allowed = constraint or Constraint.length(self.alphabet)
                found = [decoding.search(row, allowed, top) or [((), -np.inf)] for row in rows]
            readings = [self._reading(*pair, characters) for pair in zip(found, rows, strict=True)]
            return [NOT_A_NUMBER if bad else one for one, bad in zip(readings, failed, strict=True)]

        return self._map_batches(read_batch, prepared)

    def prepare(self, sources: Iterable[Source]) -> list[np.ndarray]:
        """Returns sources as a list of the model's inputs, uint8 of shape `(image_height, width)`.

        Sources and errors are those of `read`; each width is one of `widths`.
        """
        return _all_or_error((source, self._prepare(source)) for source in sources)

    def _prepare(self, source):
        try:
            return images.load_fitted(source, self.widths, self.image_height)
        except ValueError as error:  # also of a path with a null character
            return ImageError(*error.args)

    def log_probabilities(self, prepared: list[np.ndarray]) -> list[np.ndarray]:
        """Returns float64 log-probabilities `(time_steps, classes)` of images that `prepare` returned."""

        def compute(batch):
            logits = self.model.predict_on_batch(batch)  # (batch, time_steps, classes)
            return decoding.log_softmax(logits.astype("float64"))

        return self._map_batches(compute, prepared)

    def _map_batches(self, function, prepared):
        """Calls a function for batches of images of equal width; returns the results in the images' order."""
        widths = [image.shape[1] for image in prepared]
        results, order = [None] * len(prepared), sorted(range(len(prepared)), key=widths.__getitem__)
        for _, numbers in itertools.groupby(order, widths.__getitem__):
            while batch := list(itertools.islice(numbers, self.batch_size)):
                found = function(np.stack([prepared[number] for number in batch]))
                for number, result in zip(batch, found, strict=True):
                    results[number] = result
        return results

    def _reading(self, texts, log_probabilities, characters):
        """Makes a `Reading` from a list of `(classes, log_probability)`, the most probable first."""
        decode = self.alphabet.decode
        first, *others = (Reading(decode(text), min(math.exp(score), 1.0)) for text, score in texts)
        if characters:
            confidences = decoding.character_probabilities(log_probabilities, texts[0][0])  # (characters,)
            first = first._replace(character_confidences=tuple(confidences.tolist()))
        return first._replace(alternatives=tuple(others))


def _alphabet_of(metadata, model):
    """Returns the alphabet of a reader's metadata; a `ValueError` says why it or the model is refused."""
    try:
        alphabet = Alphabet(metadata["alphabet"], metadata.get("logical_order", False) is True)
        kinds = set(map(unicodedata.category, alphabet.characters.replace("\n", "")))
        if kinds & {"Cc", "Cs", "Zl", "Zp"}:
            raise ValueError("control characters")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{model_file.DESCRIPTION} has no valid alphabet") from error
    shapes = model.input_shape, model.output_shape
    fixed = [[type(size) is int and size > 0 for size in shape] for shape in shapes]
    if fixed != [[False, True, False], [False, False, True]]:
        raise ValueError(f"its model maps {model.input_shape} to {model.output_shape}")
    expected, found = alphabet.number_of_classes, model.output_shape[-1]
    if found != expected:
        raise ValueError(f"its alphabet and the blank make {expected} classes, but its model has {found}")
    return alphabet


def _map_in_threads(function, items, threads):
    """Maps a function over an iterator in threads, in order. Takes at most `threads + 1` items in advance."""
    first = list(itertools.islice(items, 2))
    items = itertools.chain(first, items)
    if threads == 1 or len(first) < 2:  # starting threads does not pay for a single item
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        pending = deque(pool.submit(function, item) for item in itertools.islice(items, threads))
        while pending:
            pending.extend(pool.submit(function, item) for item in itertools.islice(items, 1))
            yield pending.popleft().result()


def _all_or_error(results, name=None):
    """Returns the results of tuples `(source, result)` as a list, or raises the first error."""
    found = []
    for number, (source, result) in enumerate(results):
        if isinstance(result, ImageError):
            path = source if isinstance(source, str | os.PathLike) else None
            raise ImageError(f"{path or name or f'image {number}'} {result}") from result
        found.append(result)
    return found


def check_threshold(threshold):
    """Returns a threshold; raises a `ValueError` if it is neither a number from 0 to 1 nor None."""
    if threshold is None or (type(threshold) in (int, float) and 0 <= threshold <= 1):
        return threshold
    raise ValueError(f"the threshold {threshold!r:.80} is not a number from 0 to 1")
