"""When is a training done? Exact match on held-out images after every epoch, for rules that stop earlier.

    python -m benchmarks.stopping FOLDER [FOLDER …] [--seeds 1 2]

holds back a fifth of each folder's images, trains the notebook on the others for 40 epochs without early
stopping, and records exact match on the fifth after each epoch. From these records it prints, for each rule,
the epoch at which it would have stopped and the images that its best epoch reads less than the best of all 40.
The rows are appended to benchmarks/results/stopping.jsonl.
"""

import argparse
import csv
import json
import sys
import tempfile
from pathlib import Path

import keras

import utils
from benchmarks.study import link_images, measure, name_images
from snippet_ocr import files
from snippet_ocr.reader import Reader

EPOCHS = 40


class HeldOut(keras.callbacks.Callback):
    """Writes the number of held-out images that are read correctly after each epoch to a CSV file."""

    def __init__(self, alphabet, listed, out):
        super().__init__()
        self.rows = json.loads(Path(listed).read_text(encoding="utf-8"))
        self.alphabet, self.out, self.prepared, self.right = alphabet, Path(out), None, []

    def on_epoch_end(self, epoch, logs=None):
        model = keras.Model(self.model.inputs[0], self.model.get_layer("logits").output)
        reader = Reader(model, self.alphabet)
        if self.prepared is None:
            self.prepared = reader.prepare([row["path"] for row in self.rows])
        readings = reader.read_prepared(self.prepared)
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
        monitor = f"HeldOut(alphabet, {str(listed)!r}, run_dir / {out!r})"
        changes = [
            *changes,
            ("import utils", "import utils\nfrom benchmarks.stopping import HeldOut"),
            ("Progress()]", f"Progress(), {monitor}]"),
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
