"""When is a training done? Exact match on held-out images after every epoch, for rules that stop earlier.

    python -m benchmarks.stopping FOLDER [FOLDER …] [--seeds 1 2]

holds back a fifth of each folder's images, trains the notebook on the others for 40 epochs without early
stopping, and records exact match on the fifth after each epoch. From these records it prints, for each rule,
the epoch at which it would have stopped and how many of the held-out images the epoch that it keeps reads.
The rows are appended to benchmarks/results/stopping.jsonl.
"""

import argparse
import csv
import itertools
import json
import os
import tempfile
from pathlib import Path

import keras

import utils
from benchmarks.study import link_images, markdown_table, measure, name_images
from snippet_ocr import files
from snippet_ocr.reader import Reader

EPOCHS = 40
PATIENCES = (3, 5, 8, 15)
MIN_GAINS = (0.0, 0.005, 0.02)  # nats; one wrong text of 67 validation images is 0.045


class HeldOut(keras.callbacks.Callback):
    """Writes the number of held-out images that are read correctly after each epoch to a CSV file."""

    def __init__(self, alphabet, widths, listed, out):
        super().__init__()
        self.rows = json.loads(Path(listed).read_text(encoding="utf-8"))
        self.alphabet, self.widths, self.out = alphabet, widths, Path(out)
        self.prepared, self.right = None, []

    def on_epoch_end(self, epoch, logs=None):
        model = keras.Model(self.model.inputs[0], self.model.get_layer("logits").output)
        reader = Reader(model, self.alphabet, self.widths)
        if self.prepared is None:
            self.prepared = reader.prepare([row["path"] for row in self.rows])
        readings = reader.read(self.prepared)
        self.right.append(sum(one.text == row["label"] for one, row in zip(readings, self.rows, strict=True)))
        files.write_csv(self.out, [{"right": right} for right in self.right])


def train(folder, seed, case="the recipe", changes=(), **settings):
    """Returns the recorded row of a training: its history, with the held-out images right at each epoch."""
    samples, _ = utils.find_images(folder)
    given, validation, held_out = utils.split_data(samples, seed, test_share=0.2)
    given += validation
    with tempfile.TemporaryDirectory() as temporary:
        data_dir, listed, out = Path(temporary, "data"), Path(temporary, "list.json"), "held_out.csv"
        data_dir.mkdir()
        link_images(data_dir, [sample.path for sample in given], [sample.label for sample in given])
        listed.write_text(json.dumps([{"path": str(one.path), "label": one.label} for one in held_out]))
        os.environ["HELD_OUT"] = str(listed)  # not in the changes, which identify the row
        monitor = f"HeldOut(alphabet, widths, os.environ['HELD_OUT'], run_dir / {out!r})"
        changes = [
            *changes,
            ("import utils", "import utils\nfrom benchmarks.stopping import HeldOut"),
            ("Progress(draw, heading),", f"Progress(draw, heading), {monitor},"),
        ]
        settings = {"data_dir": str(data_dir), "test_share": 0.01, "seed": seed, "epochs": EPOCHS, **settings}
        settings["patience"] = settings["epochs"]

        def finish(run_dir):
            rows = [list(csv.DictReader((run_dir / name).open())) for name in ("history.csv", out)]
            keys = ("val_exact_match", "val_clipped_loss", "loss", "seconds")
            return {
                "held-out images": len(held_out),
                "right": [int(row["right"]) for row in rows[1]],
                **{key: [round(float(row[key]), 4) for row in rows[0]] for key in keys},
            }

        name = folder.parent.name if folder.name == "train" else folder.name
        identity = {"set": name, "seed": seed, "case": case}
        return measure("stopping", identity, name_images(name, given), settings, changes, finish)


def stop(row, patience, min_gain):
    """Simulates `EarlyStopping` on a recorded training.

    Args:
        row: a row of `train`.
        patience: the number of epochs without a gain after which the training stops.
        min_gain: the gain in the loss that counts, in nats; see `training.callbacks.EarlyStopping`.

    Returns:
        A tuple of the last epoch and the best epoch, counted from 1.
    """
    losses, reference, wait, taken_off = row["val_clipped_loss"], float("inf"), 0, False
    epochs = zip(losses, row["val_exact_match"], strict=True)
    for last, (loss, exact) in enumerate(epochs, 1):
        taken_off = taken_off or exact > 0
        wait = wait + 1 if taken_off else 0
        if loss < reference - min_gain:
            reference, wait = loss, 0
        if wait >= patience or last == len(losses):
            return last, losses.index(min(losses[:last])) + 1
    raise ValueError("Expected a training of at least one epoch.")


def compare(rows):
    """Returns a table of the rules: the last epoch, and the images right, of each recorded training."""
    lines = []
    for patience, min_gain in itertools.product(PATIENCES, MIN_GAINS):
        cells = []
        for row in rows:
            last, best = stop(row, patience, min_gain)
            cells.append(f"{last}, {row['right'][best - 1]} of {row['held-out images']}")
        lines.append([patience, min_gain, *cells])
    return markdown_table(
        ["patience", "least gain", *(f"{row['set']}, seed {row['seed']}" for row in rows)], lines
    )


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stopping", description=__doc__.split("\n")[0])
    parser.add_argument("folders", metavar="FOLDER", nargs="+", type=Path, help="a folder of labelled images")
    parser.add_argument("--seeds", metavar="N", nargs="+", type=int, default=[1, 2], help="default: 1 2")
    args = parser.parse_args()
    print(compare([train(folder, seed) for folder in args.folders for seed in args.seeds]))


if __name__ == "__main__":
    main()
