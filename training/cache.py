"""What is found out about an image once and wanted again: whether it can be used, and its pixels."""

import contextlib
import hashlib
import json
import math
import os
import tempfile
import threading
import time
from multiprocessing.pool import ThreadPool

import numpy as np
import PIL

from snippet_ocr import files, images
from snippet_ocr.terminal import printable, progress
from training.configuration import PROJECT

FOLDER = PROJECT / ".cache"
"""Where all this is kept. It may be deleted between two runs."""

FORMAT = [1, PIL.__version__, images.LARGEST_IMAGE, images.LARGEST_FILE, images.MOST_SCANS]
"""What a finding depends on besides the file. Findings made under another one are made anew."""

SETTLED = 2.0
"""Seconds. A file that changed less than that ago might change again within the same time stamp."""

MEMORY_SHARE = 0.02
"""The share of the machine's memory that the decoded images of a set may fill. More are kept in a file.

That costs little time: the system keeps the file in memory too, as long as nothing else needs the room.
"""


def look_into(path):
    """Finds out what an image file holds.

    Args:
        path: its path.

    Returns:
        A list of its width, its height (in pixels) and the SHA-256 of its
        bytes, in hexadecimal; or the reason why it cannot be used, a string.
    """
    try:
        content = images.read_file(path)
        height, width = images.load_image(content).shape
    except ValueError as error:
        return str(error)
    return [width, height, hashlib.sha256(content).hexdigest()]


def look_into_all(folder, paths, remember=False):
    """Finds out what each image file of a folder holds, and may remember it for the next start.

    What is remembered counts as long as a file is what it was: one whose
    size and time stamp are those of last time is not opened again.

    Args:
        folder: the folder.
        paths: a list of the paths of files below it.
        remember: whether to, in `FOLDER`.

    Returns:
        A list of what `look_into` finds of each.
    """
    known = FOLDER / f"{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}.json"
    before = _recall(known) if remember else {}
    now = [_stamp(path) for path in paths]
    names = [printable(path) for path in paths]
    findings = [
        before[name][1] if stamp and before.get(name, [None])[0] == stamp else None
        for name, stamp in zip(names, now, strict=True)
    ]
    new = [number for number, finding in enumerate(findings) if finding is None]
    with ThreadPool() as pool:
        found = pool.imap(look_into, [paths[number] for number in new], chunksize=16)
        for number, finding in zip(new, progress(found, len(new), "images checked"), strict=True):
            findings[number] = finding
    if remember and (new or len(before) != len(paths)):
        rows = zip(names, now, findings, strict=True)
        content = {name: [stamp, finding] for name, stamp, finding in rows if stamp}
        # Where nothing can be remembered, all is looked into again next time.
        with contextlib.suppress(OSError):
            FOLDER.mkdir(exist_ok=True)
            with files.whole(known) as unfinished:
                unfinished.write_text(json.dumps({"format": FORMAT, "files": content}), encoding="utf-8")
    return findings


def _recall(path):
    """What is remembered: a dictionary from names to pairs of stamp and finding; empty if it is of no use."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content["files"] if content["format"] == FORMAT else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _stamp(path):
    """Size and time stamp of a file; None if it is not there, or if it may just be changing."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns] if time.time() - found.st_mtime > SETTLED else None


def in_file(count, width, height, memory=None):
    """Whether `Pixels` keeps so many images in a file.

    Args:
        count: the images.
        width: their width, in pixels.
        height: their height, in pixels.
        memory: as in `Pixels`.

    Returns:
        True or False.
    """
    if memory is None:
        memory = MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return count * width * height > memory


class Pixels:
    """The pixels of images, each decoded and fitted when first wanted, and kept.

    They are kept as uint8: in memory, or, if they are many, in a file without
    a name, which vanishes with the object or the process.

    Args:
        paths: the paths of the images, each once.
        memory: the bytes that they may fill before a file is used; None for
            `MEMORY_SHARE` of the machine's memory.
    """

    def __init__(self, paths, memory=None):
        self._places = {path: place for place, path in enumerate(paths)}
        self._kept = np.zeros(len(self._places), bool)
        self._lock = threading.Lock()
        self._shape = self._array = self._file = None
        self._memory = memory

    def load(self, path, width, height):
        """Opens and fits an image, as `images.load_fitted` does, unless that was done before.

        Args:
            path: one of the paths.
            width: the width wanted, in pixels; the same in all calls.
            height: the height wanted, in pixels; the same in all calls.

        Returns:
            A uint8 array of shape `(height, width)`.

        Raises:
            ValueError: if the image cannot be read; it names the path.
            OSError: if the disk is full; it names the folder.
        """
        place = self._places[path]
        with self._lock:
            if self._shape is None:
                self._make_room((height, width))
            if self._kept[place]:
                return self._array[place] if self._file is None else self._read(place)
        try:
            pixels = images.load_fitted(path, width, height)
        except ValueError as error:
            raise ValueError(f"{path} {error}. It was there when the images were checked.") from error
        with self._lock:
            self._keep(place, pixels)
        return pixels

    def _make_room(self, shape):
        self._shape = shape
        if in_file(len(self._places), *shape, self._memory):
            FOLDER.mkdir(exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=FOLDER)  # noqa: SIM115, it lives as long as this
        else:
            self._array = np.empty((len(self._places), *shape), "uint8")

    def _read(self, place):
        self._file.seek(place * math.prod(self._shape))
        return np.frombuffer(self._file.read(math.prod(self._shape)), "uint8").reshape(self._shape)

    def _keep(self, place, pixels):
        if self._file is None:
            self._array[place] = pixels
        else:
            try:
                self._file.seek(place * pixels.size)
                self._file.write(pixels.tobytes())
                self._file.flush()
            except OSError as error:  # a full disk says neither which file nor where
                raise OSError(error.errno, error.strerror, str(FOLDER)) from error
        self._kept[place] = True
