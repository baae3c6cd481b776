import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from snippet_ocr import images

GREY = np.tile(np.linspace(0, 255, 20).astype("uint8"), (10, 1))


def file_of(pixels_or_image, form, **options):
    image = pixels_or_image if isinstance(pixels_or_image, Image.Image) else Image.fromarray(pixels_or_image)
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["PNG", "BMP", "JPEG"])
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour_files_give_the_same_grey(form, channels):
    pixels = GREY if channels == 1 else np.stack([GREY] * 3, axis=2)
    options = {"quality": 100} if form == "JPEG" else {}
    found = images.load_image(file_of(pixels, form, **options))
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - GREY).max() <= (3 if form == "JPEG" else 0)


def test_colours_are_weighted_as_in_itu_r_601():
    pixels = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], dtype="uint8")
    assert images.load_image(pixels)[0] == pytest.approx([0.299 * 255, 0.587 * 255, 0.114 * 255], abs=1)


@pytest.mark.parametrize(
    ("form", "mode", "tolerance"),
    [
        ("GIF", "P", 0),
        ("WEBP", "RGB", 12),
        ("TIFF", "L", 0),
        ("TIFF", "CMYK", 0),
        ("TIFF", "I;16", 0),
        ("JPEG", "CMYK", 6),
        ("PNG", "LA", 0),
        ("PNG", "P", 0),
        ("BMP", "P", 0),
    ],
)
def test_every_format_and_mode_gives_the_same_grey(form, mode, tolerance):
    if mode == "I;16":
        image = Image.fromarray(GREY.astype("uint16") * 257)
    elif mode == "CMYK":
        image = Image.fromarray(GREY).convert("RGB").convert("CMYK")
    else:
        image = Image.fromarray(GREY).convert(mode)
    found = images.load_image(file_of(image, form, **({"quality": 100} if form != "GIF" else {})))
    assert np.abs(found.astype(int) - GREY).max() <= tolerance


def test_black_and_white_image_stays_black_and_white():
    image = Image.fromarray(GREY).point(lambda grey: 255 * (grey > 100)).convert("1")
    found = images.load_image(file_of(image, "TIFF"))
    assert np.array_equal(found, np.where(GREY > 100, 255, 0))


def test_first_frame_or_page_is_used():
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    for form in ("GIF", "TIFF", "WEBP"):
        options = {"lossless": True} if form == "WEBP" else {}
        content = file_of(frames[0], form, save_all=True, append_images=frames[1:], **options)
        assert np.abs(images.load_image(content).astype(int) - GREY).max() <= 1


def test_transparent_palette_colour_becomes_white():
    image = Image.new("P", (4, 3), 0)
    image.putpalette([0, 0, 0, 60, 60, 60])
    image.putpixel((1, 1), 1)
    for form in ("PNG", "GIF"):
        found = images.load_image(file_of(image, form, transparency=0))
        assert found[0, 0] == 255
        assert found[1, 1] == 60


def test_floating_point_pixels_are_refused():
    with pytest.raises(ValueError, match="floating-point"):
        images.load_image(file_of(Image.fromarray(GREY.astype("float32")), "TIFF"))


def test_transparent_image_is_drawn_on_white():
    rgba = np.zeros((2, 3, 4), dtype="uint8")  # black
    rgba[0, :, 3] = [0, 255, 128]  # transparent, opaque, half transparent
    found = images.load_image(file_of(rgba, "PNG"))
    assert found[0] == pytest.approx([255, 0, 127], abs=1)
    assert list(found[1]) == [255, 255, 255]


def test_16_bit_image_keeps_its_grey_values():
    pixels = (GREY.astype("uint16") * 257).astype("uint16")
    assert np.array_equal(images.load_image(file_of(Image.fromarray(pixels), "PNG")), GREY)


def test_upper_8_of_16_bits_are_the_grey_value():
    pixels = np.array([[0, 40_000, 65_535], [300, 257, 256]], dtype="uint16")
    found = images.load_image(file_of(Image.fromarray(pixels), "PNG"))
    np.testing.assert_array_equal(found, [[0, 155, 255], [1, 1, 0]])


@pytest.mark.parametrize("value", [-5, 65_536, 2_000_000_000])
def test_values_beyond_16_bits_are_refused_with_reason(value):
    pixels = np.array([[value, 65_535, 40_000]], dtype="int32")
    with pytest.raises(ValueError, match="^has pixels below 0 or above 65,535"):
        images.load_image(file_of(Image.fromarray(pixels), "TIFF"))
    pixels[0, 0] = 0
    assert images.load_image(file_of(Image.fromarray(pixels), "TIFF")).tolist() == [[0, 255, 155]]


def test_exif_orientation_is_applied():
    image = Image.fromarray(GREY)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    found = images.load_image(file_of(image, "JPEG", exif=exif, quality=100))
    assert found.shape == (20, 10)


