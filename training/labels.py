"""Labels of images: from the label files of their folder, or else from the file names.

`python -m training.labels FOLDER` writes a `labels.csv` from file names.
"""

import argparse
import re
import sys
import unicodedata
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from snippet_ocr import files, images
from snippet_ocr.terminal import printable
from training.tables import PERCENT, PIXELS, Index, file_key, is_table, read_rows

LABELS_FILE = "labels.csv"  # in any case; in the folder itself, it overrides every other source
FILE_NAMES = "file names"
CORNERS = {"x1", "xmin", "x_min", "bbox"}  # columns of boxes that are not read
MAX_ROWS = 4  # of text in an image, and lines of a label
MIN_CHARACTER_COUNT = 10  # a character that occurs fewer times is reported as rare
MIN_DISTINCT_SHARE = 0.02  # fewer different labels than this are refused…
MIN_IMAGES_FOR_SHARE = 50  # …from this number of images
MIN_IMAGES_TO_JUDGE = 3  # equal labels and camera names are refused from this number of images
MIN_NUMBERED = 20  # names that count 1, 2, 3… or a1, a2, a3… are refused from this number of images

CAMERA_NAME = re.compile(
    r"_?(IMG_?E?|IMAGE|DSC|DSCN|DSCF|PXL|MVIMG|GOPR|PHOTO|PICTURE|WHATSAPP IMAGE|SCREENSHOT|SCAN|FRAME|CROP)"
    r"[ _.()-]*\d.*|_MG_\d+"  # a camera's, an app's or a script's prefix with a number
    r"|(SCREENSHOT|BILDSCHIRMFOTO|SIGNAL|PXL)[ _-].*"
    r"|(19|20)\d\d([-_.]?)(0[1-9]|1[0-2])\4(0[1-9]|[12]\d|3[01])([ _T.-].*)?"  # a date
    r"|1[67]\d{11}|[0-9A-F]{24,}|[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}",  # a time in ms; a hash; a UUID
    re.IGNORECASE,
)


class Labels(NamedTuple):
    """The labels that the files of a folder contain."""

    source: str  # as the summary shows it: "metadata.csv (file_name, text)", or `FILE_NAMES`
    name: str  # the name of the label file, "*.gt.txt" for one per image, or "" for file names
    texts: dict  # path of an image → label; empty for file names
    problems: list  # tuples of the path of a label file and the reason why a line of it is not used
    tables: dict  # path of a label file → None, or the reason why the file is not used
    cells: dict = {}  # path of an image → the cells of its row, by the lower-case names of their columns


def label_from_name(name, drop_copy_number=True):
    """Returns the label in a file name such as `"2b827_1.png"`: without the extension, in normal form NFC.

    With `drop_copy_number`, a trailing `_` and number are removed, so that several files can show one text.
    """
    label = name[: name.rfind(".")] if "." in name else name
    if drop_copy_number:
        label = re.sub(r"_[0-9]+$", "", label)
    return unicodedata.normalize("NFC", label)


def steps_needed(label):
    """Returns the time steps that CTC needs for the longest row of a label, plus one for line breaks."""
    rows = label.split("\n")
    repeats = [sum(left == right for left, right in zip(row, row[1:], strict=False)) for row in rows]
    return max(len(row) + count for row, count in zip(rows, repeats, strict=True)) + (len(rows) > 1)


