"""Draws a text as a photo might show it: ink, then geometry, then light and colors, then the camera."""

import functools
import io
import math
import re
import unicodedata

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from tools.drawing.fonts import MATPLOTLIB, RAQM, SIZE, draws, load_font
from tools.drawing.styles import STYLES
from tools.drawing.texts import mixed_text, pick

MIN_CORRELATION = 0.4  # of an image with its ink; below it, the text is hard to see
BILINEAR, NEAREST = Image.Resampling.BILINEAR, Image.Resampling.NEAREST
SEGMENTS = {  # of a seven-segment digit: top, upper right, lower right, bottom, lower left, upper left, middle
    "0": "012345", "1": "12", "2": "01346", "3": "01236", "4": "1256", "5": "02356", "6": "023456", "7": "012",
    "8": "0123456", "9": "012356", "-": "6", " ": "", "A": "012456", "b": "23456", "C": "0345", "d": "12346",
    "E": "03456", "F": "0456", "H": "12456", "L": "345", "P": "01456", "U": "12345", "n": "246", "o": "2346",
    "r": "46", "t": "3456",
}  # fmt: skip
ENDS = [
    ((0, 0), (1, 0)),
    ((1, 0), (1, 1)),
    ((1, 1), (1, 2)),
    ((0, 2), (1, 2)),
    ((0, 1), (0, 2)),
    ((0, 0), (0, 1)),
    ((0, 1), (1, 1)),
]


def draw_image(text, name, paths, heights, generator):
    """Draws a text.

    Args:
        text: the text, a string.
        name: the name of a style, a key of `STYLES`.
        paths: the paths of fonts, a tuple of strings.
        heights: a tuple of the minimum and the maximum height of the image, in pixels.
        generator: a NumPy random generator.

    Returns:
        A grey Pillow image.

    Raises:
        ValueError: if no font has all characters of the text.
    """
    style, uniform = STYLES[name], generator.uniform
    height = round(math.exp(uniform(math.log(heights[0]), math.log(heights[1]))))
    margins = (
        style.margin[0] + (style.margin[1] - style.margin[0]) * uniform(size=4) ** 2
    )  # left, top, right, bottom
    share = 1 / (1 + margins[1] + margins[3])  # of the image's height
    text_height = height * share
    if text_height > style.min_height and uniform() < 0.6:
        text_height = uniform(style.min_height, text_height)
    ink = draw_ink(text, name, paths, generator)
    scale = text_height / ink.height
    size = max(2, round(ink.width * scale * math.exp(generator.normal(0, 0.12)))), round(text_height)
    ink = ink.resize(size, BILINEAR)
    layers = _place(ink, name, margins, paths, generator)
    layers = _crop(_warp(layers, size[1], style, generator), margins * size[1])
    for _ in range(20):
        contrast = uniform(*style.contrast)
        pixels, signal = _color(layers, size[1], contrast, style, generator)
        image = _scribble(pixels, size[1], style, generator)
        image = _photograph(image, height, size[1], max(contrast, 60), generator)
        if _correlation(image, signal, margins * size[1]) > MIN_CORRELATION:
            break
    return image


def _correlation(image, signal, margins):
    """Returns the correlation of a final image with what the ink changed in it, inside of the margins."""
    final = np.asarray(image.resize(signal.shape[::-1], Image.Resampling.BOX), "float32")
    left, top, right, bottom = margins.round().astype(int)
    parts = [part[top : len(part) - bottom, left : part.shape[1] - right] for part in (final, signal)]
    parts = [part - part.mean() for part in parts]
    return np.vdot(*parts) / max(np.linalg.norm(parts[0]) * np.linalg.norm(parts[1]), 1e-6)


