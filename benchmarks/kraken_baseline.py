"""Trains kraken with its own command, for a limited time.

    .venv-kraken/bin/python -m benchmarks.kraken_baseline FOLDER --seed S --limit SECONDS --order logical

It runs in its own virtual environment (`make .venv-kraken/installed`) and imports nothing of this project.
FOLDER contains `training.csv` and `unseen.csv`, as `benchmarks.speed` writes them. The last line printed is
the path of the best model. The network is the one that kraken's documentation explains, for lines 48 pixels
high; the default is 120 pixels high. On a CPU, batches of 16 take about a twentieth of the time per image of
the default of 1.
"""

import argparse
import csv
import functools
import sys
from pathlib import Path

NETWORK = "[1,48,0,1 Cr3,3,32 Do0.1,2 Mp2,2 Cr3,3,64 Do0.1,2 Mp2,2 S1(1x12)1,3 Lbx100 Do]"


def write_texts(folder, split):
    """Writes each image's text into a file next to it; returns the path of a file that lists the images."""
    with (folder / f"{split}.csv").open(encoding="utf-8", newline="") as lines:
        texts = {folder / row["image_path"]: row["plate_text"] for row in csv.DictReader(lines)}
    for path, text in texts.items():
        path.with_suffix(".gt.txt").write_text(text, encoding="utf-8")
    listed = folder / f"{split}.txt"
    listed.write_text("\n".join(map(str, texts)), encoding="utf-8")
    return str(listed)


def main(arguments=None):
    """Trains kraken and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kraken_baseline", description="Trains kraken for a limited time."
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--limit", type=float, required=True, help="maximum training time in seconds")
    parser.add_argument("--order", choices=["logical", "visual"], required=True, help="of the labels")
    options = parser.parse_args(arguments)
    import kraken.train
    from kraken.ketos import cli

    # Its command has no time limit, so its trainer is given one.
    trainer = functools.partial(kraken.train.KrakenTrainer, max_time={"seconds": options.limit})
    kraken.train.KrakenTrainer = trainer
    training, unseen = (write_texts(options.folder, split) for split in ("training", "unseen"))
    reorder = "--reorder" if options.order == "logical" else "--no-reorder"
    cli(
        [
            *("--device", "cpu", "--threads", "2", "--workers", "0", "--seed", options.seed, "train"),
            *("--format-type", "path", "--training-data", training, "--evaluation-data", unseen),
            *("--output", str(options.folder / "model"), "--spec", NETWORK, "--batch-size", "16"),
            # Its early stopping may end a training on the plateau.
            *("--quit", "fixed", "--epochs", "100000", "--augment", reorder),
        ],
        standalone_mode=False,
    )
    (model,) = (options.folder / "model").glob("best_*")
    print(model)
    return 0


if __name__ == "__main__":
    sys.exit(main())