def find_labels(data_dir, paths, drop_copy_number=True, allow_empty=False):
    """Reads the label files of a folder; `docs/your_data.md` lists the formats. Returns `Labels`.

    A `labels.csv` in the folder itself overrides all others. Otherwise, there may be one source: one file,
    files of one name in several subfolders, `rec_gt*.txt`, or a `NAME.gt.txt` next to each image.

    Args:
        data_dir, paths: the folder, a `Path`, and the `Path`s of all files in it and below it.
        drop_copy_number: see `label_from_name`; used in messages.
        allow_empty: whether rows with an empty text are used, as labels of images without text.

    Raises:
        ValueError: if a label file is not understood or has boxes, or if there are several sources.
    """
    tables = [path for path in paths if is_table(path)]
    own = [path for path in tables if path.parent == data_dir and path.name.lower() == LABELS_FILE]
    sources, found = defaultdict(list), {}
    for path in own or tables:
        sources[_source_name(path)].append(path)
    for name, same in sources.items():
        index = Index(data_dir, paths)
        try:
            found[name] = _combine(name, same, index, allow_empty)
        except ValueError as error:
            texts = {path: label_from_name(path.name, drop_copy_number) for path in index.paths}
            raise ValueError(
                f"{error} If the file names are the texts, move the file out of {data_dir}; "
                f"this would then be learned: {_examples(texts)}."
            ) from error
    if len(found) > 1:
        raise ValueError(
            f"Expected one source of labels in {data_dir}. Found {len(found)}: "
            + "; ".join(f"{name} ({_examples(one.texts)})" for name, one in found.items())
            + f". Move all but the right one out of the folder, or save the right one as {LABELS_FILE}, "
            "with the columns file and text: it overrides the others."
        )
    stems = Index(data_dir, paths).stems
    texts = [path for path in paths if path.name.lower().endswith(".txt")]
    texts = [path for path in texts if file_key(data_dir, path)[: -len(".txt")] in stems]
    if texts and not found:
        raise ValueError(
            f"Expected images in {data_dir} that are named after their texts, or a label file. Found text "
            f"files next to images of the same name: {len(texts)}, such as {printable(texts[0].name)}. If "
            "they contain the texts, rename them to NAME.gt.txt; otherwise, move them out of the folder."
        )
    labels = next(iter(found.values()), Labels(FILE_NAMES, "", {}, [], {}))
    unused = {path: f"is not used, because there is a {LABELS_FILE}" for path in tables if own}
    return labels._replace(tables=unused | labels.tables)


def check_labels(data_dir, labels, texts):
    """Refuses labels that are probably not the texts of the images.

    Args:
        data_dir, labels: the folder, for the message, and its `Labels`.
        texts: a dictionary from the path of each image to its label.

    Raises:
        ValueError: if labels come from names that a camera or a program gave; if most labels are empty; if
            all others are equal; if fewer than `MIN_DISTINCT_SHARE` of them are different and do not come
            from `labels.csv` with the columns `file` and `text`. The message says how to confirm them.
    """
    empty = sum(not text for text in texts.values())
    if 2 * empty > len(texts):
        raise ValueError(
            f"Expected a text for at least half of the images in {data_dir}. Found {empty} of {len(texts)} "
            f"without one in {labels.name}. If the labelling is unfinished, set allow_empty to false: images "
            "without a text are then skipped. If they show no text, use fewer of them."
        )
    texts = {path: text for path, text in texts.items() if text}
    count, distinct = len(texts), len(set(texts.values()))
    from_names, in_table = labels.source == FILE_NAMES, f"{LABELS_FILE} with the columns file and text"
    confirmed = count < MIN_IMAGES_FOR_SHARE or labels.source.lower() == f"{LABELS_FILE} (file, text)"
    confirm = f"run: python -m training.labels {data_dir}" if from_names else f"save them as {in_table}"
    found = f"{distinct} in the {count} labels of {data_dir} (source: {labels.source})"
    if count < MIN_IMAGES_TO_JUDGE:
        return
    if from_names and _are_given_by_a_program([label_from_name(path.name, False) for path in texts]):
        expected = f"images in {data_dir} that are named after their texts, or a label file"
        found = "names that a camera or a program gave"
        texts = dict(sorted(texts.items(), key=lambda item: not CAMERA_NAME.fullmatch(item[0].stem)))
    elif distinct == 1:
        expected, confirm = "different texts", "add images with other texts"
    elif distinct < MIN_DISTINCT_SHARE * count and not confirmed:
        expected = f"at least {MIN_DISTINCT_SHARE:.0%} different texts"
    else:
        return
    raise ValueError(
        f"Expected {expected}. Found {found}. This would be learned: {_examples(texts)}. If these are not "
        f"the texts of the images, list the texts in {in_table}. If they are right, {confirm}."
    )


