import os
import random
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from conftest import full_disk
from snippet_ocr import images, terminal
from training import pixels

OLD = time.time() - 3600


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch):
    """The folder of what is remembered."""
    monkeypatch.setattr(cache, "FOLDER", tmp_path / "memory")
    return pixels.FOLDER


@pytest.fixture
def folder(image_folder):
    """A folder of images that have not changed for an hour, and of one that is none."""
    (image_folder / "broken.png").write_bytes(b"nothing")
    for path in image_folder.iterdir():
        os.utime(path, (OLD, OLD))
    return image_folder


@pytest.fixture
def looked_into(monkeypatch):
    """The names of the files that are looked into, in any order."""
    names, real = [], pixels.inspect_image

    def inspect_image(path):
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(cache, "inspect_image", inspect_image)
    return names


def look(folder):
    return pixels.inspect_images(folder, sorted(folder.iterdir()), remember=True)


def test_second_start_finds_the_same_and_opens_no_file(folder, looked_into):
    expected = [pixels.inspect_image(path) for path in sorted(folder.iterdir())]
    looked_into.clear()
    assert look(folder) == expected
    assert len(looked_into) == 31
    looked_into.clear()
    assert look(folder) == expected
    assert looked_into == []
    assert "is not an image" in expected


def test_only_what_is_new_or_changed_is_looked_into_again(folder, looked_into):
    look(folder)
    looked_into.clear()
    first, second, third, fourth, *_ = sorted(folder.iterdir())
    first.unlink()
    second.write_bytes(third.read_bytes())  # another size, and another time
    content = third.read_bytes()
    third.write_bytes(b"\0" * len(content))  # another time
    os.utime(fourth, (OLD + 1, OLD + 1))
    (folder / "new.png").write_bytes(content)
    findings = dict(zip(sorted(folder.iterdir()), look(folder), strict=True))
    assert sorted(looked_into) == sorted([second.name, third.name, fourth.name, "new.png"])
    assert findings == {path: pixels.inspect_image(path) for path in folder.iterdir()}


def test_file_that_has_just_been_written_is_looked_into_again(folder, looked_into):
    fresh = folder / "fresh.png"
    fresh.write_bytes(b"nothing")
    look(folder)
    looked_into.clear()
    look(folder)
    assert looked_into == ["fresh.png"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": [0], "files": {}}', b"\xff"])
def test_memory_that_is_damaged_or_of_another_version_is_not_used(folder, memory, looked_into, content):
    expected = look(folder)
    (stored,) = memory.iterdir()
    stored.write_bytes(content)
    looked_into.clear()
    assert look(folder) == expected
    assert len(looked_into) == 31


def test_where_nothing_can_be_remembered_all_is_looked_into(folder, memory, looked_into):
    memory.write_text("a file, and no folder")
    assert look(folder) == look(folder)
    assert len(looked_into) == 62


def test_nothing_is_remembered_unasked(folder, memory):
    pixels.inspect_images(folder, sorted(folder.iterdir()))
    assert not memory.exists()


@pytest.mark.parametrize("room", [0, 10**9])
def test_pixels_are_those_of_the_image_at_first_and_later(shipped, monkeypatch, memory, room):
    opened, real = [], images.load_fitted
    expected = {path: real(path, 80, 24) for path in shipped[:20]}

    def load_fitted(path, *size):
        opened.append(path)
        return real(path, *size)

    monkeypatch.setattr(images, "load_fitted", load_fitted)
    pixels = pixels.Pixels(shipped[:20], memory=room)
    wanted = random.Random(0).choices(shipped[:20], k=300)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda path: pixels.load(path, 80, 24), wanted))
    for path, one in zip(wanted, found, strict=True):
        np.testing.assert_array_equal(one, expected[path])
    opened.clear()
    for path in shipped[:20]:
        np.testing.assert_array_equal(pixels.load(path, 80, 24), expected[path])
    assert opened == []
    assert memory.exists() == (room == 0)
    assert room or list(memory.iterdir()) == []  # the file has no name


def test_image_that_vanished_is_named(tmp_path, image_folder):
    paths = sorted(image_folder.iterdir())
    pixels = pixels.Pixels(paths)
    pixels.load(paths[0], 80, 24)
    paths[0].unlink()
    paths[1].unlink()
    pixels.load(paths[0], 80, 24)
    with pytest.raises(ValueError, match=f"{paths[1].name} cannot be read: No such file"):
        pixels.load(paths[1], 80, 24)


def test_full_disk_is_named(shipped, memory):
    pixels = pixels.Pixels(shipped[:10], memory=0)
    pixels.load(shipped[0], 200, 50)
    with full_disk(20_000), pytest.raises(OSError, match="memory"):
        for path in shipped[:10]:
            pixels.load(path, 200, 50)
    np.testing.assert_array_equal(pixels.load(shipped[0], 200, 50), images.load_fitted(shipped[0], 200, 50))
    np.testing.assert_array_equal(pixels.load(shipped[9], 200, 50), images.load_fitted(shipped[9], 200, 50))


def test_progress_passes_everything_on_and_reports_only_what_takes_long(monkeypatch, capsys):
    clock = iter(range(1000))
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(clock) / 2)
    assert list(terminal.progress(range(50), 50, "images checked")) == list(range(50))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 of 50 images checked, 23 s left"
    assert len(lines) == 3
    assert list(terminal.progress(range(3), 3, "images checked")) == [0, 1, 2]
    assert capsys.readouterr().out == ""
