"""Cuts the boxes that a table or a Label Studio export marks in photos into a new folder for training."""

import argparse
import contextlib
import functools
import sys
from pathlib import Path

from PIL import Image

from snippet_ocr import files, images
from snippet_ocr.terminal import escape, printable, progress
from training.labels import LABELS_FILE
from training.tables import PERCENT, PIXELS, Index, read_rows


def create_folder(out):
    """Creates a folder with an empty label file: after a kill, the numbers of its images are not learned."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"Expected a new or empty folder at {out}. Found files. Choose another folder.")
    out.mkdir(parents=True, exist_ok=True)
    files.write_csv(out / LABELS_FILE, [], ["file", "text"])


def crop(table, out):
    """Writes each box as `out/00001.png`, numbered by its row, and the texts as `out/labels.csv`.

    Args:
        table: the `Path` of a label file with the columns of `tables.PIXELS` or `tables.PERCENT`, or of an
            export of Label Studio; the photos are in its folder or below.
        out: the `Path` of the new folder.

    Returns:
        The number of crops, and a list of the reasons why the other rows were refused.

    Raises:
        ValueError: if the table is not understood or has no boxes, or if `out` is not new or empty.
        OSError: if a file cannot be written.
    """
    _, rows = read_rows(table, Index(table.parent, images.find_files([table.parent])))
    if not any({*names} <= row.cells.keys() for row in rows for names in (PIXELS, PERCENT)):
        columns = f"{', '.join(PIXELS)} in pixels, or {', '.join(PERCENT)}"
        raise ValueError(f"Expected boxes in {table}: columns {columns}, or Label Studio's JSON. Found none.")
    create_folder(out)
    load = functools.lru_cache(maxsize=1)(images.load_image)  # a photo's boxes follow each other
    cut, refused = [], []
    for number, row in enumerate(progress(rows, len(rows), "boxes cut"), 1):
        try:
            if row.problem:
                raise ValueError(row.problem)
            try:
                photo = load(row.path)
            except ValueError as error:
                raise ValueError(f"names {row.file}, which {error}") from error
            left, top, right, bottom = find_edges(row.cells, *photo.shape[::-1])
        except ValueError as error:
            refused.append(f"{row.place} {error}")
        else:
            cut.append({"file": f"{number:05}.png", "text": row.text})
            Image.fromarray(photo[top:bottom, left:right]).save(out / cut[-1]["file"])
    if cut:
        files.write_csv(out / LABELS_FILE, cut)
    else:
        (out / LABELS_FILE).unlink()
    return len(cut), refused


def find_edges(cells, width, height):
    """Returns the left, top, right and bottom edge of a box, in whole pixels, from the cells of a row.

    `width` and `height` are those of the upright photo, in pixels. Raises a `ValueError` if the box is not
    inside of it, or is rotated, or was drawn on a photo of another size.
    """
    boxes = []
    for names, scales in ((PIXELS, (1, 1)), (PERCENT, (width / 100, height / 100))):
        box = [_number(cells, name) for name in names]
        boxes += [(box, scales)] if None not in box else []
    if len(boxes) != 1:
        raise ValueError("has no rectangle, or one in pixels and one in percent")
    for name in ("rotation", "image_rotation"):
        if angle := _number(cells, name):
            raise ValueError(f"has the {name} {angle:g}; draw an upright box, or rotate the photo first")
    for name, size in (("original_width", width), ("original_height", height)):
        if _number(cells, name) not in (None, size):
            found = f"has the {name} {_number(cells, name):g}"
            raise ValueError(f"{found}; the photo has {width}×{height} pixels")
    ((box, scales),) = boxes
    x, y, box_width, box_height = box
    if max(map(abs, box)) <= 1:
        raise ValueError("has a box in fractions; use percent (0 to 100), as in x_percent")
    left, right = (round(edge * scales[0]) for edge in (x, x + box_width))
    top, bottom = (round(edge * scales[1]) for edge in (y, y + box_height))
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        box = f"has a box from ({left}, {top}) to ({right}, {bottom})"
        raise ValueError(f"{box}, which is empty or not inside the photo of {width}×{height} pixels")
    return left, top, right, bottom


def _number(cells, name):
    value = getattr(cells.get(name), "value", cells.get(name))
    if value is None or value == "":
        return None
    with contextlib.suppress(TypeError, ValueError):
        if abs(number := float(value)) < 1e9:  # not infinity, not nan
            return number
    raise ValueError(f"has {value!r} in the column {name}, not a number such as 12.5")


def main(arguments=None):
    """Runs the command; returns 0 if all boxes were cut, 1 if some were refused, 2 if none was cut."""
    example = "Example: python -m tools.crop photos/boxes.csv crops, then make train DATA=crops"
    parser = argparse.ArgumentParser("python -m tools.crop", description=__doc__, epilog=example)
    parser.add_argument("table", metavar="TABLE", type=Path, help="the table or export, next to the photos")
    parser.add_argument("out", metavar="OUT_DIR", type=Path, help="the folder to write; new or empty")
    options = parser.parse_args(arguments)
    try:
        count, refused = crop(options.table, options.out)
    except (OSError, ValueError) as error:
        print(escape(printable(str(error))), file=sys.stderr)
        return 2
    for reason in refused:
        print(escape(printable(f"{options.table.name} {reason}")), file=sys.stderr)
    print(f"{count} boxes cut, {len(refused)} refused: {printable(options.out.absolute())}")
    return 2 if not count else 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
