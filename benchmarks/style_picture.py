"""Draws the picture of docs/draw_text.md: examples of each style.

python -m benchmarks.style_picture
"""

from PIL import Image, ImageDraw

from snippet_ocr import files
from tools.draw_text import Drawing
from tools.drawing.fonts import find_fonts
from tools.drawing.styles import STYLES
from training import PROJECT

COLUMNS, WIDTH, HEIGHT = 6, 150, 44


def draw_styles(path, drawing):
    """Writes a PNG file with a row of examples for each style of a `Drawing`."""
    sheet = Image.new("L", (COLUMNS * WIDTH + 90, len(drawing.styles) * HEIGHT), 255)
    for row, style in enumerate(drawing.styles):
        ImageDraw.Draw(sheet).text((6, row * HEIGHT + HEIGHT / 2), style, 0, anchor="lm", font_size=14)
        for column in range(COLUMNS):
            _, image = drawing._replace(styles=(style,)).image(row * COLUMNS + column)
            image.thumbnail((WIDTH - 6, HEIGHT - 4))
            sheet.paste(image, (90 + column * WIDTH, row * HEIGHT + (HEIGHT - image.height) // 2))
    with files.atomic_write(path) as unfinished:
        sheet.quantize(32).save(unfinished, optimize=True)


if __name__ == "__main__":
    draw_styles(PROJECT / "docs" / "draw_text.png", Drawing(find_fonts(), styles=tuple(STYLES)))
