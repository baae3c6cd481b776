"""From a file to the pixels a model sees: open, flatten, fit, pad, normalise.

Training and reading both come through here, so that a reader never meets
pixels that were made in another way than those it learnt from.
"""

import contextlib
import io
import os
import stat
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
"""The endings of image files, in lower case; the case of a file's ending does not matter."""

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
"""Pillow's names of the formats that are opened, whatever a file's ending says."""

MAX_PIXELS = 20_000_000
"""Pixels. A snippet of text has thousands; more than this is a mistake or an attack."""

MAX_FILE_BYTES = 100_000_000
"""Bytes, for the same reason: more than the largest image takes unpacked."""

MAX_SCANS = 100
"""Passes over a progressive JPEG. Cameras and programs write about ten; each one costs its time anew."""

START_OF_SCAN = b"\xff\xda"
"""The marker that opens each of them (ITU-T T.81, table B.1)."""

# Pillow warns of images larger than those that are refused here, with a reason, once their size is known.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def read_file(path):
    """Reads the bytes of an image's file.

    Args:
        path: its path.

    Returns:
        Its bytes.

    Raises:
        ValueError: if it is no regular file but a pipe or a device, on which one
            might wait for ever; if it cannot be read or is too large. The
            message is the reason, without the path.
    """
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("is not a regular file")
        if found.st_size > MAX_FILE_BYTES:
            raise ValueError(f"is too large: {found.st_size:,} bytes, at most {MAX_FILE_BYTES:,} allowed")
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}") from error


def load_image(source):
    """Opens an image as grey pixels.

    Colours become grey by the ITU-R 601-2 weights (Pillow's mode `L`), a
    transparent image is laid over white, and the orientation that a camera
    noted is applied. Of an animation or a file of several pages, the first
    counts.

    Args:
        source: a path, the bytes of a file, or a uint8 array of shape
            `(height, width)` or `(height, width, channels)` with 1, 3 or 4
            channels.

    Returns:
        A uint8 array of shape `(height, width)`; 0 is black, 255 is white.

    Raises:
        ValueError: if the source is not a whole, readable image of at most
            `MAX_PIXELS` pixels and `MAX_FILE_BYTES` bytes. The message is the
            reason, without the path: the caller knows which file it was.
    """
    if isinstance(source, np.ndarray):
        return _flatten(_image_from_array(source))
    content = source if isinstance(source, bytes) else read_file(source)
    if not content:
        raise ValueError("is empty (0 bytes)")
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.UnidentifiedImageError as error:
        raise ValueError("is not an image") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"is too large: {error}") from error
    except Exception as error:  # Pillow's readers raise many kinds on damaged headers.
        raise ValueError(f"is a damaged image: {error}") from error
    _check_size(*image.size)
    if image.format == "JPEG" and content.count(START_OF_SCAN) > MAX_SCANS:
        raise ValueError(f"has more than {MAX_SCANS} scans, which no program writes")
    if image.mode == "F":
        raise ValueError("has floating-point pixels, whose black and white are unknown")
    try:
        return _flatten(image)
    except Exception as error:
        raise ValueError(f"is a damaged image: {error}") from error


def _image_from_array(pixels):
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise ValueError(
            "expected a uint8 array of shape (height, width) or (height, width, channels) "
            f"with 1, 3 or 4 channels; received {pixels.dtype} of shape {pixels.shape}"
        )
    _check_size(pixels.shape[1], pixels.shape[0])
    return Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and channels == 1 else pixels)


def _check_size(width, height):
    if width * height == 0:
        raise ValueError(f"has no pixels ({width}×{height})")
    if width * height > MAX_PIXELS:
        raise ValueError(f"is too large: {width}×{height} pixels, at most {MAX_PIXELS:,} allowed")


def _flatten(image):
    """Lays an image over white and makes it grey."""
    image.load()
    # A camera's notes may be damaged where its picture is not.
    with contextlib.suppress(Exception):
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        # 16 bits a pixel: Pillow's own conversion would cut the values off at 255.
        pixels = np.asarray(image).clip(0, 65535)
        return (pixels // 257 if pixels.max() > 255 else pixels).astype("uint8")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("L"))


def background_of(pixels):
    """The grey value of the paper: the median of the pixels along the image's edge.

    Args:
        pixels: a uint8 array of shape `(height, width)`.

    Returns:
        An integer from 0 to 255.
    """
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return int(np.median(edge))


def fit_image(pixels, width, height):
    """Scales an image to fit a size, keeping its aspect ratio, and pads it with its background.

    Args:
        pixels: a uint8 array of shape `(height of the image, width of the image)`.
        width: the width wanted, in pixels.
        height: the height wanted, in pixels.

    Returns:
        A uint8 array of shape `(height, width)` with the image in its middle.
    """
    if pixels.shape == (height, width):
        return pixels
    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    fitted_width = max(1, round(pixels.shape[1] * scale))
    fitted_height = max(1, round(pixels.shape[0] * scale))
    image = Image.fromarray(pixels)
    image = image.resize((fitted_width, fitted_height), Image.Resampling.BILINEAR)
    fitted = np.full((height, width), background_of(pixels), dtype="uint8")
    top, left = (height - fitted_height) // 2, (width - fitted_width) // 2
    fitted[top : top + fitted_height, left : left + fitted_width] = image
    return fitted


def normalise(pixels):
    """Standardises an image and lays its width along the time axis.

    `(mean - pixel) / standard deviation`, over the image's own pixels: zero
    mean, unit variance, and dark ink positive, whatever the paper's grey.

    Args:
        pixels: a uint8 array of shape `(height, width)`.

    Returns:
        A float32 array of shape `(width, height, 1)`. An image of one single
        grey becomes zeros.
    """
    pixels = pixels.astype("float32")
    # A spread below one grey level is noise of the camera, not ink: it is not blown up.
    ink = (pixels.mean() - pixels) / max(pixels.std(), 1.0)
    return ink.T[:, :, np.newaxis]


def load_fitted(source, width, height):
    """Opens and fits an image.

    Args:
        source: as in `load_image`.
        width: the width wanted, in pixels.
        height: the height wanted, in pixels.

    Returns:
        A uint8 array of shape `(height, width)`.

    Raises:
        ValueError: as `load_image`.
    """
    return fit_image(load_image(source), width, height)


def prepare_image(source, width, height):
    """Opens, fits and normalises an image: the one way from a file to the model's input.

    Args:
        source: as in `load_image`.
        width: the model's image width, in pixels.
        height: the model's image height, in pixels.

    Returns:
        A float32 array of shape `(width, height, 1)`.

    Raises:
        ValueError: as `load_image`.
    """
    return normalise(load_fitted(source, width, height))


def find_files(names):
    """Lists the images that a command line names: files as they are, folders with all below them.

    Args:
        names: paths of files and folders.

    Returns:
        A list of `Path`s.

    Raises:
        ValueError: if a folder holds no image.
    """
    files = []
    for name in map(Path, names):
        if name.is_dir():
            found = sorted(path for path in name.rglob("*") if path.name.lower().endswith(SUFFIXES))
            if not found:
                raise ValueError(f"Expected images ({', '.join(SUFFIXES)}) in {name.absolute()}. Found none.")
            files += found
        else:
            files.append(name)
    return files
