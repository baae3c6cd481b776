"""Can a reader learn other scripts? Drawn texts in Noto fonts, with a training of about a minute each.

    python -m benchmarks.scripts [SCRIPT …] [--photos FOLDER]

draws 1,300 texts of each script (Debian: apt install fonts-noto-core fonts-noto-cjk), trains the notebook on
1,000 of them and scores the reader on the others. The rows are appended to benchmarks/results/scripts.jsonl.
"""

import argparse
import random
import sys
import tempfile
import unicodedata
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

import utils
from benchmarks.study import measure_held_out, rows_table
from snippet_ocr import files

FONTS = Path("/usr/share/fonts")
IMAGES, HELD_OUT, EPOCHS = 1300, 300, 12
COLUMNS = {
    "script": "{script}",
    "characters": "{characters}",
    "exact match (95% interval)": (
        "{test[right]} of {test[images]}, {test[exact_match]:.1%} "
        "({test[interval][0]:.1%}–{test[interval][1]:.1%})"
    ),
    "character error rate": "{test[character_error_rate]:.2%}",
    "seconds": "{seconds:.0f}",
}
"""The table's columns, as in `study.rows_table`."""


def _code_points(first, last):
    return [chr(point) for point in range(first, last + 1) if unicodedata.name(chr(point), "")]


SCRIPTS = {  # font, parts that a text is made of, digits
    "Arabic": ("truetype/noto/NotoSansArabic-Regular.ttf", [*"ابتثجحخدذرزسشصضطظعغفقكلمنهويةى"], "٠١٢٣٤٥٦٧٨٩"),
    "Persian": ("truetype/noto/NotoSansArabic-Regular.ttf", [*"ابپتجچحخدرزژسشصطعغفقکگلمنوهی"], "۰۱۲۳۴۵۶۷۸۹"),
    "Hebrew": (
        Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"),  # Noto Sans Hebrew has no digits
        _code_points(0x5D0, 0x5EA),
        "0123456789",
    ),
    "Devanagari": (
        "truetype/noto/NotoSansDevanagari-Regular.ttf",
        [consonant + sign for consonant in "कखगचजटडतदनपबमयरलवशसह" for sign in ["", *"ािीुेो्ं"] if sign != "्"],
        "०१२३४५६७८९",
    ),
    "Thai": (
        "truetype/noto/NotoSansThai-Regular.ttf",
        [consonant + sign for consonant in "กขคงจชดตทนบปพมยรลวสหอ" for sign in ["", *"ะาิีุู่้"]],
        "๐๑๒๓๔๕๖๗๘๙",
    ),
    "Chinese": (
        "opentype/noto/NotoSansCJK-Regular.ttc",
        [
            *"京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼大小中国上下左右东南西北金木水火土日月"
        ],
        "0123456789",
    ),
    "Korean": (
        "opentype/noto/NotoSansCJK-Regular.ttc",
        [*"가나다라마거너더러머버서어저고노도로모보소오조구누두루무부수우주하허호배육서울경기인천대전광산"],
        "0123456789",
    ),
}


def draw(script, count, folder, seed=0):
    """Draws images of random texts of a script, and a `labels.csv` in logical order, into an empty folder."""
    font_file, parts, digits = SCRIPTS[script]
    choose = random.Random(f"{script} {seed}")
    noise = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        text = "".join(choose.choices(parts, k=choose.randint(2, 5)))
        if choose.random() < 0.5:
            text += " " + "".join(choose.choices(digits, k=choose.randint(1, 3)))
        font = ImageFont.truetype(
            FONTS / font_file, choose.randint(28, 36), layout_engine=ImageFont.Layout.RAQM
        )
        direction = "rtl" if script in ("Arabic", "Persian", "Hebrew") else "ltr"
        ink, paper = choose.randint(0, 80), choose.randint(160, 255)
        left, top, right, bottom = font.getbbox(text, direction=direction)
        image = Image.new("L", (right - left + 24, bottom - top + 20), paper)
        ImageDraw.Draw(image).text((12 - left, 10 - top), text, ink, font, direction=direction)
        image = image.rotate(choose.uniform(-3, 3), Image.Resampling.BICUBIC, fillcolor=paper)
        image = image.filter(ImageFilter.GaussianBlur(choose.uniform(0, 1)))
        pixels = np.asarray(image) + noise.normal(0, 8, (image.height, image.width))
        Image.fromarray(pixels.clip(0, 255).astype("uint8")).save(folder / f"{number:05}.png")
        rows.append({"file": f"{number:05}.png", "text": text})
    files.write_csv(folder / "labels.csv", rows)


def train_drawn(script):
    """Trains on drawn texts of a script; returns the recorded row."""
    with tempfile.TemporaryDirectory() as folder:
        draw(script, IMAGES, Path(folder))
        samples, _ = utils.find_images(folder)
        return train(script, samples[HELD_OUT:], samples[:HELD_OUT], epochs=EPOCHS)


def train_photos(folder):
    """Trains with the defaults on the photos in `folder/train`; returns the row for `folder/test`."""
    given, held_out = (utils.find_images(folder / split)[0] for split in ("train", "test"))
    return train(folder.name, given, held_out)


def train(script, given, held_out, **settings):
    """Trains on some `Sample`s and scores others, as `study.measure_held_out`; returns the row."""
    characters = len(set("".join(sample.label for sample in given)))
    case = {"script": script, "characters": characters}
    return measure_held_out("scripts", case, given, held_out, script, **settings)


def main(arguments=None):
    """Runs the benchmark and returns the exit code."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.scripts", description="Trains readers of other scripts."
    )
    parser.add_argument("scripts", nargs="*", metavar="SCRIPT", help=", ".join(SCRIPTS))
    parser.add_argument("--photos", metavar="FOLDER", type=Path, help="train/ and test/ of labelled photos")
    options = parser.parse_args(arguments)
    rows = [train_drawn(script) for script in options.scripts or ([] if options.photos else SCRIPTS)]
    rows += [train_photos(options.photos)] if options.photos else []
    print(rows_table(COLUMNS, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
