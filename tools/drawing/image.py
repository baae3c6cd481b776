"""Draws a text as a photo may show it: ink, then geometry, then light and colours, then the camera."""

import functools
import io
import math
import re
import unicodedata

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from tools.drawing.fonts import MATPLOTLIB, RAQM, SIZE, draws, load_font
from tools.drawing.styles import STYLES
from tools.drawing.texts import mixed_text, pick

MIN_CORRELATION = 0.45  # of an image with its ink; below it, the text is hard to see
BILINEAR, BICUBIC, NEAREST = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.NEAREST
ENDS = (0, 0, 1, 0), (1, 0, 1, 1), (1, 1, 1, 2), (0, 2, 1, 2), (0, 1, 0, 2), (0, 0, 0, 1), (0, 1, 1, 1)
"""The ends of the seven segments of a digit, x and y: clockwise from the top, then the middle."""
LIT = {
    "0": "012345", "1": "12", "2": "01346", "3": "01236", "4": "1256", "5": "02356", "6": "023456",
    "7": "012", "8": "0123456", "9": "012356", "-": "6", "A": "012456", "b": "23456", "C": "0345",
    "d": "12346", "E": "03456", "F": "0456", "H": "12456", "L": "345", "P": "01456", "U": "12345",
}  # fmt: skip
"""The segments that show a character."""


def draw_image(text, name, paths, heights, generator):
    """Draws a text; returns a grey Pillow image.

    Args:
        text, name: the text, and the name of a style, a key of `STYLES`.
        paths: the font files, a tuple of strings.
        heights: a tuple of the minimum and the maximum height of the image, in pixels.
        generator: a NumPy random generator.

    Raises:
        ValueError: if no font has all characters of the text.
    """
    style, uniform = STYLES[name], generator.uniform
    height = round(math.exp(uniform(*np.log(heights))))
    # Most margins are small: left, top, right, bottom.
    margins = style.margin[0] + (style.margin[1] - style.margin[0]) * uniform(size=4) ** 2
    text_height = height / (1 + margins[1] + margins[3])
    if text_height > style.min_height and uniform() < 0.6:
        text_height = uniform(style.min_height, text_height)  # enlarged at the end
    ink = draw_ink(text, name, paths, generator)
    stretch = math.exp(generator.normal(0, 0.12))
    ink = _scale(ink, text_height / ink.height, stretch)
    layers = _warp(_place(ink, name, margins, paths, generator), ink.height, style, generator)
    margins = (margins * ink.height).round().astype(int)
    layers = layers.crop(tuple(np.add(_ink_box(layers), margins * (-1, -1, 1, 1)).tolist()))
    for _ in range(20):
        contrast = uniform(*style.contrast)
        pixels, signal = _color(layers, ink.height, contrast, style, generator)
        image = _scribble(pixels, ink.height, style, generator)
        image = _photograph(image, height, ink.height, max(contrast, 60), generator)
        if _correlation(image, signal, margins) > MIN_CORRELATION:
            break
    return image


def _scale(image, factor, stretch=1.0):
    size = max(1, round(image.width * factor * stretch)), max(1, round(image.height * factor))
    return image.resize(size, BILINEAR)


def _correlation(image, signal, margins):
    """Returns the correlation of a finished image with what the ink changed in it, inside of the margins."""
    final = np.asarray(image.resize(signal.shape[::-1], Image.Resampling.BOX), "float32")
    left, top, right, bottom = margins
    parts = [part[top : len(part) - bottom, left : part.shape[1] - right] for part in (final, signal)]
    one, two = [part - part.mean() for part in parts]
    return (one * two).sum() / math.sqrt(max((one * one).sum() * (two * two).sum(), 1e-6))


def choose_font(text, pattern, paths, generator):
    """Returns a font file that has all characters of a text, mostly one whose name fits a pattern."""
    groups = [_preferred(paths, pattern), paths] if generator.random() < 0.85 else [paths]
    for group in groups:
        for number in generator.permutation(len(group)):
            if all(draws(group[number], character) for character in text):
                return group[number]
    missing = [character for character in text if not any(draws(path, character) for path in paths)]
    raise ValueError(
        f"Expected a font with all characters of {text!r}. Found none among {len(paths)}"
        f"{''.join(f'; no font has {one}' for one in missing)}. Install one, or pass its folder with --fonts."
    )


@functools.cache
def _preferred(paths, pattern):
    return [path for path in paths if re.search(pattern, path.rpartition("/")[2], re.IGNORECASE)]


