"""Checks and decodes image files in parallel, once per training, and keeps the pixels."""

import hashlib
import math
import os
import tempfile
from multiprocessing.pool import ThreadPool

import numpy as np

from snippet_ocr import images
from snippet_ocr.terminal import progress
from training import PROJECT

MAX_BYTES = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 50
"""The memory that the images of a split may use: 2% of the total. Larger splits are kept in a file."""


def inspect_image(path):
    """Checks an image file.

    Returns:
        A tuple: the size `(width, height)` in pixels, and the SHA-256 of the file
        in hexadecimal. If the file cannot be used, a string: the reason.
    """
    try:
        content = images.read_file(path)
        height, width = images.load_image(content).shape
    except ValueError as error:
        return str(error)
    return (width, height), hashlib.sha256(content).hexdigest()


def inspect_images(paths):
    """Calls `inspect_image` for each path of a list, in parallel; returns a list of the results."""
    with ThreadPool() as pool:
        results = pool.imap(inspect_image, paths, chunksize=16)
        return list(progress(results, len(paths), "images checked"))


def encode_all(samples, encode):
    """Encodes labelled images in parallel.

    If the images exceed `MAX_BYTES`, they are kept in a temporary file in the project's folder.

    Args:
        samples: a list of `utils.Sample`s, at least one.
        encode: a function from a sample to a dictionary of `"image"`, uint8 of shape `(height, width)`, and
            `"label"`, int32 of shape `(max_label_length,)`.

    Returns:
        A tuple of two arrays: the images, uint8 of shape `(samples, height, width)`, and the labels, int32
        of shape `(samples, max_label_length)`.

    Raises:
        ValueError: if an image can no longer be read; the message names the file.
        OSError: if the temporary file cannot be written; the message names the folder.
    """

    def encode_one(sample):
        try:
            return encode(sample)
        except ValueError as error:
            raise ValueError(f"{sample.path} {error}. It was readable when it was checked.") from error

    first = encode_one(samples[0])  # shows the shapes
    shape = (len(samples), *first["image"].shape)
    label = np.empty((len(samples), *first["label"].shape), "int32")
    with ThreadPool() as pool:
        rows = progress(pool.imap(encode_one, samples, chunksize=16), len(samples), "images decoded")
        numbered_rows = enumerate(rows)
        if math.prod(shape) <= MAX_BYTES:
            image = np.empty(shape, "uint8")
            for number, row in numbered_rows:
                image[number], label[number] = row["image"], row["label"]
            return image, label
        try:
            with tempfile.TemporaryFile(dir=PROJECT) as file:
                for number, row in numbered_rows:
                    # A full disk is an error here. With a memory map, it would kill the process (SIGBUS).
                    file.write(row["image"].tobytes())
                    label[number] = row["label"]
                file.flush()
                return np.memmap(file, "uint8", "r", shape=shape), label  # outlives the file object
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(PROJECT)) from error  # the original has no path