def choose_font(text, pattern, paths, generator):
    """Returns the path of a font that has all characters of a text, preferably one whose name fits a pattern."""
    groups = [_preferred(paths, pattern), paths] if generator.random() < 0.85 else [paths]
    for group in groups:
        for number in generator.permutation(len(group)):
            if all(draws(group[number], character) for character in text):
                return group[number]
    missing = [character for character in text if not any(draws(path, character) for path in paths)]
    raise ValueError(
        f"Expected a font with all characters of {text!r} among {len(paths)}. "
        f"Found none{f' with {chr(32).join(missing)}' if missing else ''}. "
        "Install a font of this script, or pass its folder as --fonts."
    )


@functools.cache
def _preferred(paths, pattern):
    return [path for path in paths if re.search(pattern, path.rpartition("/")[2], re.IGNORECASE)]


def draw_ink(text, name, paths, generator):
    """Returns a text in white on black: an `L` image without margins, characters about `SIZE` pixels high."""
    style = STYLES[name]
    if name == "display" and {*text} <= {*SEGMENTS, *".:"} and generator.random() < 0.7:
        return _draw_segments(text, generator)
    if name == "display" and text.isascii():
        return _draw_matrix(text, generator)
    path = choose_font(text, style.fonts, paths, generator)
    if any(unicodedata.category(c)[0] == "M" or unicodedata.bidirectional(c) in ("R", "AL") for c in text):
        mask = load_font(path, RAQM).getmask(text)  # letters that join or stack
        image = Image.frombytes("L", mask.size, bytes(mask))
        return image.crop(image.getbbox())
    stroke, jitter = max(0, int(generator.integers(-3, 3))), style.jitter * generator.random()
    spacing = SIZE * generator.uniform(*style.spacing)
    mixed = generator.random() < style.mixed_fonts
    canvas, x, baseline = Image.new("L", (SIZE * (2 * len(text) + 2), 3 * SIZE)), SIZE, 2 * SIZE
    for character in text:
        font = load_font(choose_font(character, style.fonts, paths, generator) if mixed else path)
        if jitter and character != " ":
            tile = Image.new("L", (2 * SIZE, 2 * SIZE))
            ImageDraw.Draw(tile).text((SIZE, 1.35 * SIZE), character, 255, font, "ms", stroke_width=stroke)
            angle, shift, growth = generator.normal(0, (0.26 * jitter, 0.1 * jitter * SIZE, 0.12 * jitter))
            cos, sin = math.cos(angle) / math.exp(growth), math.sin(angle) / math.exp(growth)
            middle = SIZE * (1 - cos - sin), SIZE * (1 - cos + sin)
            matrix = cos, sin, middle[0], -sin, cos, middle[1]
            tile = tile.transform(tile.size, Image.Transform.AFFINE, matrix, BILINEAR)
            left = x + font.getlength(character) / 2 - SIZE
            canvas.paste(255, (round(left), round(baseline - 1.35 * SIZE + shift)), tile)
        else:
            ImageDraw.Draw(canvas).text((x, baseline), character, 255, font, "ls", stroke_width=stroke)
        x += font.getlength(character) + spacing
    return _trim(canvas, text, baseline)


def _trim(canvas, text, baseline):
    """Cuts off the margins of a text; a hyphen or a comma keeps its place in the line."""
    left, top, right, bottom = canvas.getbbox()
    if not any(map(str.isalnum, text)):
        top, bottom = min(top, int(baseline - 0.7 * SIZE)), max(bottom, baseline)
    return canvas.crop((left, top, right, bottom))


