"""Do the defaults train on images of other kinds, from any seed, and with wrong labels?

    python -m benchmarks.robustness kinds
    python -m benchmarks.robustness seeds [DATA]
    python -m benchmarks.robustness labels [DATA]

`kinds` draws five different sets of images and trains the notebook on each with
its defaults. `seeds` trains on a folder for 8 epochs from ten seeds: none may
stay on the plateau, where no image is read correctly. `labels` corrupts a tenth
of the labels and compares two criteria for the best epoch: the loss, and the
loss clipped to 3 nats per image. The rows are appended to
benchmarks/results/robustness.jsonl.
"""

import argparse
import json
import math
import string
import sys
import tempfile

import utils
from benchmarks.study import (
    SEED,
    add_data_argument,
    draw_captchas,
    measure,
    measure_held_out,
    name_images,
    rows_table,
)
from benchmarks.suspect_labels import corrupt
from training import parameters, runs

LOWER_CASE = string.digits + string.ascii_lowercase
KINDS = {
    "lengths 3 to 8, 36 characters": {"count": 1000, "lengths": (3, 8), "alphabet": LOWER_CASE},
    "62 characters": {"count": 1000, "alphabet": LOWER_CASE + string.ascii_uppercase},
    "100 images": {"count": 100},
    "10,000 images": {"count": 10_000},
    "twice as large": {"count": 1000, "height": 100},
}
IMAGES, BATCH_SIZE, EPOCHS = 674, 16, 40
"""A training on captcha_v2 with the notebook's defaults. 10,000 images get the same number of steps."""

WRONG_SHARE = 0.1
STOPPING = "    early_stopping = EarlyStopping(patience, len(validation))\n"
CRITERIA = {"clipped loss": [], "loss": [(STOPPING, f"{STOPPING}    early_stopping.monitor = 'val_loss'\n")]}
"""Criteria for the best epoch, with their changes to the notebook's code."""


COLUMNS = {
    "kinds": {
        "images": "{kind}",
        "test images correct (95% interval)": (
            "{test[right]} of {test[images]} ({test[interval][0]:.1%}–{test[interval][1]:.1%})"
        ),
        "take-off epoch": "{take-off epoch}",
        "epochs": "{epochs}",
        "seconds": "{seconds:.0f}",
    },
    "seeds": {
        "seed": "{seed}",
        "take-off epoch": "{take-off epoch}",
        "exact match of the best epoch": "{validation exact match:.1%}",
    },
    "labels": {
        "best epoch by": "{best epoch by}",
        "images with correct labels, read correctly": "{test[right]} of {test[images]}",
        "best epoch": "{best epoch}",
        "epochs": "{epochs}",
        "seconds": "{seconds:.0f}",
    },
}
"""The tables' columns, as in `study.rows_table`."""


def train_kind(kind, drawing):
    """Draws a set of images, trains on it, and returns the row with the score of its test split."""
    with tempfile.TemporaryDirectory() as folder:
        draw_captchas(folder, **drawing)
        settings = {"data_dir": folder}
        if drawing["count"] > 2000:
            epochs = math.ceil(EPOCHS * IMAGES / (0.8 * drawing["count"]))
            settings |= {"epochs": epochs, "batch_size": BATCH_SIZE}
        return measure("robustness", {"kind": kind}, f"captcha {drawing}", settings, finish=test_score)


def test_score(run_dir):
    """Returns the score of a run's test split, from its `metrics.json`."""
    return {"test": json.loads((run_dir / runs.FINISHED).read_text(encoding="utf-8"))["scores"]["test"]}


def train_seeds(data_dir):
    """Trains for 8 epochs from ten seeds, and returns the rows."""
    samples, _ = utils.find_images(data_dir)
    images, settings = name_images(data_dir.name, samples), {"data_dir": str(data_dir), "epochs": 8}
    return [measure("robustness", {"seed": seed}, images, {**settings, "seed": seed}) for seed in range(10)]


def train_wrong_labels(data_dir):
    """Trains on labels of which a tenth are wrong, with each criterion, and returns the rows."""
    samples, _ = utils.find_images(data_dir)
    training, validation, held_out = utils.split_data(samples, SEED, test_share=0.2)
    labels, _ = corrupt(training + validation, WRONG_SHARE, SEED)
    given = [sample._replace(label=labels[sample.path]) for sample in training + validation]
    return [
        measure_held_out("robustness", {"best epoch by": criterion}, given, held_out, data_dir.name, changes)
        for criterion, changes in CRITERIA.items()
    ]


def main(arguments=None):
    """Runs a study and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.robustness",
        description="Trains on other kinds of images, from other seeds, or with wrong labels.",
    )
    parser.add_argument("study", choices=["kinds", "seeds", "labels"])
    add_data_argument(parser)
    options = parser.parse_args(arguments)
    data_dir = parameters.resolve(options.data)
    if options.study == "kinds":
        rows = [train_kind(kind, drawing) for kind, drawing in KINDS.items()]
    else:
        rows = {"seeds": train_seeds, "labels": train_wrong_labels}[options.study](data_dir)
    print(rows_table(COLUMNS[options.study], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
