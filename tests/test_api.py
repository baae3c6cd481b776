"""The public API, with the reader that the package contains."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

import snippet_ocr
from snippet_ocr import ConstraintError, Error, ImageError, Reader, ReaderError, Reading, images

TEXTS = ["48213", "AB-123", "07.11.2026", "x9", "2026"]


def drawn(text, mode="RGB"):
    font = ImageFont.load_default(28)
    image = Image.new(mode, (int(font.getlength(text)) + 20, 44), "white")
    ImageDraw.Draw(image).text((10, 5), text, "black", font=font)
    return image


@pytest.fixture(scope="module")
def reader():
    return Reader.load("base")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "meter.png"
    drawn("48213").save(path)
    return path


def test_base_reader_reads_drawn_texts(reader):
    assert [reading.text for reading in reader.read(list(map(drawn, TEXTS)))] == TEXTS


def test_single_image_gives_a_reading_and_a_list_gives_a_list(reader, path):
    image = drawn("48213")
    sources = [path, str(path), path.read_bytes(), np.asarray(image), image]
    for source in sources:
        reading = reader.read(source)
        assert isinstance(reading, Reading)
        assert reading.text == "48213"
        assert reader.read([source]) == [reading]
        assert list(reader.read_each(source)) == [(source, reading)]
        assert reader.read(source, progress=True) == reading
    assert [one.text for one in reader.read(iter(sources))] == 5 * ["48213"]


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "RGBA", "P", "CMYK", "I;16"])
def test_pillow_image_reads_like_its_saved_file(reader, mode, tmp_path):
    image = drawn("48213").convert("L").convert(mode)
    saved = tmp_path / "saved.tif"
    image.save(saved)
    expected = images.load_image(saved)
    np.testing.assert_array_equal(images.load_image(image), expected)
    with Image.open(saved) as opened:
        np.testing.assert_array_equal(images.load_image(opened), expected)


def test_pillow_image_that_cannot_be_read_is_an_image_error(reader, path):
    path.write_bytes(path.read_bytes()[:200])
    with Image.open(path) as broken, pytest.raises(ImageError, match="the image is a damaged image"):
        reader.read(broken)
    with pytest.raises(ImageError, match="the image has floating-point pixels"):
        reader.read(Image.new("F", (9, 9)))
    with pytest.raises(ImageError, match="the image is too large"):
        reader.read(Image.new("1", (5000, 5000)))


@pytest.mark.parametrize(
    "options",
    [{"length": 4}, {"length": (1, 4)}, {"pattern": "9999"}, {"words": iter(["1234", "4823", "é"])}],
)
def test_keywords_restrict_the_text(reader, options):
    reading = reader.read(drawn("48213"), **options)
    assert len(reading.text) == 4
    assert reading.text.isdigit()


def test_keywords_combine_with_top_and_characters(reader):
    reading = reader.read(drawn("AB-123"), pattern="??-999", length=[6, 6], top=3, characters=True)
    assert (reading.text, len(reading.alternatives), len(reading.character_confidences)) == ("AB-123", 2, 6)
    assert all(one.text[2] == "-" for one in reading.alternatives)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"pattern": "[a"}, "unterminated"),
        ({"length": (5, 3)}, "Received: 5 to 3"),
        ({"length": 999}, "There is none"),
        ({"words": []}, "Found none"),
        ({"words": "words.txt"}, "a list of words. Received a string"),
    ],
)
def test_impossible_constraint_is_refused_before_reading(reader, options, reason):
    for read in (reader.read, reader.read_each):
        with pytest.raises(ConstraintError, match=reason):
            read(["missing.png"], **options)


def test_threads_share_one_reader(reader):
    pictures, start = list(map(drawn, TEXTS)), threading.Barrier(8)

    def read(number):
        start.wait()
        options = {"pattern": "?" * len(TEXTS[number % 5])} if number % 2 else {}
        return [reader.read(pictures[number % 5], **options).text for _ in range(20)]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, range(8)))
    assert found == [20 * [TEXTS[number % 5]] for number in range(8)]


def test_errors_are_value_errors_that_a_service_can_catch(reader, path, tmp_path):
    assert {ImageError, ReaderError, ConstraintError} == set(Error.__subclasses__())
    assert issubclass(Error, ValueError)
    sources = [b"nothing", path, tmp_path / "missing.png", "a\0.png", np.zeros((4, 4))]
    results = [result for _, result in reader.read_each(sources)]
    assert [type(result) for result in results] == [ImageError, Reading, ImageError, ImageError, ImageError]
    with pytest.raises(ReaderError, match="There is no such file"):
        Reader.load(tmp_path / "missing.onnx")


def test_package_exports_the_documented_names_only():
    assert sorted(snippet_ocr.__all__) == sorted(
        ["Reader", "Reading", "Error", "ImageError", "ReaderError", "ConstraintError", "__version__"]
    )
