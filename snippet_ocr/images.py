"""From an image file to the model's input, for training and reading: decode, convert to grey, fit, pad."""

import contextlib
import io
import os
import re
import stat
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from snippet_ocr.errors import ImageError

Source = str | os.PathLike | bytes | np.ndarray | Image.Image  # one image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")  # in any case
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")  # that Pillow may open, whatever the suffix is
MAX_PIXELS = 20_000_000  # a snippet of text has thousands; more is a mistake or an attack
MAX_FILE_BYTES = 100_000_000  # more than an uncompressed image of MAX_PIXELS takes
MAX_SCANS = 100  # of a progressive JPEG: programs write about ten, and decoding each takes time

# Markers of a JPEG (ITU-T T.81, table B.1). MARKER matches those that end a scan and have a length.
START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # this module refuses large images


def read_file(path):
    """Returns the bytes of an image file; an `ImageError` is the reason why not, without the path."""
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            os.scandir(path).close()  # raises the reason if the folder cannot be opened
            raise ImageError("is a folder, not an image")
        if not stat.S_ISREG(found.st_mode):  # reading from a pipe or a device could block forever
            raise ImageError("is not a regular file")
        if found.st_size > MAX_FILE_BYTES:
            raise ImageError(f"is too large: {found.st_size:,} bytes, at most {MAX_FILE_BYTES:,} allowed")
        return Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error


def load_image(source: Source) -> np.ndarray:
    """Decodes the first frame or page of an image and converts it to grey.

    Colours are weighted as in ITU-R 601-2 (Pillow's mode `L`), transparent images are drawn on white, and the
    EXIF orientation is applied.

    Args:
        source: a path, the bytes of a file, a Pillow image, or a uint8 array of shape `(height, width)` or
            `(height, width, channels)` with 1, 3 or 4 channels.

    Returns:
        A uint8 array of shape `(height, width)`; 0 is black, 255 is white.

    Raises:
        ImageError: if the source is not a complete image within `MAX_PIXELS` and `MAX_FILE_BYTES`. The
            message is the reason, without the path, such as "is not an image".
    """
    if isinstance(source, np.ndarray):
        return _to_grey(_image_from_array(source))
    image = source if isinstance(source, Image.Image) else _open(source)
    _check_size(*image.size)
    if image.mode == "F":
        raise ImageError("has floating-point pixels, whose values for black and white are unknown")
    try:
        grey = _to_grey(image)
    except Exception as error:
        raise ImageError(f"is a damaged image: {error}") from error
    if grey is None:
        raise ImageError("has pixels below 0 or above 65,535, whose values for black and white are unknown")
    return grey


def _open(source):
    """Opens a path or the bytes of a file with Pillow, which decodes nothing yet."""
    content = source if isinstance(source, bytes) else read_file(source)
    if not content:
        raise ImageError("is empty (0 bytes)")
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.UnidentifiedImageError as error:
        raise ImageError("is not an image") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"is too large: {error}") from error
    except Exception as error:  # Pillow raises exceptions of many types for damaged headers
        raise ImageError(f"is a damaged image: {error}") from error
    if image.format in ("JPEG", "MPO") and _count_scans(content) > MAX_SCANS:  # MPO: several pictures
        raise ImageError(f"has more than {MAX_SCANS} scans, which no program writes")
    return image


def _count_scans(content):
    """Returns the number of scans in the first picture of a JPEG; phones append videos and more pictures."""
    scans, position = 0, len(START_OF_SCAN)
    while scans <= MAX_SCANS and (marker := MARKER.search(content, position)) and marker[0] != END_OF_IMAGE:
        scans += marker[0] == START_OF_SCAN
        size = int.from_bytes(content[marker.end() : marker.end() + 2])  # of the segment
        position = marker.end() + max(size, 2)
    return scans


