"""Checks and decodes image files in parallel, once per training, and keeps the pixels."""

import hashlib
import math
import os
import tempfile
from multiprocessing.pool import ThreadPool

import numpy as np
from PIL import Image
from scipy.linalg import qr
from scipy.spatial import KDTree

from snippet_ocr import images
from snippet_ocr.terminal import progress
from training import PROJECT

# The memory that the images of a split may use: 2% of the total. Larger splits are kept in a file.
MAX_BYTES = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 50
THUMBNAIL_SIZE = (32, 16)  # width and height, in pixels

# The maximum difference of near-duplicates at each pixel of their standardised thumbnails, in standard
# deviations. Of 5,682 images (captchas, bank cards, receipts, plates), the closest two with different labels
# differ by 0.96. Of recompressed, brightened or enlarged copies it finds 97% to 100%; at half size, 79%.
MAX_DIFFERENCE = 0.5


def inspect_image(path):
    """Checks an image file.

    Returns a tuple: the size `(width, height)` in pixels, the SHA-256 of the file in hexadecimal, and the
    thumbnail for `find_near_duplicates`. If the file cannot be used, a string: the reason.
    """
    try:
        content = images.read_file(path)
        pixels = images.load_image(content)
    except ValueError as error:
        return str(error)
    thumbnail = Image.fromarray(pixels).resize(THUMBNAIL_SIZE, Image.Resampling.BILINEAR).tobytes()
    return pixels.shape[::-1], hashlib.sha256(content).hexdigest(), thumbnail


def inspect_images(paths):
    """Calls `inspect_image` for each path of a list, in parallel; returns a list of the results."""
    with ThreadPool() as pool:
        results = pool.imap(inspect_image, paths, chunksize=16)
        return list(progress(results, len(paths), "images checked"))


def find_near_duplicates(thumbnails):
    """Groups images that are nearly the same: saved again, scaled, or of another brightness or contrast.

    Returns the index of the first image of its group for each of the `thumbnails` of `inspect_image`, a list.
    """
    pixels = np.empty((len(thumbnails), math.prod(THUMBNAIL_SIZE)), "float16")
    for row, thumbnail in zip(pixels, thumbnails, strict=True):
        grey = np.frombuffer(thumbnail, "uint8").astype("float32")
        row[:] = (grey.mean() - grey) / max(grey.std(), 1.0)  # below one grey level is camera noise
    if not thumbnails:
        return []
    # The tree finds all candidates by the 24 pixels that say most about an image; then all are compared.
    chosen = qr(pixels[:2000].astype("float32"), mode="r", pivoting=True)[1][:24]
    tree = KDTree(pixels[:, chosen], balanced_tree=False)  # a balanced tree takes 4 times as long
    firsts = np.full(len(pixels), -1)
    for number, row in enumerate(pixels):
        if firsts[number] < 0:
            near = np.array(tree.query_ball_point(row[chosen], MAX_DIFFERENCE, p=np.inf, return_sorted=True))
            near = near[np.abs(pixels[near] - row).max(axis=1) <= MAX_DIFFERENCE]
            first = next((first for first in firsts[near] if first >= 0), number)
            firsts[near[firsts[near] < 0]] = first
    return firsts.tolist()


def encode_all(samples, encode):
    """Encodes labelled images in parallel. More than `MAX_BYTES` of them are kept in a temporary file.

    Args:
        samples: a list of `utils.Sample`s, at least one.
        encode: a function from a sample to a dictionary, as `utils.encode_single_sample` returns it.

    Returns:
        A tuple: a list of the images, and the labels, int32 of shape `(samples, max_label_length)`.

    Raises:
        ValueError: if an image can no longer be read; the message names the file.
        OSError: if the temporary file cannot be written; the message names the folder.
    """

    def encode_one(sample):
        try:
            return encode(sample)
        except ValueError as error:
            raise ValueError(f"{sample.path} {error}. It was readable when it was checked.") from error

    shapes, labels = [], []
    try:
        with ThreadPool() as pool, tempfile.SpooledTemporaryFile(MAX_BYTES, dir=PROJECT) as file:
            rows = pool.imap(encode_one, samples, chunksize=16)
            for row in progress(rows, len(samples), "images decoded"):
                # A full disk is an error here. With a memory map, it would kill the process (SIGBUS).
                file.write(row["image"].tobytes())
                shapes.append(row["image"].shape)
                labels.append(row["label"])
            in_file = file.tell() > MAX_BYTES
            file.seek(0)  # also writes what is buffered
            # The map outlives the file object.
            stored = np.memmap(file, "uint8", "r") if in_file else np.frombuffer(file.read(), "uint8")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(PROJECT)) from error  # the original has no path
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    parts = zip(np.split(np.asarray(stored), ends[:-1]), shapes, strict=True)  # slices of maps are slower
    return [pixels.reshape(shape) for pixels, shape in parts], np.array(labels, "int32")
