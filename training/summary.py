"""What a folder of images contains, and how it is split, as text for the user."""

import os
from collections import Counter

from snippet_ocr.terminal import escape, printable
from training.groups import find_copies
from training.labels import FILE_NAMES, MIN_CHARACTER_COUNT, label_from_name

MAX_LISTED = 100  # skipped files that the summary lists
MAX_EXAMPLES = 10  # labels that the summary shows
COLUMN_WIDTH = 17  # of the titles in the summary


def _describe_copies(samples, name):
    """Yields rows of the summary about images that are byte-identical or nearly the same."""

    def pair(group):
        return " and ".join(f"{name(sample)} ({sample.label!r})" for sample in group[:2])

    if copies := [group for group in find_copies(samples, "label") if len(group) > 1]:
        count = f"{sum(map(len, copies))} images in {len(copies)} groups, each kept in one split"
        yield "copies", f"{count}, such as {pair(copies[0])}"
    one_per_label = [list({s.label: s for s in group}.values()) for group in find_copies(samples)]
    if contradictions := [group for group in one_per_label if len(group) > 1]:
        yield "contradictions", f"{len(contradictions)} groups of copies have different labels; check them"
        yield from (("", pair(group)) for group in contradictions[:MAX_LISTED])


def describe(samples, rejected):
    """Returns a summary of what `find_images` returned, as a table of two columns."""
    root = os.path.commonpath([path.parent for path, *_ in samples + rejected])

    def name(sample):
        return printable(os.path.relpath(sample.path, root))

    sizes = Counter("{}×{}".format(*sample.size) for sample in samples)
    lengths = Counter(len(sample.label) for sample in samples)
    characters = Counter("".join(sample.label for sample in samples))
    rare = {c: count for c, count in characters.items() if count < MIN_CHARACTER_COUNT}
    shown = samples[:: -(-len(samples) // MAX_EXAMPLES)]
    named = [sample for sample in samples if sample.source == FILE_NAMES]
    shortened = [sample for sample in named if label_from_name(sample.path.name, False) != sample.label]
    rows = [
        ("images", len(samples)),
        ("labels from", ", ".join(sorted({printable(sample.source) for sample in samples}))),
        ("examples", ", ".join(f"{name(sample)} → {sample.label!r}" for sample in shown)),
        ("label lengths", _counts(sorted(lengths.items()))),
        ("image sizes", _counts(sizes.most_common(5), len(sizes))),
        ("characters", f"{len(characters)} different: {_counts(sorted(characters.items()))}"),
    ]
    if empty := sum(not sample.label for sample in samples):
        rows.append(("no text", f"{empty} images, because their text in the label file is empty"))
    if rare:
        wanted = f"{_counts(sorted(rare.items()))}, at least {MIN_CHARACTER_COUNT} each"
        rows.append(("collect more of", wanted))
    if shortened:
        example = f"{name(shortened[0])} → {shortened[0].label!r}"
        rows.append(("copy numbers", f"removed from {len(shortened)} file names, such as {example}"))
    rows += _describe_copies(samples, name)
    rows.append(("skipped files", len(rejected)))
    rows += (("", line) for line in listed(rejected[:MAX_LISTED], root))
    if len(rejected) > MAX_LISTED:
        rows.append(("", f"and {len(rejected) - MAX_LISTED} more"))
    return "\n".join(f"{title:<{COLUMN_WIDTH}}{value}" for title, value in rows)


def _counts(pairs, total=0):
    more = f" and {total - len(pairs)} more" if total > len(pairs) else ""
    return ", ".join(f"{escape(str(value))} ({count})" for value, count in pairs) + more


def listed(rejected, root):
    """Returns a line for each `utils.Rejected`, with its path relative to `root` and its reason."""
    return [f"{printable(os.path.relpath(path, root))} {reason}" for path, reason in rejected]


def describe_splits(training, validation, test):
    """Returns the sizes of the splits, and warnings if groups are useless or training lacks characters."""
    splits = training, validation, test
    lines = ["training {}, validation {}, test {} images".format(*map(len, splits))]
    if any(sample.group for sample in training):
        counts = [len({sample.group for sample in split if sample.group}) for split in splits]
        lines.append("groups: training {}, validation {}, test {}; none is in two splits".format(*counts))
        if sum(counts) == sum(map(len, splits)):
            lines.append("WARNING: each image is a group of its own, so group_by changes nothing.")
    learned = {character for sample in training for character in sample.label}
    unknown = Counter(c for sample in validation + test for c in sorted(set(sample.label) - learned))
    if unknown:
        shown = ", ".join(f"{character!r} ({count})" for character, count in sorted(unknown.items()))
        lines.append(
            "WARNING: some characters are in validation or test images but in no training image. The model "
            f"cannot learn them. Number of images with each: {shown}. Add images with them."
        )
    return "\n".join(lines)