def test_image_with_damaged_exif_data_is_read():
    turned = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    width_in_letters = struct.pack("<HHI4s", 0x0100, 2, 4, b"abc\0")
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + turned + width_in_letters + bytes(4)
    content = file_of(GREY, "JPEG", exif=exif, quality=100)
    with pytest.raises(Exception, match="integer"), Image.open(io.BytesIO(content)) as image:
        ImageOps.exif_transpose(image)
    assert images.load_image(content).size == GREY.size


def test_32_bit_image_with_8_bit_values_keeps_them():
    assert np.array_equal(images.load_image(file_of(Image.fromarray(GREY.astype("int32")), "TIFF")), GREY)


def test_damaged_byte_gives_an_image_or_a_reason():
    rng = np.random.default_rng(0)
    for form in ("PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP"):
        content = file_of(GREY, form)
        for _ in range(200):
            damaged = bytearray(content)
            damaged[rng.integers(len(damaged))] = rng.integers(256)
            try:
                assert images.load_image(bytes(damaged)).dtype == np.uint8
            except ValueError as error:
                assert str(error)


def test_other_format_is_refused():
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 10\n%%EndComments\n"
    with pytest.raises(ValueError, match="is not an image"):
        images.load_image(content)


def test_array_bytes_and_path_give_the_same_pixels(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(file_of(GREY, "PNG"))
    for source in (GREY, GREY[:, :, np.newaxis], path, str(path), path.read_bytes()):
        assert np.array_equal(images.load_image(source), GREY)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"this is text", "is not an image"),
        (file_of(GREY, "PNG")[:60], "is a damaged image"),
        (file_of(GREY, "JPEG")[:-40], "is a damaged image"),
        (file_of(Image.new("1", (8000, 8000)), "PNG"), "is too large: 8000×8000"),
        (file_of(Image.new("1", (60000, 60000)), "PNG"), "is too large"),
        (np.zeros((0, 5), "uint8"), "has no pixels"),
        (np.zeros((5, 5), "float32"), r"float32 and shape \(5, 5\)"),
        (np.zeros((5, 5, 2), "uint8"), r"shape \(5, 5, 2\); expected .* 1, 3 or 4 channels"),
        (np.zeros((5, 5, 5), "uint8"), r"shape \(5, 5, 5\); expected .* 1, 3 or 4 channels"),
        (np.zeros(5, "uint8"), r"shape \(5,\); expected"),
    ],
)
def test_invalid_image_is_refused_with_its_reason(content, reason):
    with pytest.raises(ValueError, match=reason):
        images.load_image(content)


def test_missing_file_is_refused_with_its_reason(tmp_path):
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        images.load_image(tmp_path / "nothing.png")


def test_image_of_the_right_size_is_not_changed():
    assert images.fit_image(GREY, 20, 10) is GREY


@pytest.mark.parametrize("shape", [(10, 20), (40, 20), (3, 400), (1, 1), (500, 7)])
def test_fitted_image_keeps_its_aspect_ratio(shape):
    pixels = np.full(shape, 230, dtype="uint8")
    ink = (slice(shape[0] // 4, -(shape[0] // 4) or None), slice(shape[1] // 4, -(shape[1] // 4) or None))
    pixels[ink] = 10
    fitted = images.fit_image(pixels, 200, 50)
    assert fitted.shape == (50, 200)
    if min(shape) >= 4:
        assert fitted[0, 0] == fitted[-1, -1] == 230
        rows, columns = np.nonzero(fitted < 120)
        drawn = (np.ptp(columns) + 1) / (np.ptp(rows) + 1)
        expected = pixels[ink].shape[1] / pixels[ink].shape[0]
        assert drawn == pytest.approx(expected, rel=0.25, abs=0.3)


def test_thin_image_keeps_one_row_in_the_middle():
    fitted = images.fit_image(np.full((1, 400), 200, "uint8"), 100, 21)
    assert fitted.shape == (21, 100)
    line = images.fit_image(
        np.pad(np.zeros((2, 398), "uint8"), ((1, 1), (1, 1)), constant_values=255), 100, 21
    )
    (rows,) = np.nonzero((line < 250).any(axis=1))
    assert rows.tolist() == [10]


@pytest.mark.parametrize("size", [(40, 20), (20, 40), (41, 20)])
def test_image_is_scaled_bilinearly_and_centred(size):
    width, height = size
    pixels = np.random.default_rng(0).integers(0, 256, (10, 10)).astype("uint8")
    left, top = (width - 20) // 2, (height - 20) // 2
    fitted = images.fit_image(pixels, width, height)
    expected = np.asarray(Image.fromarray(pixels).resize((20, 20), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(fitted[top : top + 20, left : left + 20], expected)
    outside = np.ones(fitted.shape, bool)
    outside[top : top + 20, left : left + 20] = False
    assert set(fitted[outside]) == {images.background_of(pixels)}
    assert fitted.dtype == np.uint8


def test_transparent_array_is_drawn_on_white():
    assert images.load_image(np.zeros((4, 4, 4), "uint8")).tolist() == [[255] * 4] * 4


def test_loaded_image_is_opened_and_fitted(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (10, 20)).astype("uint8")
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = images.load_fitted(tmp_path / "a.png", [16, 60, 90], 15)
    assert (found.dtype, found.shape) == (np.uint8, (15, 60))
    np.testing.assert_array_equal(found, images.fit_image(pixels, 60, 15))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1, 90), 16), ((32, 40), 16), ((33, 40), 32), ((64, 40), 32), ((65, 40), 48), ((5000, 40), 48)],
)
def test_image_gets_the_smallest_width_that_it_fits(size, expected):
    assert images.choose_width(size, [16, 32, 48], 20) == expected