def _image_from_array(pixels):
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise ImageError(
            f"is an array of {pixels.dtype} and shape {pixels.shape}; expected uint8 and shape "
            "(height, width), or (height, width, channels) with 1, 3 or 4 channels"
        )
    _check_size(pixels.shape[1], pixels.shape[0])
    return Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and channels == 1 else pixels)


def _check_size(width, height):
    if width * height == 0:
        raise ImageError(f"has no pixels ({width}×{height})")
    if width * height > MAX_PIXELS:
        raise ImageError(f"is too large: {width}×{height} pixels, at most {MAX_PIXELS:,} allowed")


def _to_grey(image):
    """Returns a Pillow image as uint8 of shape `(height, width)`, or None if its values exceed 16 bits."""
    image.load()
    with contextlib.suppress(Exception):  # the EXIF data may be damaged although the pixels are not
        image = ImageOps.exif_transpose(image)
    transparent = image.info.get("transparency")
    if image.mode.startswith("I"):  # 16 bits per pixel, which Pillow's own conversion clips at 255
        pixels = np.asarray(image)
        if pixels.min() < 0 or pixels.max() > 65535:
            return None
        if isinstance(transparent, int):
            pixels = np.where(pixels == transparent, 65535, pixels)
        unused = max(int(pixels.max()).bit_length() - 8, 0)  # cameras also write 10 or 12 of the 16 bits
        return (pixels // 257 if unused > 4 else pixels >> unused).astype("uint8")
    if isinstance(transparent, tuple) and max(transparent) > 255:  # 16 bits, of which Pillow keeps 8
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("L"))


def background_of(pixels):
    """Returns the grey value of the background, 0 to 255: the median of the pixels along the image's edge."""
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return int(np.median(edge))


def fit_image(pixels, width, height):
    """Scales a grey image, a uint8 array, to fit into a size, and centres it on its background."""
    if pixels.shape == (height, width):
        return pixels
    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    size = [max(1, round(side * scale)) for side in pixels.shape[::-1]]
    fitted = Image.new("L", (width, height), background_of(pixels))
    scaled = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
    fitted.paste(scaled, ((width - size[0]) // 2, (height - size[1]) // 2))
    return np.asarray(fitted)


def choose_width(size: tuple[int, int], widths: Sequence[int], height: int) -> int:
    """Returns the smallest of a model's image widths into which an image fits, or else the largest.

    Args:
        size: the width and the height of the image, in pixels.
        widths, height: the model's image sizes, in pixels: an ascending list of widths, and their height.
    """
    fitting = (width for width in widths if size[0] * height <= width * size[1])
    return next(fitting, widths[-1])


def load_fitted(source: Source, widths: Sequence[int], height: int) -> np.ndarray:
    """Converts an image to the model's input; scaled, not distorted, and padded with its background.

    Args:
        source: as in `load_image`; it raises the same errors.
        widths, height: as in `choose_width`.

    Returns:
        A uint8 array of shape `(height, width)`, with one of the widths; 0 is black, 255 is white.
    """
    pixels = load_image(source)
    return fit_image(pixels, choose_width(pixels.shape[::-1], widths, height), height)


def find_files(names):
    """Returns the `Path`s of named files, and of the images in named folders and their visible subfolders.

    Subfolders that are links, and folders that cannot be opened, are returned too, so that reading them fails
    with the reason. An `ImageError` names a folder without images, or an empty name.
    """
    files = []
    for name in names:
        if not str(name):
            raise ImageError("Expected the name of an image or a folder. Received an empty name.")
        found = _images_below(name) if os.path.isdir(name) else [Path(name)]
        if not found:
            folder = Path(name).absolute()
            raise ImageError(f"Expected images ({', '.join(SUFFIXES)}) in {folder}. Found none.")
        files += found
    return files


def _images_below(folder):
    found, errors = [], []
    for parent, folders, names in os.walk(folder, onerror=errors.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if name.lower().endswith(SUFFIXES)]
        found += [path for path in (Path(parent, name) for name in folders) if path.is_symlink()]
    return sorted(found + [Path(error.filename) for error in errors])