def _draw_segments(text, generator):
    """Draws the digits of a calculator or a meter. Segments that are off may be faintly visible."""
    width, thickness, gap = generator.uniform((22, 5, 0.5), (34, 10, 3))
    off = int(generator.integers(15, 45)) if generator.random() < 0.25 else 0
    canvas, x = Image.new("L", (SIZE * (len(text) + 2), 3 * SIZE)), SIZE
    pen = ImageDraw.Draw(canvas)
    for character in text:
        if character in ".:":
            for y in (2 * SIZE,) if character == "." else (1.35 * SIZE, 1.7 * SIZE):
                pen.ellipse((x - thickness / 2, y - thickness / 2, x + thickness / 2, y + thickness / 2), 255)
            x += 1.8 * thickness
            continue
        for number, ends in enumerate(ENDS):
            (x1, y1), (x2, y2) = ends = np.array(ends) * (width, SIZE / 2) + (x, SIZE)
            along = np.array((x2 - x1, y2 - y1)) / math.hypot(x2 - x1, y2 - y1)
            half = thickness / 2 * along
            start, end, across = ends[0] + gap * along, ends[1] - gap * along, half[::-1]
            points = (
                start,
                start + half + across,
                end - half + across,
                end,
                end - half - across,
                start + half - across,
            )
            lit = str(number) in SEGMENTS[character]
            if lit or off and character != " ":
                pen.polygon([tuple(point) for point in points], 255 if lit else off)
        x += width + 1.8 * thickness
    return _trim(canvas, text, 2 * SIZE)


def _draw_matrix(text, generator):
    """Draws a text with the dots of a ticket printer or of a display."""
    font = _matrix_font(pick(generator, ("", "-Bold")), int(generator.integers(9, 14)))
    small = Image.new("1", (int(font.getlength(text)) + 4, 20))
    ImageDraw.Draw(small).text((2, 15), text, 1, font, "ls")
    small, dot = _trim(small.convert("L"), text, 15), 6
    distances = np.hypot(*np.mgrid[-2.5:3, -2.5:3])
    dots = np.clip((generator.uniform(2.0, 4.2) - distances) * 255, 0, 255).astype("uint8")
    dots = Image.fromarray(np.tile(dots, small.size[::-1]))
    return ImageChops.multiply(small.resize(dots.size, NEAREST), dots)


@functools.cache
def _matrix_font(weight, size):
    return ImageFont.truetype(MATPLOTLIB / f"DejaVuSansMono{weight}.ttf", size)


def _place(ink, name, margins, paths, generator):
    """Returns an image with a text in the middle: `L`, or `RGB` of the text, other ink, and the plate below."""
    style, (width, height) = STYLES[name], ink.size
    tilt = math.sin(math.radians(2 * style.angle)) + style.slant
    has_panel, has_neighbour = generator.random(2) < (style.panel, style.neighbours)
    around = 0.2 * height + 2 + (max(margins) * height if has_panel or has_neighbour else 0)
    left, top = int(around + tilt / 2 * height), int(around + tilt / 2 * width)
    text, other, panel = (Image.new("L", (width + 2 * left, height + 2 * top)) for _ in range(3))
    text.paste(ink, (left, top))
    if has_panel:
        around = generator.uniform(0.08, 0.5, 4) * height
        box = left - around[0], top - around[1], left + width + around[2], top + height + around[3]
        radius, line = generator.uniform((0, 0.02), (0.25, 0.12)) * height
        ImageDraw.Draw(panel).rounded_rectangle(box, radius, 255)
        if generator.random() < 0.6:
            ImageDraw.Draw(other).rounded_rectangle(box, radius, None, 255, max(1, round(line)))
    if has_neighbour:
        row = draw_ink(mixed_text(generator, style.mix), name, paths, generator)
        scale = height / row.height * pick(generator, (0.35, 0.5, 1, 1, 1))
        row = row.resize((max(1, round(row.width * scale)), max(1, round(row.height * scale))), BILINEAR)
        above = generator.random() < 0.5
        # A row of the same size may show less than half of its height.
        gap = max(
            generator.uniform(0.2, 0.5) * height, margins[1 if above else 3] * height - 0.4 * row.height
        )
        y = top - gap - row.height if above else top + height + gap
        other.paste(255, (left + int(generator.uniform(-0.5, 0.3) * width), round(y)), row)
    return Image.merge("RGB", (text, other, panel)) if has_panel or has_neighbour else text


def _ink_box(layers):
    return (layers if layers.mode == "L" else layers.getchannel(0)).getbbox()