def test_find_files_keeps_files_and_searches_folders(tmp_path):
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("b/2.PNG", "b/c/1.jpeg", "b/notes.txt"):
        (tmp_path / name).write_bytes(b"")
    file = tmp_path / "anything"
    found = images.find_files([file, tmp_path / "b"])
    assert found == [file, tmp_path / "b" / "2.PNG", tmp_path / "b" / "c" / "1.jpeg"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ValueError, match=rf"^Expected images \(\.png, .*\) in {tmp_path / 'empty'}\. Found none\."
    ):
        images.find_files([tmp_path / "empty"])


def with_scans(form, scans):
    """A progressive JPEG whose last scan occurs `scans` times, alone or followed by a second picture."""
    more = {"save_all": True, "append_images": [Image.new("L", (8, 8))]} if form == "MPO" else {}
    content = file_of(GREY, form, progressive=True, **more)
    end = content.index(b"\xff\xd9")
    start = content.rindex(b"\xff\xda", 0, end)
    return content[:start] + scans * content[start:end] + content[end:]


@pytest.mark.parametrize("form", ["JPEG", "MPO"])
def test_scans_are_limited_with_one_or_several_pictures(form):
    with Image.open(io.BytesIO(with_scans(form, 1))) as image:
        assert image.format == form
    assert images.load_image(with_scans(form, 50)).shape == GREY.shape
    with pytest.raises(ValueError, match="more than 100 scans"):
        images.load_image(with_scans(form, 110))


def test_photo_with_a_video_behind_it_is_read():
    photo = file_of(GREY, "JPEG", comment=200 * b"\xff\xda")  # the comment is no scan either
    video = 200 * b"\xff\xda\0\x0c"
    assert np.array_equal(images.load_image(photo + video), images.load_image(photo))


def test_scan_limit_ignores_markers_without_length():
    start, first, *others = with_scans("JPEG", 110).split(b"\xff\xda")
    with pytest.raises(ValueError, match="more than 100 scans"):
        images.load_image(b"\xff\xda".join([start, first + b"\xff\x01", *others]))


def test_folders_not_searched_are_reported_with_reason(tmp_path, monkeypatch):
    for name in (".hidden/1.png", "closed/2.png", "open/3.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(file_of(GREY, "PNG"))
    (tmp_path / "link").symlink_to(tmp_path / "open")
    scandir = os.scandir

    def closed_scandir(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed_scandir)
    found = images.find_files([tmp_path])
    assert found == [tmp_path / name for name in ("closed", "link", "open/3.png")]
    for path, reason in zip(found, ("cannot be read: Permission denied", "is a folder"), strict=False):
        with pytest.raises(ValueError, match=reason):
            images.load_image(path)
    assert images.find_files([tmp_path / "closed"]) == [tmp_path / "closed"]


def test_empty_name_is_refused_and_long_name_is_kept():
    with pytest.raises(ValueError, match="Received an empty name"):
        images.find_files([""])
    (path,) = images.find_files([300 * "a" + ".png"])
    with pytest.raises(ValueError, match="cannot be read: File name too long"):
        images.load_image(path)


@pytest.mark.parametrize(("bits", "maximum"), [(9, 256), (10, 1023), (12, 4095)])
def test_image_with_fewer_than_16_bits_keeps_its_greys(bits, maximum):
    pixels = np.linspace(0, maximum, 257).astype("uint16")[None]
    found = images.load_image(file_of(Image.fromarray(pixels), "PNG"))
    np.testing.assert_array_equal(found, pixels >> (bits - 8))


def test_transparent_grey_of_16_bits_becomes_white():
    pixels = np.array([[0, 30_000, 50_000]], dtype="uint16")
    found = images.load_image(file_of(Image.fromarray(pixels), "PNG", transparency=0))
    assert found.tolist() == [[255, 30_000 // 257, 50_000 // 257]]


def test_transparent_colour_of_16_bits_becomes_white():
    def chunk(name, content):
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    content = b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)),  # RGB, 16 bits per channel
            chunk(b"tRNS", struct.pack(">3H", *[40_000] * 3)),
            chunk(b"IDAT", zlib.compress(b"\0" + struct.pack(">6H", *[20_000] * 3, *[40_000] * 3))),
            chunk(b"IEND", b""),
        ]
    )
    assert images.load_image(content).tolist() == [[20_000 >> 8, 255]]
