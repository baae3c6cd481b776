"""How many labelled images are needed, from scratch and from the base reader?

    python -m benchmarks.learning_curve [FOLDER …] [--counts 20 50 100 200 400] [--seeds 1 2 3]

trains the notebook on some of a folder's images and scores the reader on others. If FOLDER has the
subfolders `train` and `test`, the images of `test` are the others; otherwise, a fifth of the images. The rows
are appended to benchmarks/results/learning_curve.jsonl. The figure of all recorded rows, also those of
`benchmarks.kinds`, is saved as docs/learning_curve.png.
"""

import argparse
import hashlib
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, ScalarFormatter

import utils
from benchmarks.study import SEED, link_images, markdown_table, measure_held_out, recorded_rows
from training import PROJECT, parameters, plots
from training.transfer import BASE_READER

COUNTS = (20, 50, 100, 200, 400)
BASES = {"": "from scratch", "auto": "from the base reader"}
TITLES = {"bank_card_digits": "bank cards", "receipt_lines": "lines of receipts"}
TITLES |= {"cn_plates": "Chinese plates", "egypt_plates": "Egyptian plates"}
COLORS = {"": plots.ORANGE, "auto": plots.BLUE}


def split(folder):
    """Returns the images to train on and the held-out images of a folder: two lists of `utils.Sample`s."""
    if (folder / "test").is_dir():
        return tuple(utils.find_images(folder / part)[0] for part in ("train", "test"))
    training, validation, held_out = utils.split_data(utils.find_images(folder)[0], SEED, test_share=0.2)
    return training + validation, held_out


def choose(given, count, seed):
    """Returns `count` of the images to train on, chosen by a seed; all of them if there are fewer."""
    return [given[number] for number in np.random.default_rng(seed).permutation(len(given))[:count]]


def base_version(base_reader):
    """Returns 8 hexadecimal digits of the base reader's file; an empty string for a start from scratch."""
    return hashlib.sha256(BASE_READER.read_bytes()).hexdigest()[:8] if base_reader else ""


def measure_folder(folder, counts, seeds, bases, unlabelled=0):
    """Trains on each number of images, with each seed and each base reader; returns the recorded rows.

    With `unlabelled`, this number of other images is used without their labels.
    """
    given, held_out = split(folder)
    name = folder.parent.name if folder.name == "train" else folder.name
    rows = []
    for count in sorted({min(count, len(given)) for count in counts}):
        for seed in seeds:
            shuffled = choose(given, len(given), seed)
            chosen, more = shuffled[:count], shuffled[count : count + unlabelled]
            for base in bases:
                identity = {"set": name, "held-out images": len(held_out), "images given": count}
                identity |= {"base": base, "base file": base_version(base), "unlabelled images": len(more)}
                settings = {"seed": seed, "base_reader": base}
                with tempfile.TemporaryDirectory() as unlabelled_dir:
                    if more:
                        settings["unlabelled_dir"] = unlabelled_dir
                        link_images(Path(unlabelled_dir), [one.path for one in more], [""] * len(more))
                    row = measure_held_out("learning_curve", identity, chosen, held_out, name, **settings)
                rows.append(row)
    return rows


def table(rows):
    """Formats a Markdown table: a line for each set, number of images and base reader, with all seeds."""
    lines, keys = [], ("set", "images given", "base")
    for key in dict.fromkeys(tuple(row[name] for name in keys) for row in rows):
        same = [row for row in rows if tuple(row[name] for name in keys) == key]
        right = " / ".join(str(row["test"]["right"]) for row in same)
        median = statistics.median(row["test"]["exact_match"] for row in same)
        seconds = statistics.median(row["seconds"] for row in same)
        images = same[0]["test"]["images"]
        lines.append([*key[:2], BASES[key[2]], f"{right} of {images}", f"{median:.1%}", f"{seconds:.0f}"])
    return markdown_table(
        ["set", "images given", "start", "texts right, by seed", "exact match, median", "seconds"], lines
    )


def recorded_points():
    """Returns the last recorded row of each set, number of images, start and seed, with labels only."""
    bases = {"scratch": "", "transfer": "auto"}
    rows = [
        row for row in recorded_rows("learning_curve") if "set" in row and not row.get("unlabelled images")
    ]
    for row in recorded_rows("kinds"):
        if row["system"] in bases:
            rows.append(row | {"images given": row["labels"], "base": bases[row["system"]]})
    rows.sort(key=lambda row: (row["set"], row["images given"]))
    keys = [(row["set"], row["images given"], row["base"], row["parameters"]["seed"]) for row in rows]
    return list(dict(zip(keys, rows, strict=True)).values())


def draw(rows):
    """Draws exact match over the number of images, one panel for each set; returns a `Figure`."""
    names = list(dict.fromkeys(row["set"] for row in rows))
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.9 * lines), dpi=100, layout="constrained")
    axes = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    for axis, name in zip(axes, names, strict=False):
        for base, label in BASES.items():
            matches = {}  # number of images → exact match of each seed
            for row in rows:
                if (row["set"], row["base"]) == (name, base):
                    matches.setdefault(row["images given"], []).append(row["test"]["exact_match"])
            counts, found = list(matches), list(matches.values())
            style = {"color": COLORS[base], "marker": "o", "markersize": 4}
            axis.plot(counts, list(map(statistics.median, found)), label=label, **style)
            axis.fill_between(
                counts, list(map(min, found)), list(map(max, found)), color=COLORS[base], alpha=0.2
            )
        axis.set(title=TITLES.get(name, name), xscale="log", ylim=(-0.02, 1.02))
        axis.set_xticks(sorted({row["images given"] for row in rows if row["set"] == name}))
        axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.minorticks_off()
        axis.yaxis.set_major_formatter(PercentFormatter(1.0))
        axis.grid(alpha=0.3)
    axes[0].legend(loc="lower right")
    figure.supxlabel("labelled images")
    figure.supylabel("exact match on other images")
    return figure


def main(arguments=None):
    """Runs the study and returns the exit code."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.learning_curve", description=__doc__.split("\n")[0]
    )
    parser.add_argument("folders", metavar="FOLDER", nargs="*", help="a folder of labelled images")
    parser.add_argument(
        "--counts", metavar="N", nargs="+", type=int, default=COUNTS, help="images to train on"
    )
    parser.add_argument("--seeds", metavar="N", nargs="+", type=int, default=[1, 2, 3], help="default: 1 2 3")
    parser.add_argument(
        "--unlabelled", metavar="N", type=int, default=0, help="further images without labels"
    )
    parser.add_argument("--bases", nargs="+", choices=list(BASES), default=list(BASES), help="default: both")
    options = parser.parse_args(arguments)
    rows = []
    for folder in map(parameters.resolve, options.folders):
        rows += measure_folder(Path(folder), options.counts, options.seeds, options.bases, options.unlabelled)
    print(table(rows))
    draw(recorded_points()).savefig(PROJECT / "docs" / "learning_curve.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
