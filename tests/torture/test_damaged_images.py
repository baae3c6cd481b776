"""A hundred thousand damaged images: each is read or refused with a reason, in bounded time and memory."""

import contextlib
import io
import random
import resource
import shutil
import signal
import time
from collections import Counter

import numpy as np
import pytest
from PIL import Image

import utils
from damage import damaged, small_files
from snippet_ocr import images
from snippet_ocr.reader import Reader

IMAGES, FOLDER_SIZE = 100_000, 2_000
MAX_SECONDS = 5.0
"""Maximum CPU time to open one image. The slowest takes about 1 s; without the limits it would be minutes."""


@pytest.fixture
def alarm():
    """Makes a test fail that hangs: call it with the seconds after which it does."""
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("the test hangs"))
    yield signal.alarm
    signal.alarm(0)


def fill(folder, originals, first, rng):
    """Fills a new folder with damaged images and a good one, and returns their paths."""
    folder.mkdir()
    (folder / "good.png").write_bytes(originals[0][1])
    for number in range(first, first + FOLDER_SIZE):
        name, content = rng.choice(originals)
        (folder / f"x{number}.{name.rpartition('.')[2]}").write_bytes(damaged(content, rng))
    return sorted(folder.iterdir())


def max_seconds_to_open(paths, reader):
    """Opens each image; returns the maximum CPU time, in seconds."""
    seconds = []
    for path in paths:
        started = time.thread_time()
        with contextlib.suppress(ValueError):
            images.load_fitted(path, reader.widths, reader.image_height)
        seconds.append(time.thread_time() - started)
    return max(seconds)


def test_damaged_images_are_read_or_refused_with_a_reason(saved, tmp_path, alarm, capsys):
    rng, originals = random.Random(1), list(small_files().items())
    reader = Reader.load(saved)
    reader.read([content for _, content in originals])  # from here on, its memory should not grow much
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts, reasons, max_seconds = Counter(), Counter(), 0.0
    for first in range(0, IMAGES, FOLDER_SIZE):
        alarm(600)
        paths = fill(tmp_path / "damaged", originals, first, rng)
        samples, rejected = utils.find_images(tmp_path / "damaged")
        assert sorted([one.path for one in samples] + [one.path for one in rejected]) == paths
        assert all(one.reason for one in rejected)
        usable = {one.path for one in samples}
        max_seconds = max(max_seconds, max_seconds_to_open(paths, reader))
        for path, found in reader.read_each(paths):
            if isinstance(found, ValueError):
                assert path not in usable
                reasons[str(found).split(":")[0]] += 1
            else:
                assert np.isfinite(found.confidence)
            counts["refused" if isinstance(found, ValueError) else "read"] += 1
        shutil.rmtree(tmp_path / "damaged")
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1000
    with capsys.disabled():
        print(f"\n{dict(counts)}, at most {max_seconds:.2f} s per image, memory grew by {growth:.0f} MB")
        print("\n".join(f"{count:>7} {reason}" for reason, count in reasons.most_common()))
    assert counts["read"] + counts["refused"] == IMAGES + IMAGES // FOLDER_SIZE
    assert counts["refused"] > IMAGES / 10 and counts["read"] > IMAGES / 10
    assert max_seconds < MAX_SECONDS
    assert growth < 500


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF"])
def test_noise_of_the_maximum_size_opens_quickly(form):
    side = int(images.MAX_PIXELS**0.5)
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype="uint8")
    file = io.BytesIO()
    Image.fromarray(noise).save(file, form, **({"progressive": True} if form == "JPEG" else {"method": 0}))
    started = time.thread_time()
    assert images.load_fitted(file.getvalue(), [200], 50).std() > 0
    assert time.thread_time() - started < MAX_SECONDS
