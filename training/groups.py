"""Images that stay in one split: copies of an image, and images of one meter, one writer or one text."""

import itertools
import re

from scipy.cluster.hierarchy import DisjointSet

from snippet_ocr.terminal import printable
from training import pixels

GROUPINGS = {  # the values of `group_by` that need no label file
    "text": lambda sample, data_dir: sample.label,
    "folder": lambda sample, data_dir: printable(sample.path.parent.relative_to(data_dir)),
    "prefix": lambda sample, data_dir: re.split("[_-]", sample.path.stem)[0] or sample.path.stem,
}


def set_groups(samples, group_by, data_dir, cells):
    """Sets the `group` of `utils.Sample`s.

    Args:
        samples, data_dir: a list of `utils.Sample`s, and the `Path` of their folder.
        group_by: a key of `GROUPINGS`, or the name of a column of the label file; empty for no groups.
        cells: a dictionary from the path of an image to the cells of its row, by lower-case column names.

    Raises:
        ValueError: if there is no such column, or if it is empty for an image.
    """
    if not group_by:
        return samples
    if group_by in GROUPINGS:
        return [sample._replace(group=GROUPINGS[group_by](sample, data_dir)) for sample in samples]
    columns = dict.fromkeys(column for row in cells.values() for column in row)
    if group_by.lower() not in columns:
        raise ValueError(
            f"Expected group_by to be {', '.join(GROUPINGS)} or a column of the label file in {data_dir} "
            f"({', '.join(columns) or 'there is none'}). Received: {group_by!r}"
        )
    values = [cells[sample.path].get(group_by.lower()) for sample in samples]
    values = [getattr(value, "value", value) for value in values]  # of a cell of Excel
    values = ["" if value is None else str(value).strip() for value in values]
    if "" in values:
        name = printable(samples[values.index("")].path.name)
        raise ValueError(
            f"Expected a value in the column {group_by} for each image in {data_dir}. Found none for "
            f"{values.count('')} images, such as {name}. Fill in the column."
        )
    return [sample._replace(group=value) for sample, value in zip(samples, values, strict=True)]


def mark_near_duplicates(samples, thumbnails):
    """Sets `copy_of` of the samples. `thumbnails` is a dictionary from their digests."""
    digests = sorted({sample.digest for sample in samples})
    firsts = pixels.find_near_duplicates([thumbnails[digest] for digest in digests])
    originals = {digest: digests[first] for digest, first in zip(digests, firsts, strict=True)}
    copies_of = [originals[sample.digest] if sample.label else sample.digest for sample in samples]
    return [sample._replace(copy_of=digest) for sample, digest in zip(samples, copies_of, strict=True)]


def find_copies(samples, *keys):
    """Returns lists of the samples that are nearly the same and, if given, equal in the fields `keys`."""

    def key_of(sample):
        return [sample.copy_of or sample.digest, *(getattr(sample, key) for key in keys)]

    ordered = sorted(samples, key=lambda sample: (*key_of(sample), sample.digest, sample.label, sample.path))
    return [list(same) for _, same in itertools.groupby(ordered, key_of)]


def find_inseparable(samples):
    """Returns lists of the samples that stay in one split: copies with the same label, or groups."""
    copies = find_copies(samples, "label")
    joined, firsts = DisjointSet(range(len(copies))), {}  # group → the first of the copies with it
    for number, same in enumerate(copies):
        for sample in same:
            if sample.group:
                joined.merge(number, firsts.setdefault(sample.group, number))
    return [[one for number in sorted(subset) for one in copies[number]] for subset in joined.subsets()]
