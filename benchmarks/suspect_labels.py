"""Does cross-validation find wrong labels?

    python -m benchmarks.suspect_labels DATA

corrupts one character in 2% of a folder's labels, cross-validates the notebook
on them, and reports how many of the suspect labels are wrong (precision) and how
many of the wrong labels are suspect (recall). The images are linked, not copied;
the folder is not changed. The row is appended to
benchmarks/results/suspect_labels.jsonl.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path

import utils
from benchmarks.study import SEED, append_row, link_images, name_images, use_defaults
from tools import crossval
from training import parameters
from training.metrics import wilson_interval

SHARE = 0.02


def corrupt(samples, share, seed):
    """Replaces one character in some labels by another character of the alphabet.

    Args:
        samples: a list of `utils.Sample`s.
        share: the share of the labels to corrupt, from 0 to 1.
        seed: an integer; the same seed corrupts the same labels.

    Returns:
        A tuple of a dictionary from all paths to their labels, and the set of
        the paths whose label is now wrong.
    """
    generator = random.Random(seed)
    alphabet = sorted(set("".join(sample.label for sample in samples)))
    wrong = {sample.path for sample in generator.sample(samples, round(share * len(samples)))}
    labels = {sample.path: sample.label for sample in samples}
    for path in sorted(wrong):
        label = labels[path]
        position = generator.randrange(len(label))
        other = generator.choice([character for character in alphabet if character != label[position]])
        labels[path] = label[:position] + other + label[position + 1 :]
    return labels, wrong


def main(arguments=None):
    """Runs the benchmark and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.suspect_labels", description="Measures how well wrong labels are found."
    )
    parser.add_argument("data", metavar="DATA", help="the folder of labelled images")
    options = parser.parse_args(arguments)
    use_defaults()
    data_dir = parameters.resolve(options.data)
    samples, _ = utils.find_images(data_dir)
    labels, wrong = corrupt(samples, SHARE, SEED)
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent, f"{data_dir.name} with wrong labels")
        folder.mkdir()
        names = link_images(folder, list(labels), list(labels.values()))
        validated = crossval.cross_validate(folder, seed=SEED)
    wrong_names = {name for name, path in zip(names, labels, strict=True) if path in wrong}
    suspects = crossval.suspect_labels(validated.readings)
    found = sum(row["file"] in wrong_names for row in suspects)
    figures = {
        "images": name_images(data_dir.name, samples),
        "labels": len(samples),
        "wrong": len(wrong),
        "suspects": len(suspects),
        "found": found,
        "precision": found / max(1, len(suspects)),
        "recall": found / len(wrong),
        "recall interval": wilson_interval(found, len(wrong)),
        "suspicion": crossval.SUSPICION,
        "ranked by log odds": [(row["log_odds"], row["file"] in wrong_names) for row in suspects],
        "right": validated.summary["right"],
        "seconds": validated.summary["seconds"],
    }
    append_row("suspect_labels", figures)
    print(
        f"{len(wrong)} of {len(samples)} labels corrupted; {len(suspects)} suspects, {found} of them wrong: "
        f"precision {figures['precision']:.1%}, recall {figures['recall']:.1%}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
