import functools
import hashlib
import io
import mmap
import os

import numpy as np
import pytest
from PIL import Image

from conftest import full_disk
from snippet_ocr.alphabet import Alphabet
from training import pixels
from utils import Sample, encode_single_sample


@pytest.fixture
def samples(image_folder):
    return [Sample(path, path.stem[:5], (200, 50), "") for path in sorted(image_folder.iterdir())]


@pytest.fixture
def encode(samples):
    alphabet = Alphabet.from_labels(sample.label for sample in samples)
    return functools.partial(
        encode_single_sample, alphabet=alphabet, widths=[80], image_height=24, max_label_length=7
    )


def test_parallel_inspection_equals_inspection_one_by_one(image_folder):
    (image_folder / "broken.png").write_bytes(b"nothing")
    (image_folder / "empty.png").touch()
    paths = [*sorted(image_folder.iterdir()), image_folder / "missing.png"]
    results = pixels.inspect_images(paths)
    assert results == [pixels.inspect_image(path) for path in paths]
    by_name = dict(zip([path.name for path in paths], results, strict=True))
    assert {name: result for name, result in by_name.items() if isinstance(result, str)} == {
        "broken.png": "is not an image",
        "empty.png": "is empty (0 bytes)",
        "missing.png": "cannot be read: No such file or directory",
    }


def test_inspection_returns_size_sha256_and_thumbnail(tmp_path):
    path = tmp_path / "a.bmp"
    Image.new("L", (30, 20), 7).save(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert pixels.inspect_image(path) == ((30, 20), digest, bytes([7] * 32 * 16))


def saved_in_other_ways(path):
    """Yields bytes of an image of the same picture: recompressed, scaled, brighter, with less contrast."""
    image = Image.open(path).convert("L")
    small = image.resize((image.width * 7 // 10, image.height * 7 // 10))
    faint = image.point(lambda grey: 40 + 0.8 * grey)
    for changed, form, options in [
        (image, "JPEG", {"quality": 50}),
        (small, "PNG", {}),
        (image.resize((2 * image.width, 2 * image.height)), "BMP", {}),
        (faint, "WEBP", {"quality": 80}),
    ]:
        file = io.BytesIO()
        changed.save(file, form, **options)
        yield file.getvalue()


def test_near_duplicates_are_found_among_captchas(shipped, tmp_path):
    paths, expected = list(shipped[:200]), list(range(200))
    for number, original in enumerate(shipped[:5]):
        for content in saved_in_other_ways(original):
            paths.append(tmp_path / f"{len(paths)}.png")
            paths[-1].write_bytes(content)
            expected.append(number)
    thumbnails = [thumbnail for _, _, thumbnail in pixels.inspect_images(paths)]
    assert pixels.find_near_duplicates(thumbnails) == expected
    assert pixels.find_near_duplicates([]) == []


def test_near_duplicates_differ_by_a_maximum_anywhere():
    rows = np.random.default_rng(0).integers(0, 256, (40, 512)).astype("uint8")
    rows[20:] = rows[:20]
    position = np.random.default_rng(1).integers(0, 512, 10)
    rows[np.arange(20, 30), position] ^= 128  # half of the range: 1.7 standard deviations
    found = pixels.find_near_duplicates([row.tobytes() for row in rows])
    assert found == [*range(30), *range(10, 20)]


def test_copy_of_a_copy_is_in_the_same_group():
    def thumbnail(grey):
        return bytes([0] * 200 + [255] * 311 + [grey])

    assert pixels.find_near_duplicates([thumbnail(grey) for grey in (0, 100, 50)]) == [0, 0, 0]


def test_inspection_remembers_nothing(image_folder):
    path, other = sorted(image_folder.iterdir())[:2]
    _, before = pixels.inspect_images([path, other])
    stat = path.stat()
    path.write_bytes(bytes(stat.st_size))  # the same size …
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # … and the same time
    assert pixels.inspect_images([path, other]) == ["is not an image", before]


def is_in_file(image):
    while isinstance(image, np.ndarray):
        image = image.base
    return isinstance(image, mmap.mmap)


@pytest.mark.parametrize("widths", [[80], [60, 80]])
@pytest.mark.parametrize("max_bytes", [pixels.MAX_BYTES, 1], ids=["in memory", "in a file"])
def test_encoding_all_equals_encoding_one_by_one(samples, encode, max_bytes, widths, monkeypatch):
    for sample in samples[::3]:
        image = Image.open(sample.path)
        image.crop((0, 0, 100, 50)).save(sample.path)
    monkeypatch.setattr(pixels, "MAX_BYTES", max_bytes)
    encode.keywords["widths"] = widths
    stored, label = pixels.encode_all(samples, encode)
    assert is_in_file(stored[0]) == (max_bytes == 1)
    assert (label.dtype, label.shape) == (np.int32, (30, 7))
    for number, sample in enumerate(samples):
        expected = encode(sample)
        assert stored[number].dtype == np.uint8
        np.testing.assert_array_equal(stored[number], expected["image"])
        np.testing.assert_array_equal(label[number], expected["label"])
    assert len({image.shape for image in stored}) == len(widths)


@pytest.mark.parametrize(("spare_bytes", "in_file"), [(0, False), (-1, True)])
def test_images_are_kept_in_memory_up_to_max_bytes(samples, encode, spare_bytes, in_file, monkeypatch):
    monkeypatch.setattr(pixels, "MAX_BYTES", 30 * 24 * 80 + spare_bytes)
    assert is_in_file(pixels.encode_all(samples, encode)[0][0]) == in_file


def test_file_for_images_has_no_name(samples, encode, tmp_path, monkeypatch):
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.setattr(pixels, "PROJECT", folder)
    monkeypatch.setattr(pixels, "MAX_BYTES", 1)
    stored, _ = pixels.encode_all(samples, encode)
    assert list(folder.iterdir()) == []
    assert stored[0].any()


def test_vanished_image_is_an_error_that_names_it(samples, encode):
    path = samples[7].path
    path.unlink()
    with pytest.raises(ValueError) as error:
        pixels.encode_all(samples, encode)
    reason = "cannot be read: No such file or directory. It was readable when it was checked."
    assert str(error.value) == f"{path} {reason}"


def test_full_disk_is_an_error_that_names_the_folder(samples, encode, tmp_path, monkeypatch):
    monkeypatch.setattr(pixels, "PROJECT", tmp_path)
    monkeypatch.setattr(pixels, "MAX_BYTES", 1)
    with full_disk(20_000), pytest.raises(OSError, match=f"File too large: '{tmp_path}'"):
        pixels.encode_all(samples, encode)
