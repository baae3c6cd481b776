"""A hundred thousand damaged images: every one is read or refused with a reason, quickly, within bounds."""

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

IMAGES, AT_ONCE = 100_000, 2_000
LONGEST = 1.0
"""Seconds of a processor."""


@pytest.fixture
def alarm():
    """Lets what takes more than a minute fail, and not hang."""
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it hangs"))
    yield signal.alarm
    signal.alarm(0)


def test_every_damaged_image_is_read_or_refused_with_a_reason(saved, tmp_path, alarm, capsys):
    rng, originals = random.Random(1), list(small_files().items())
    reader = Reader.load(saved)
    reader.read([content for _, content in originals])  # the memory of a reader that works
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts, reasons, longest = Counter(), Counter(), 0.0
    for first in range(0, IMAGES, AT_ONCE):
        alarm(300)
        folder = tmp_path / "damaged"
        folder.mkdir()
        (folder / "good.png").write_bytes(originals[0][1])
        for number in range(first, first + AT_ONCE):
            name, content = rng.choice(originals)
            (folder / f"{number}.{name.rpartition('.')[2]}").write_bytes(damaged(content, rng))
        paths = sorted(folder.iterdir())
        samples, rejected = utils.find_images(folder)
        assert sorted([one.path for one in samples] + [one.path for one in rejected]) == paths
        assert all(one.reason for one in rejected)
        usable = {one.path for one in samples}
        for path in paths:
            started = time.perf_counter()
            with contextlib.suppress(ValueError):
                images.prepare_image(path, reader.image_width, reader.image_height)
            longest = max(longest, time.perf_counter() - started)
        for path, found in reader.read_each(paths):
            if isinstance(found, ValueError):
                assert path not in usable
                reasons[str(found).split(":")[0]] += 1
            else:
                assert np.isfinite(found.confidence)
            counts["refused" if isinstance(found, ValueError) else "read"] += 1
        shutil.rmtree(folder)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1000
    with capsys.disabled():
        print(f"\n{dict(counts)}, the longest {longest:.2f} s, memory grown by {grown:.0f} MB")
        print("\n".join(f"{count:>7} {reason}" for reason, count in reasons.most_common()))
    assert counts["read"] + counts["refused"] == IMAGES + IMAGES // AT_ONCE
    assert counts["refused"] > IMAGES / 10 and counts["read"] > IMAGES / 10
    assert longest < LONGEST
    assert grown < 500


@pytest.mark.parametrize("how", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF"])
def test_noise_as_large_as_is_allowed_opens_quickly(how):
    side = int(images.MAX_PIXELS**0.5)
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype="uint8")
    stored = io.BytesIO()
    Image.fromarray(noise).save(stored, how, **({"progressive": True} if how == "JPEG" else {"method": 0}))
    started = time.thread_time()
    assert images.prepare_image(stored.getvalue(), 200, 50).std() > 0
    assert time.thread_time() - started < LONGEST