def draw_ink(text, name, paths, generator):
    """Returns a text in white on black, about `SIZE` pixels high, without margins: an `L` image."""
    style, uniform = STYLES[name], generator.uniform
    if name == "display" and text.isascii():
        has_segments = {*text} <= {*LIT, *" .:"} and uniform() < 0.7
        return (_draw_segments if has_segments else _draw_dots)(text, generator)
    path = choose_font(text, style.fonts, paths, generator)
    if any(unicodedata.category(c)[0] == "M" or unicodedata.bidirectional(c) in ("R", "AL") for c in text):
        mask = load_font(path, RAQM).getmask(text)  # letters that join or stack are drawn together
        return Image.frombytes("L", mask.size, bytes(mask)).crop(mask.getbbox())
    stroke, jitter = max(0, int(generator.integers(-3, 3))), style.jitter * uniform()
    spacing, mixed = SIZE * uniform(*style.spacing), uniform() < style.mixed_fonts
    canvas, x, baseline = Image.new("L", (SIZE * (2 * len(text) + 2), 3 * SIZE)), SIZE, 2 * SIZE
    pen = ImageDraw.Draw(canvas)
    for character in text:
        font = load_font(choose_font(character, style.fonts, paths, generator) if mixed else path)
        if jitter:
            tile = Image.new("L", (2 * SIZE, 2 * SIZE))
            ImageDraw.Draw(tile).text((SIZE, 1.35 * SIZE), character, 255, font, "ms", stroke_width=stroke)
            angle, shift, growth = generator.normal(0, (0.26 * jitter, 0.1 * jitter * SIZE, 0.12 * jitter))
            cos, sin = math.cos(angle) / math.exp(growth), math.sin(angle) / math.exp(growth)
            matrix = cos, sin, SIZE * (1 - cos - sin), -sin, cos, SIZE * (1 - cos + sin)
            tile = tile.transform(tile.size, Image.Transform.AFFINE, matrix, BILINEAR)
            left = x + font.getlength(character) / 2 - SIZE
            canvas.paste(255, (round(left), round(baseline - 1.35 * SIZE + shift)), tile)
        else:
            pen.text((x, baseline), character, 255, font, "ls", stroke_width=stroke)
        x += font.getlength(character) + spacing
    return _trim(canvas, text, baseline)


def _trim(canvas, text, baseline):
    """Cuts off the margins of a text; hyphens and commas keep their place in the line."""
    left, top, right, bottom = canvas.getbbox()
    if not any(map(str.isalnum, text)):
        top, bottom = min(top, round(0.65 * baseline)), max(bottom, baseline)
    return canvas.crop((left, top, right, bottom))


def _draw_segments(text, generator):
    """Draws a calculator's or a meter's digits. Segments that are off may be faintly visible."""
    width, thickness, gap = generator.uniform((0.4, 0.07, -0.02), (0.6, 0.14, 0.03)) * SIZE
    off = pick((0, 0, 0, int(generator.integers(15, 45))), generator)
    canvas, x, thickness = Image.new("L", (SIZE * (len(text) + 2), 3 * SIZE)), SIZE, round(thickness)
    pen = ImageDraw.Draw(canvas)
    for character in text:
        if character in ".:":
            for y in (2 * SIZE - thickness, 1.4 * SIZE)[: 1 + (character == ":")]:
                pen.ellipse((x - thickness / 2, y, x + thickness / 2, y + thickness), 255)
        for number, (x1, y1, x2, y2) in enumerate(ENDS if character not in " .:" else ()):
            inset = gap + thickness / 2
            across, down = (inset, 0) if x2 > x1 else (0, inset)
            start = x + x1 * width + across, SIZE * (1 + y1 / 2) + down
            end = x + x2 * width - across, SIZE * (1 + y2 / 2) - down
            pen.line((start, end), 255 if str(number) in LIT[character] else off, thickness)
        x += (0 if character in ".:" else width) + 1.8 * thickness
    return _trim(canvas, text, 2 * SIZE)


def _draw_dots(text, generator):
    """Draws a text with the dots of a printer or a display."""
    weight = pick(("", "-Bold"), generator)
    font = load_font(MATPLOTLIB / f"DejaVuSansMono{weight}.ttf", size=int(generator.integers(9, 14)))
    canvas, dot = Image.new("1", (int(font.getlength(text)) + 4, 20)), 6
    ImageDraw.Draw(canvas).text((2, 15), text, 1, font, "ls")
    small = _trim(canvas.convert("L"), text, 15)
    disc = 255 * np.clip(generator.uniform(2, 4.2) - np.hypot(*np.mgrid[-2.5:3, -2.5:3]), 0, 1)
    discs = Image.fromarray(np.tile(disc.astype("uint8"), small.size[::-1]))
    return ImageChops.multiply(small.resize((small.width * dot, small.height * dot), NEAREST), discs)


