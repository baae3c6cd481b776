"""Do the defaults train on images of other kinds, from any seed, with wrong labels?

    python -m benchmarks.robustness kinds
    python -m benchmarks.robustness seeds DATA
    python -m benchmarks.robustness labels DATA

`kinds` draws five sets that differ in what a reader may meet and trains the
notebook on each with its defaults. `seeds` trains on a folder for 8 epochs from
ten seeds: none may stay on the flat stretch, where no image is read. `labels`
corrupts a tenth of the labels, and compares early stopping with what it would
be if one image could count for more than 3. The rows are appended to
benchmarks/results/robustness.jsonl.
"""

import argparse
import json
import math
import string
import sys
import tempfile

import utils
from benchmarks.study import SEED, measure, measure_on
from benchmarks.suspect_labels import corrupt
from tools.make_captchas import ALPHABET, make_captchas
from training import parameters, runs

SMALL = string.digits + string.ascii_lowercase
IMAGES, BATCH_SIZE, EPOCHS = 674, 16, 40
"""Of the longest training on captcha_v2 with the notebook's defaults; 10,000 images get as many steps."""

KINDS = {
    "lengths 3 to 8, 36 characters": {"count": 1000, "lengths": (3, 8), "alphabet": SMALL},
    "62 characters": {"count": 1000, "alphabet": SMALL + string.ascii_uppercase},
    "100 images": {"count": 100},
    "10,000 images": {"count": 10_000},
    "twice as large": {"count": 1000, "size": (400, 100)},
}

WRONG = 0.1
STOPPING = "early_stopping = EarlyStopping(patience)\n"
CRITERIA = {
    "loss of 3 at most": [],
    "loss": [(STOPPING, f"{STOPPING}early_stopping.monitor = 'val_loss'\n")],
}


def train_kind(kind, drawn):
    """Draws a set of images, trains on it, and returns the row with the score of its test split."""
    with tempfile.TemporaryDirectory() as folder:
        make_captchas(**{"lengths": (5, 5), "alphabet": ALPHABET, **drawn}, out=folder)
        epochs = math.ceil(EPOCHS * IMAGES / (0.8 * drawn["count"]))
        parameters = {"epochs": epochs, "batch_size": BATCH_SIZE} if drawn["count"] > 2000 else {}
        return measure(
            "robustness", {"kind": kind}, str(drawn), {"data_dir": folder, **parameters}, finish=test_score
        )


def test_score(run_dir):
    """What the run's `metrics.json` says of the test split."""
    return {"test": json.loads((run_dir / runs.FINISHED).read_text(encoding="utf-8"))["scores"]["test"]}


def train_seeds(data_dir):
    """Trains for 8 epochs from ten seeds; returns the rows."""
    samples, _ = utils.find_images(data_dir)
    images = f"{data_dir.name} {runs.fingerprint(samples)}"
    parameters = {"data_dir": str(data_dir), "epochs": 8}
    return [measure("robustness", {"seed": s}, images, {**parameters, "seed": s}) for s in range(10)]


def train_wrong_labels(data_dir):
    """Trains on labels of which a tenth are wrong, with two criteria for the best epoch; returns the rows."""
    samples, _ = utils.find_images(data_dir)
    training, validation, test = utils.split_data(samples, SEED, test_share=0.2)
    labels, _ = corrupt(training + validation, WRONG, SEED)
    given = [sample._replace(label=labels[sample.path]) for sample in training + validation]
    return [
        measure_on("robustness", {"best epoch by": criterion}, given, test, data_dir.name, changes)
        for criterion, changes in CRITERIA.items()
    ]


def main(arguments=None):
    """Runs a study and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="robustness", description="Trains on other images, from other seeds."
    )
    parser.add_argument("study", choices=["kinds", "seeds", "labels"])
    parser.add_argument("data", metavar="DATA", nargs="?", default="captcha_images")
    options = parser.parse_args(arguments)
    if options.study == "kinds":
        print("| images | test images right (95 % interval) | take-off epoch | epochs | seconds |")
        print("| --- | --- | --- | --- | --- |")
        for kind, drawn in KINDS.items():
            row = train_kind(kind, drawn)
            low, high = row["test"]["interval"]
            print(
                f"| {kind} | {row['test']['right']} of {row['test']['images']} ({low:.1%}–{high:.1%}) "
                f"| {row['take-off epoch']} | {row['epochs']} | {row['seconds']:.0f} |"
            )
    elif options.study == "labels":
        print("| best epoch by validation | exact match on correct labels | best epoch | epochs | seconds |")
        print("| --- | --- | --- | --- | --- |")
        for row in train_wrong_labels(parameters.resolve(options.data)):
            print(
                f"| {row['best epoch by']} | {row['test']['right']} of {row['test']['images']} "
                f"| {row['best epoch']} | {row['epochs']} | {row['seconds']:.0f} |"
            )
    else:
        print("| seed | take-off epoch | exact match of the best epoch |")
        print("| --- | --- | --- |")
        for row in train_seeds(parameters.resolve(options.data)):
            print(f"| {row['seed']} | {row['take-off epoch']} | {row['validation exact match']:.1%} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
