"""Image files in parallel: checked once, decoded once, kept as bytes."""

import contextlib
import hashlib
import itertools
import math
import os
import tempfile
from multiprocessing.pool import ThreadPool

import numpy as np

from snippet_ocr import images
from snippet_ocr.terminal import progress
from training import PROJECT

MEMORY_SHARE = 0.02
"""The share of the machine's memory that the images of a split may fill. Larger splits are kept in a file.

A file costs little time: the system caches it in memory as long as nothing else needs that memory.
"""


def inspect_image(path):
    """Checks whether an image file can be used.

    Args:
        path: its path.

    Returns:
        A tuple of the width and height in pixels and the SHA-256 of the file
        in hexadecimal, or the reason why the file cannot be used, a string.
    """
    try:
        content = images.read_file(path)
        height, width = images.load_image(content).shape
    except ValueError as error:
        return str(error)
    return width, height, hashlib.sha256(content).hexdigest()


def inspect_images(paths):
    """Calls `inspect_image` for a list of paths in parallel; returns a list of its results."""
    with ThreadPool() as pool:
        results = pool.imap(inspect_image, paths, chunksize=16)
        return list(progress(results, len(paths), "images checked"))


def encode_all(samples, encode, max_bytes=None):
    """Encodes labelled images in parallel.

    Args:
        samples: a list of `utils.Sample`s, at least one.
        encode: a function from a sample to a dictionary of `"image"`, uint8 of
            shape `(height, width)`, and `"label"`, int32 of shape
            `(max_label_length,)`.
        max_bytes: the bytes of memory that the images may fill. A larger array
            is backed by an unnamed file in the project's folder. None stands
            for `MEMORY_SHARE` of the machine's memory.

    Returns:
        A tuple of two arrays: the images, uint8 of shape `(samples, height,
        width)`, and the labels, int32 of shape `(samples, max_label_length)`.

    Raises:
        ValueError: if an image cannot be read any more; it names the file.
        OSError: if the disk is full; it names the folder.
    """

    def encode_one(sample):
        try:
            return encode(sample)
        except ValueError as error:
            raise ValueError(f"{sample.path} {error}. It was readable when it was checked.") from error

    if max_bytes is None:
        max_bytes = MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with ThreadPool() as pool, contextlib.ExitStack() as stack:
        rows = progress(pool.imap(encode_one, samples, chunksize=16), len(samples), "images decoded")
        first = next(rows)
        shape = (len(samples), *first["image"].shape)
        if math.prod(shape) <= max_bytes:
            image, file = np.empty(shape, "uint8"), None
        else:
            file = stack.enter_context(tempfile.TemporaryFile(dir=PROJECT))
        label = np.empty((len(samples), *first["label"].shape), "int32")
        for number, row in enumerate(itertools.chain([first], rows)):
            label[number] = row["label"]
            if file is None:
                image[number] = row["image"]
            else:
                _write(file, row["image"])
        if file is not None:
            image = np.memmap(file, "uint8", "r", shape=shape)  # stays open when the file is closed
    return image, label


def _write(file, image):
    """Appends pixels. A full disk raises an error here; a memory map would end the process (SIGBUS)."""
    try:
        file.write(image.tobytes())
        file.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(PROJECT)) from error  # the system names no file