def _place(ink, name, margins, paths, generator):
    """Returns an image with a text in the middle: `L`, or `RGB` of the text, of other ink, and of a plate."""
    style, (width, height) = STYLES[name], ink.size
    has_panel, has_neighbour = generator.random(2) < (style.panel, style.neighbours)
    around = 2 + height * (0.2 + max(margins) * (has_panel or has_neighbour))
    tilt = math.sin(math.radians(style.angle)) + style.slant / 2  # what a rotation needs
    left, top = int(around + tilt * height), int(around + tilt * width)
    text, other, panel = (Image.new("L", (width + 2 * left, height + 2 * top)) for _ in range(3))
    text.paste(ink, (left, top))
    if has_panel:
        edges = generator.uniform(0.08, 0.5, 4) * height
        box = left - edges[0], top - edges[1], left + width + edges[2], top + height + edges[3]
        radius, line = generator.uniform((0, -0.05), (0.25, 0.12)) * height
        ImageDraw.Draw(panel).rounded_rectangle(box, radius, 255)
        if line > 0:
            ImageDraw.Draw(other).rounded_rectangle(box, radius, None, 255, math.ceil(line))
    if has_neighbour:
        try:
            row = draw_ink(mixed_text(style.mix, generator), name, paths, generator)
        except ValueError:  # no font has Latin letters
            row = ink
        row = _scale(row, height / row.height * pick((0.35, 0.5, 1, 1, 1), generator))
        above, gap = generator.random() < 0.5, generator.uniform(0.2, 0.5) * height
        # Less than half of the row may be visible.
        gap = max(gap, margins[1 if above else 3] * height - 0.4 * row.height)
        y = top - gap - row.height if above else top + height + gap
        other.paste(255, (left + int(generator.uniform(-0.5, 0.3) * width), round(y)), row)
    return Image.merge("RGB", (text, other, panel)) if has_panel or has_neighbour else text


def _ink_box(layers):
    return (layers if layers.mode == "L" else layers.getchannel(0)).getbbox() or (0, 0, 0, 0)


def _warp(layers, height, style, generator):
    """Rotates, slants, tilts and bends an image through a grid of quadrilaterals."""
    (width, full), curve, tau = layers.size, style.curve * height, 2 * math.pi
    scales = math.radians(style.angle), style.slant, style.perspective, style.perspective
    angle, slant, tilt_x, tilt_y = generator.normal(0, scales)
    wave, sway, period, phase = generator.uniform((0, -0.5, 2.5, 0), (1, 0.5, 3 + 2 * width / height, tau))
    columns = np.linspace(0, width, 3 + int(min(1.5, 15 * style.curve) * width / height)).astype(int)
    rows = np.linspace(0, full, 3).astype(int)
    x, y = np.meshgrid(columns - width / 2, rows - full / 2)
    grow, cos, sin = 1 + 2 * tilt_x * x / width + tilt_y * y / height, math.cos(angle), math.sin(angle)
    x, y = (x * cos + y * (sin + slant)) / grow, (y * cos - x * sin) / grow
    y = y + wave * curve * np.sin(tau * x / period / height + phase)
    x = x + sway * curve * np.sin(tau * y / height + phase)
    points = np.stack([x + width / 2, y + full / 2], -1)  # (3, columns, 2)
    mesh = []
    for i, j in np.ndindex(len(columns) - 1, 2):
        box = int(columns[i]), int(rows[j]), int(columns[i + 1]), int(rows[j + 1])
        mesh.append((box, points[[j, j + 1, j + 1, j], [i, i, i + 1, i + 1]].ravel().tolist()))
    warped = layers.transform(layers.size, Image.Transform.MESH, mesh, BILINEAR)
    left, top, right, bottom = _ink_box(warped)
    return warped if left > 0 and top > 0 and right < width and bottom < full else layers  # not cut off


def _clouds(shape, cell, generator):
    """Returns smooth noise, mostly within -1 and 1; `cell` is the size of its spots in pixels."""
    small = generator.standard_normal((int(shape[0] / cell) + 2, int(shape[1] / cell) + 2), "float32") / 1.5
    return np.asarray(Image.fromarray(small).resize(shape[::-1], BICUBIC))


def _texture(shape, height, generator):
    """Returns a background, mostly within -1 and 1: clouds, grain, stripes or patches."""
    kind = generator.integers(4)
    if kind < 2:
        return _clouds(shape, generator.uniform(0.15, 2) * height if kind else 1, generator)
    y, x = np.ogrid[: shape[0], : shape[1]]
    fx, fy, phase = generator.normal(0, 3, 3) / (1, 1, kind)
    waves = np.sin((kind > 2 or 2 * math.pi) * (fx * x + fy * y) / height + np.sin(3 * x / height + phase))
    return (np.sign(waves) if kind > 2 else waves).astype("float32")


