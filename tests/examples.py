"""An alphabet and an image for tests."""

from PIL import Image

from snippet_ocr.alphabet import Alphabet

ALPHABET = Alphabet("abcdé ")


def draw(path, shade=0, size=(40, 20)):
    image = Image.new("L", size, 255)
    image.paste(shade, (5, 5, 15, 15))
    image.save(path)
    return path
