"""Does cross-validation find wrong labels?

    python -m benchmarks.suspect_labels DATA

corrupts 2 % of a folder's labels on purpose, one character of each replaced by
another, cross-validates the notebook on them, and tells how many of the labels
on its list of suspects are wrong (precision) and how many of the wrong ones are
on it (recall). The images are linked to, not copied; nothing of the folder is
changed. The result is appended to benchmarks/results/suspect_labels.jsonl.
"""

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

import utils
from benchmarks.study import RESULTS, link_images, use_defaults
from tools import crossval
from training import parameters, runs
from training.metrics import wilson_interval

SHARE = 0.02
SEED = 42


def corrupt(samples, share, seed):
    """Replaces one character of some labels by another of the alphabet.

    Args:
        samples: a list of `utils.Sample`s.
        share: the share of the labels to corrupt.
        seed: an integer; the same seed corrupts the same labels.

    Returns:
        A dictionary from the paths of the samples to their labels, and the set
        of the paths whose label is now wrong.
    """
    generator = random.Random(seed)
    alphabet = sorted(set("".join(sample.label for sample in samples)))
    wrong = {sample.path for sample in generator.sample(samples, round(share * len(samples)))}
    labels = {sample.path: sample.label for sample in samples}
    for path in sorted(wrong):
        label = labels[path]
        place = generator.randrange(len(label))
        other = generator.choice([character for character in alphabet if character != label[place]])
        labels[path] = label[:place] + other + label[place + 1 :]
    return labels, wrong


def main(arguments=None):
    """Runs the benchmark and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="suspect_labels", description="Measures how well wrong labels are found."
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
    wrong_files = {name for name, path in zip(names, labels, strict=True) if path in wrong}
    suspects = crossval.suspect_labels(validated.readings)
    ranked = [(row["log_odds"], row["file"] in wrong_files) for row in suspects]
    found = sum(is_wrong for _, is_wrong in ranked)
    row = {
        "images": f"{data_dir.name} {runs.fingerprint(samples)}",
        "labels": len(samples),
        "wrong": len(wrong),
        "suspects": len(suspects),
        "found": found,
        "precision": found / max(1, len(suspects)),
        "recall": found / len(wrong),
        "recall interval": wilson_interval(found, len(wrong)),
        "suspicion": crossval.SUSPICION,
        "ranked by log odds": ranked,
        "right": validated.summary["right"],
        "seconds": validated.summary["seconds"],
        **runs.environment(),
    }
    with (RESULTS / "suspect_labels.jsonl").open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(row, ensure_ascii=False) + "\n")
    print(
        f"{row['wrong']} of {row['labels']} labels corrupted; "
        f"{row['suspects']} suspects, {found} of these wrong: "
        f"precision {row['precision']:.1%}, recall {row['recall']:.1%}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