def _color(layers, height, contrast, style, generator):
    """Returns grey values, about 0 to 255, and the part of them that is due to the ink: float32 arrays."""
    uniform, planes = generator.uniform, np.asarray(layers, "float32") / 255
    ink, *rest = np.moveaxis(planes, -1, 0) if planes.ndim == 3 else (planes,)
    shape, low = ink.shape, uniform(0, 255 - contrast)
    paper, ink_level = (low, low + contrast) if uniform() < style.light_ink else (low + contrast, low)
    is_scan = uniform() < style.scan
    if is_scan:  # flat and nearly white, with rough edges
        paper, ink_level = 255 - uniform(0, 20), 235 - contrast
        rough = ink + uniform(0, 0.4) * _clouds(shape, 1, generator)
        ink = np.clip((rough - 0.5) * uniform(1, 5) + 0.5, 0, 1)
    strength = 0 if is_scan else max(contrast, 60) * style.texture * uniform() ** 2
    plain = paper + strength * _texture(shape, height, generator)
    if rest:
        other, panel = rest
        if panel.any():
            plain = np.where(panel > 0.5, plain, uniform(0, 255) + 20 * _clouds(shape, height / 2, generator))
        plain = plain + other * (pick((ink_level, ink_level, uniform(0, 255)), generator) - plain)
    image = plain
    if uniform() < style.relief:
        distance, direction = max(1, round(height * uniform(0.02, 0.06))), uniform(0, 2 * math.pi)
        down, right = round(distance * math.sin(direction)), round(distance * math.cos(direction)) or 1
        shifted = [np.roll(ink, (sign * down, sign * right), (0, 1)) for sign in (1, -1)]
        image = image + uniform(50, 190) * (shifted[0] - shifted[1])
    if uniform() < style.wear:
        gaps = uniform(0.7, 1.1) + 0.4 * _clouds(shape, uniform(1, 0.2 * height), generator)
        ink = ink * np.clip(gaps, 0.35, 1)
    image = image + ink * (ink_level - image) * uniform(0.7, 1)
    y, x = np.ogrid[-0.5 : 0.5 : shape[0] * 1j, -0.5 : 0.5 : shape[1] * 1j]
    slopes = generator.normal(0, 0 if is_scan else 0.25, 2).clip(-0.5, 0.5)
    light = (1 + slopes[0] * x + slopes[1] * y - np.abs(slopes).sum() / 2).astype("float32")
    return image * light, (image - plain) * light


def _scribble(pixels, height, style, generator):
    """Draws lines and dots over grey values; returns an `L` image."""
    image = Image.fromarray(np.clip(pixels, 0, 255).astype("uint8"))
    pen, size = ImageDraw.Draw(image), image.size
    levels = *image.getextrema(), int(generator.integers(256))
    if generator.random() < style.lines:
        for _ in range(generator.integers(1, 4)):
            points = generator.uniform((-0.1, 0), (1.1, 1), (3, 2)) * size
            (start, middle, end), t = points[np.argsort(points[:, 0])], np.linspace(0, 1, 20)[:, None]
            curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t * t * end
            thickness = max(1, round(generator.uniform(0.02, 0.07) * height))
            pen.line([*map(tuple, curve.tolist())], pick(levels, generator), thickness, "curve")
    if generator.random() < style.dots:
        for x, y in generator.uniform(0, size, (int(generator.integers(2, 20) * size[0] / height), 2)):
            pen.circle((x, y), generator.uniform(0.3, 0.04 * height), pick(levels, generator))
    return image


def _photograph(image, height, text_height, contrast, generator):
    """Returns an image of the given height as a camera gives it: blurred, noisy, compressed."""
    uniform = generator.uniform
    if uniform() < 0.4:
        image = ImageOps.autocontrast(image, 1)
    if uniform() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(uniform(0.2, 0.05 * text_height)))
    width = max(4, round(image.width * height / image.height))
    image = image.resize((width, height), pick((BILINEAR, BILINEAR, BICUBIC), generator))
    if uniform() < 0.5:
        noise = generator.standard_normal((height, width), "float32") * uniform(0.05, 0.5) ** 2 * contrast
        image = Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype("uint8"))
    if uniform() < 0.5:
        file = io.BytesIO()
        image.save(file, "jpeg", quality=int(uniform(max(25, 90 - contrast / 2), 95)))
        image = Image.open(file)
    return image