def _are_given_by_a_program(names):
    cameras = sum(bool(CAMERA_NAME.fullmatch(name)) for name in names)
    if cameras > len(names) / (10 if cameras >= MIN_IMAGES_TO_JUDGE else 2):
        return True
    names = {*names}  # each of several folders may count
    found = [re.fullmatch("(.*?)([0-9]{1,9})([^0-9]*)", name) for name in names]
    if len(names) < MIN_NUMBERED or not all(found) or len({match.group(1, 3) for match in found}) > 1:
        return False
    numbers = {int(match[2]) for match in found}
    # Some numbers may be missing, because images were deleted. With a word before them, most may be.
    dense = max(numbers) - min(numbers) < 1.5 * len(names)
    return len(numbers) == len(names) and (dense or bool(re.search(r"[^\W\d_]{3}", found[0][1])))


def _examples(texts):
    shown = [f"{printable(path.name)} → {text!r}" for path, text in list(texts.items())[:3]]
    return ", ".join(shown) or "nothing"


def _source_name(path):
    match = re.fullmatch(r"(rec_gt)?.*?(\.gt)?\.txt", path.name.lower())
    return "*.gt.txt" if match and match[2] else "rec_gt*.txt" if match and match[1] else path.name


def _combine(name, tables, index, allow_empty):
    """Returns the `Labels` of label files of one kind."""
    texts, cells, problems, columns = {}, {}, [], set()
    for table in tables:
        used, rows = read_rows(table, index, allow_empty=True)
        columns.add(f" ({used})")
        for row in rows:
            regions = any(str(cell).startswith('[{"') for cell in row.cells.values())  # Label Studio's CSV
            boxes = any(set(box) <= row.cells.keys() for box in (PIXELS, PERCENT))
            if regions or boxes or not CORNERS.isdisjoint(row.cells):
                raise ValueError(
                    f"Expected images of one line of text. Found boxes in {table}. Run: python -m tools.crop "
                    f"{table} NEW_FOLDER (from Label Studio, export JSON), and train with the new folder. "
                    f"If the images are cropped already, keep only the columns {used}."
                )
            problem = row.problem
            if not problem and not row.text and not allow_empty:
                problem = f"has no text for {row.file}; if the image shows none, set allow_empty"
            if not problem and row.path in texts:
                problem = f"names {row.file} again; {index.named[row.path].place} is used"
            if problem:
                problems.append((table, f"{row.place} {problem}"))
            else:
                texts[row.path], cells[row.path] = row.text, row.cells
    source = name + "".join(sorted(columns))
    return Labels(source, name, texts, problems, dict.fromkeys(tables), cells)


def main(arguments=None):
    """Writes a `labels.csv` from the file names of a folder; returns the exit code."""
    parser = argparse.ArgumentParser("python -m training.labels", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--keep-copy-number", action="store_true", help="ab_1.png has the label ab_1")
    options = parser.parse_args(arguments)
    folder = options.folder
    try:
        if any(path.name.lower() == LABELS_FILE for path in folder.iterdir()):
            raise ValueError(f"Expected no {LABELS_FILE} in {folder}. Found one. It was not changed.")
        paths = [path for path in Index(folder, images.find_files([folder])).paths if path.name[0] != "."]
        named = {path: label_from_name(path.name, not options.keep_copy_number) for path in paths}
        labelled = ((path.relative_to(folder).as_posix(), text) for path, text in named.items() if text)
        rows = [{"file": file, "text": text} for file, text in labelled]
        files.write_csv(folder / LABELS_FILE, rows, ["file", "text"])
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{folder / LABELS_FILE}: {len(rows)} labels from file names. Check it, then train.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
