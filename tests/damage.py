"""Small images of every format, ways to damage a file, and the check that a reader is refused."""

import io

import pytest
from PIL import Image, ImageDraw

from snippet_ocr.reader import Reader

LARGE_NUMBERS = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x00", b"\xff\xff\xff\x7f")


def drawing(mode, size=(40, 16)):
    """Returns a small Pillow image in a mode."""
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    draw.line((2, 2, size[0] - 3, size[1] - 3), fill="black", width=2)
    draw.text((4, 2), "2b8", fill=(40, 60, 120))
    return image.convert("L").convert("I;16") if mode == "I;16" else image.convert(mode)


def encoded(form, mode, **options):
    """Returns the bytes of a drawing in a file format."""
    file = io.BytesIO()
    drawing(mode).save(file, form, **options)
    return file.getvalue()


def small_files():
    """Returns a dictionary from a file name to its bytes, for every supported format and mode."""
    frames = {"save_all": True, "append_images": [drawing("L").rotate(10)] * 2}
    return {
        **{
            f"{mode}.png".replace(";", ""): encoded("PNG", mode)
            for mode in ("1", "L", "P", "RGB", "RGBA", "I;16")
        },
        **{f"{mode}.jpg": encoded("JPEG", mode) for mode in ("L", "RGB", "CMYK")},
        "progressive.jpeg": encoded("JPEG", "RGB", progressive=True),
        **{f"{mode}.bmp": encoded("BMP", mode) for mode in ("1", "P", "RGB")},
        "animated.gif": encoded("GIF", "P", **frames),
        "lossy.webp": encoded("WEBP", "RGBA"),
        "lossless.webp": encoded("WEBP", "RGB", lossless=True),
        "pages.tif": encoded("TIFF", "L", **frames),
        "packed.tiff": encoded("TIFF", "RGB", compression="tiff_lzw"),
        "fax.tif": encoded("TIFF", "1", compression="group4"),
    }


def damaged(content, rng):
    """Damages the bytes of a file in one to three random ways.

    Args:
        content: the bytes.
        rng: a `random.Random`.

    Returns:
        Bytes, which may by chance be the same.
    """
    content = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        # Headers are short and matter most: half of the damage starts in the first 64 bytes.
        start = rng.randrange(min(len(content), rng.choice((64, 10**9))) or 1)
        length = rng.choice((1, 2, 4, 16, 64))
        match rng.randrange(7):
            case 0:
                del content[start:]
            case 1:
                del content[start : start + length]
            case 2:
                content[start:start] = content[start : start + length]
            case 3:
                content[start : start + length] = rng.randbytes(length)
            case 4:
                content[start : start + 4] = rng.choice(LARGE_NUMBERS)
            case 5:
                content[start:start] = bytes(length)
            case 6 if content:
                content[min(start, len(content) - 1)] ^= 1 << rng.randrange(8)
    return bytes(content)


def assert_refused(path, reason=""):
    """Checks that a file is refused before Keras or onnxruntime opens it."""
    with pytest.raises(ValueError, match=f"(?s){path.name} is not one: .*{reason}") as refusal:
        Reader.load(path)
    assert "cannot load it" not in str(refusal.value)