def _warp(layers, height, style, generator):
    """Rotates, slants, tilts and bends an image through a grid of quadrilaterals."""
    width = layers.width
    angle, slant, *tilt = generator.normal(
        0, (math.radians(style.angle), style.slant, style.perspective, style.perspective)
    )
    period, phase = generator.uniform((2.5, 0), (3 + 2 * width / height, 2 * math.pi)) * (height, 1)
    wave = style.curve * height * generator.random()
    columns = np.linspace(0, width, 3 + int(min(1.5, 15 * style.curve) * width / height)).astype(int)
    rows = np.linspace(0, layers.height, 3).astype(int)
    x, y = np.meshgrid(columns - width / 2, rows - layers.height / 2)
    grow = 1 + tilt[0] * x / (width / 2) + tilt[1] * y / height
    x, y = (
        (x * math.cos(angle) + y * math.sin(angle) + slant * y) / grow,
        (y * math.cos(angle) - x * math.sin(angle)) / grow,
    )
    y = y + wave * np.sin(2 * math.pi * x / period + phase)
    x = x + style.curve * height * generator.uniform(-0.5, 0.5) * np.sin(2 * math.pi * y / height + phase)
    points = np.stack([x + width / 2, y + layers.height / 2], -1)
    mesh = [
        ((int(columns[i]), int(rows[j]), int(columns[i + 1]), int(rows[j + 1])), points[[j, j + 1, j + 1, j], [i, i, i + 1, i + 1]].ravel().tolist())
        for i in range(len(columns) - 1)
        for j in range(len(rows) - 1)
    ]  # fmt: skip
    warped = layers.transform(layers.size, Image.Transform.MESH, mesh, BILINEAR)
    left, top, right, bottom = _ink_box(warped) or (0, 0, 0, 0)
    is_whole = left > 0 and top > 0 and right < width and bottom < layers.height
    return warped if is_whole else layers


def _crop(layers, margins):
    """Cuts an image to its text with margins in pixels: left, top, right, bottom."""
    left, top, right, bottom = _ink_box(layers)
    left, top, right, bottom = (
        np.add((left, top, right, bottom), margins * (-1, -1, 1, 1)).round().astype(int)
    )
    return layers.crop((int(left), int(top), int(right), int(bottom)))


def _clouds(shape, cell, generator):
    """Returns smooth noise around 0, mostly within -1 and 1; `cell` is the size of its spots in pixels."""
    small = generator.standard_normal((int(shape[0] / cell) + 2, int(shape[1] / cell) + 2), "float32") / 1.5
    return np.asarray(Image.fromarray(small).resize(shape[::-1], Image.Resampling.BICUBIC))


def _texture(shape, height, generator):
    """Returns a background pattern, mostly within -1 and 1."""
    kind = pick(generator, ("clouds", "grain", "stripes", "patches"))
    if kind == "clouds":
        return _clouds(shape, generator.uniform(0.15, 2) * height, generator)
    if kind == "grain":
        return generator.standard_normal(shape, "float32") / 1.5
    y, x = np.mgrid[: shape[0], : shape[1]].astype("float32") / height
    fx, fy, phase = generator.normal(0, (3, 3, 3))
    waves = np.sin(2 * math.pi * (fx * x + fy * y + 0.3 * np.sin(3 * x + phase)))
    return waves if kind == "stripes" else np.sign(np.sin(fx / 2 * x + fy / 2 * y + phase + y * y))


