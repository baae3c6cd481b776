"""The styles: ranges that the properties of an image are drawn from."""

from typing import NamedTuple

from tools.drawing.texts import MIX


class Style(NamedTuple):
    """Lengths are in heights of the text, shares are from 0 to 1, pairs are minimum and maximum."""

    fonts: str = "."  # a regular expression for the names of preferred font files
    mix: dict = MIX  # the kinds of texts, with their weights
    min_height: int = 11  # of the text in pixels, before the image is enlarged
    spacing: tuple = (-0.02, 0.15)  # between characters, besides that of the font
    jitter: float = 0.0  # how far characters are rotated, shifted and resized; at 1, by 15 degrees and 12%
    mixed_fonts: float = 0.0  # share of images with several fonts
    angle: float = 1.0  # degrees, a standard deviation
    slant: float = 0.04  # a standard deviation
    perspective: float = 0.02  # change in size from the middle to an edge, a standard deviation
    curve: float = 0.02  # height of a wave, a maximum
    margin: tuple = (0.02, 0.5)
    contrast: tuple = (50, 240)  # between ink and paper, of 255
    light_ink: float = 0.15  # share of images
    texture: float = 0.3  # of the contrast, a maximum
    panel: float = 0.0  # share of images with a plate or a frame around the text
    neighbours: float = 0.0  # share of images with other text above or below, cut off at the border
    wear: float = 0.0  # share of images with gaps in the ink
    relief: float = 0.0  # share of images with raised characters
    scan: float = 0.0  # share of images on flat white paper
    lines: float = 0.07  # share of images with lines across
    dots: float = 0.01  # share of images with dots


PRINT = "mono|3270|ocr|courier|typewriter|sans|serif|roman|hack|inconsolata"
PLATE = "bold|condensed|din|bebas|rg2014|gothic|mono|narrow|national|sans"
CARD = "ocr|mono|gothic|din|rg2014|sans|b612|play"
SIGN = "bold|black|bebas|league|dosis|lobster|condensed|heavy|extra|title|oldania|staypuft|gothic|spartan"
HAND = (
    "hand|script|dkg|breip|kaushan|z003|manners|comic|humor|delphine|lecker|isabella|tomson|pen|brush|purisa"
    "|chilanka|yusei|klee|summersby|seto"
)
# fmt: off
STYLES = {
    "print": Style(
        PRINT, contrast=(60, 235), light_ink=0.06, texture=0.12, panel=0.05, neighbours=0.25, wear=0.35,
        scan=0.45,
    ),
    "plate": Style(
        PLATE, {"plate": 6, "serial": 2, "random": 2, "number": 2}, spacing=(0, 0.3), angle=4, slant=0.12,
        perspective=0.08, margin=(0.05, 0.7), contrast=(45, 220), light_ink=0.5, panel=0.85, neighbours=0.3,
        wear=0.1, relief=0.25, lines=0.03,
    ),
    "display": Style(
        mix={"number": 6, "price": 2, "date": 3, "serial": 1, "random": 2, "word": 1}, min_height=14,
        slant=0.08, margin=(0.05, 0.8), contrast=(70, 255), light_ink=0.6, panel=0.35, lines=0.03,
    ),
    "embossed": Style(
        CARD, {"number": 8, "date": 2, "serial": 2, "random": 1, "word": 1}, min_height=14, spacing=(0, 0.45),
        angle=1.5, contrast=(5, 120), light_ink=0.5, texture=0.6, wear=0.5, relief=1, lines=0.03,
    ),
    "captcha": Style(
        mix={"random": 1}, min_height=18, spacing=(-0.15, 0.12), jitter=0.7, mixed_fonts=0.3, angle=3,
        slant=0.15, curve=0.12, margin=(0.02, 0.9), contrast=(70, 255), scan=0.15, lines=0.7, dots=0.35,
    ),
    "handwriting": Style(
        HAND, {"word": 4, "number": 4, "date": 1, "price": 1, "random": 1}, min_height=15,
        spacing=(-0.04, 0.1), jitter=0.25, mixed_fonts=0.08, angle=3, slant=0.2, curve=0.07,
        contrast=(60, 220), light_ink=0.05, panel=0.15, wear=0.2, scan=0.2, lines=0.15,
    ),
    "scene": Style(
        SIGN, {"word": 8, "number": 2, "price": 1, "serial": 1, "random": 2}, min_height=13,
        spacing=(-0.03, 0.25), angle=5, slant=0.15, perspective=0.12, curve=0.1, margin=(0, 0.6),
        contrast=(45, 230), light_ink=0.5, texture=0.35, panel=0.2, neighbours=0.1, wear=0.1, relief=0.15,
    ),
}
# fmt: on