def _color(layers, height, contrast, style, generator):
    """Returns the grey values of an image, about 0 to 255, and the part that is due to the ink: float32 arrays."""
    uniform = generator.uniform
    planes = np.asarray(layers, "float32") / 255
    ink, *rest = np.moveaxis(planes, -1, 0) if planes.ndim == 3 else (planes,)
    shape = ink.shape
    low = uniform(0, 255 - contrast)
    paper, ink_level = (low, low + contrast) if uniform() < style.light_ink else (low + contrast, low)
    image = np.full(shape, paper, "float32")
    image += max(contrast, 60) * style.texture * uniform() ** 2 * _texture(shape, height, generator)
    if rest:
        other, panel = rest
        if panel.any():
            image = np.where(panel > 0.5, image, uniform(0, 255) + 20 * _clouds(shape, height / 2, generator))
        image += other * (pick(generator, (ink_level, ink_level, uniform(0, 255))) - image)
    plain = image.copy()
    if uniform() < style.relief:
        distance, direction = max(1, round(height * uniform(0.02, 0.06))), uniform(0, 2 * math.pi)
        shift = round(distance * math.sin(direction)), round(distance * math.cos(direction)) or 1
        edges = np.roll(ink, shift, (0, 1)) - np.roll(ink, (-shift[0], -shift[1]), (0, 1))
        image += uniform(50, 140) * edges
    if uniform() < style.wear:
        ink = ink * np.clip(
            uniform(0.7, 1.1) + 0.4 * _clouds(shape, uniform(1, 0.2 * height), generator), 0.35, 1
        )
    image += ink * (ink_level - image) * uniform(0.7, 1)
    y, x = np.ogrid[-0.5 : 0.5 : shape[0] * 1j, -0.5 : 0.5 : shape[1] * 1j]
    slopes = generator.normal(0, 0.25, 2).clip(-0.5, 0.5)
    light = (1 + slopes[0] * x + slopes[1] * y - np.abs(slopes).sum() / 2).astype("float32")
    signal, image = (image - plain) * light, image * light
    if uniform() < 0.1:  # a lamp reflected
        px, py, size = uniform((-0.5, -0.5, 0.05), (0.5, 0.5, 0.3))
        image += uniform(20, 90) * np.exp(-((x - px) ** 2 + ((y - py) * shape[0] / shape[1]) ** 2) / size**2)
    return image, signal


def _scribble(pixels, height, style, generator):
    """Draws lines and dots over an image; returns it as an `L` image."""
    image = Image.fromarray(np.clip(pixels, 0, 255).astype("uint8"))
    pen, (width, full) = ImageDraw.Draw(image), image.size
    levels = [int(pixels.min().clip(0, 255)), int(generator.integers(0, 256)), int(pixels.max().clip(0, 255))]
    if generator.random() < style.lines:
        for _ in range(generator.integers(1, 4)):
            t, ends = (
                np.linspace(0, 1, 20)[:, None],
                generator.uniform((-0.1, 0), (1.1, 1), (3, 2)) * (width, full),
            )
            ends = ends[np.argsort(ends[:, 0])]
            curve = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * ends[1] + t * t * ends[2]
            thickness = max(1, round(generator.uniform(0.02, 0.07) * height))
            pen.line([tuple(point) for point in curve.tolist()], pick(generator, levels), thickness, "curve")
    if generator.random() < style.dots:
        for x, y in generator.uniform(
            0, (width, full), (int(generator.integers(5, 60) * width / height / 3), 2)
        ):
            radius = generator.uniform(0.3, 0.04 * height)
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), pick(generator, levels))
    return image


def _photograph(image, height, text_height, contrast, generator):
    """Returns an image of the given height as a camera would give it: blurred, noisy, compressed."""
    uniform = generator.uniform
    if uniform() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(uniform(0.2, 0.05 * text_height)))
    width = max(4, round(image.width * height / image.height))
    image = image.resize((width, height), pick(generator, (BILINEAR, BILINEAR, Image.Resampling.BICUBIC)))
    if uniform() < 0.6:
        noise = generator.standard_normal((height, width), "float32") * uniform(0.5, min(0.2 * contrast, 25))
        image = Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype("uint8"))
    if uniform() < 0.5:
        file = io.BytesIO()
        image.save(file, "jpeg", quality=int(uniform(max(25, 90 - contrast / 2), 95)))
        image = Image.open(file)
        image.load()
    return image
