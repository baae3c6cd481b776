"""What many images cost: checking them, decoding them, and training on them.

    python -m benchmarks.scale [--folder FOLDER] [--counts 1000 10000 100000]

draws the images of each count into a subfolder of FOLDER; existing subfolders
are kept. The images are checked and decoded, and the notebook's model is trained
on them, in a new process for each of `ROUNDS` rounds. The medians are printed as
a table; the rows are appended to benchmarks/results/scale.jsonl.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import keras

import utils
from benchmarks.cost import compile_model, load
from benchmarks.memory import process_memory
from benchmarks.study import draw_captchas, markdown_table, record, use_defaults
from tools.notebook import code_version, load_build_model
from training import PROJECT, parameters

ROUNDS, EPOCHS, STEPS = 2, 3, 100

FORMATS = {
    "seconds to check all": "{:.1f}",
    "seconds to decode all": "{:.1f}",
    "seconds to the first step": "{:.1f}",
    "images per second, fed": "{:,.0f}",
    "images per second, trained": "{:.1f}",
    "peak memory in GB": "{:.2f}",
}
"""The figures of a round, with their formats in the table."""


class StepClock(keras.callbacks.Callback):
    """Stores the time of the first training step, in seconds since 1970, and the seconds of each epoch."""

    def on_train_begin(self, logs=None):
        self.first_step, self.seconds = None, []

    def on_train_batch_end(self, batch, logs=None):
        self.first_step = self.first_step or time.time()

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.monotonic() - self.started)


def measure_here(folder):
    """Checks and decodes the images of a folder and trains on them, in this process; returns the figures."""
    settings = parameters.defaults()
    images = STEPS * settings["batch_size"]
    started = time.monotonic()
    samples, _ = utils.find_images(folder)
    checked = time.monotonic()
    arguments, new_data = load(samples, settings)
    data = new_data()
    decoded = time.monotonic()
    model = compile_model(load_build_model()(*arguments, settings["dropout"]))
    clock = StepClock()
    model.fit(data, steps_per_epoch=STEPS, epochs=EPOCHS + 1, callbacks=[clock], shuffle=False, verbose=0)
    iterator, started_feeding = iter(data), time.monotonic()
    for _ in range(STEPS):
        next(iterator)
    fed = time.monotonic()
    return {
        "seconds to check all": checked - started,
        "seconds to decode all": decoded - checked,
        "time of the first step": clock.first_step,
        "images per second, fed": images / (fed - started_feeding),
        "images per second, trained": images / statistics.median(clock.seconds[1:]),  # [0] traced the graph
        "peak memory in GB": process_memory() / 1e9,
    }


def measure(folder):
    """Measures in `ROUNDS` new processes; returns a list of dictionaries of figures."""
    command = [sys.executable, "-m", "benchmarks.scale", "--work", os.fspath(folder)]
    rounds = []
    for _ in range(ROUNDS):
        started = time.time()
        done = subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.PIPE, text=True)
        figures = json.loads(done.stdout.splitlines()[-1])
        figures["seconds to the first step"] = figures.pop("time of the first step") - started
        rounds.append(figures)
    return rounds


def table(rows):
    """Formats the medians of the rounds as a Markdown table, with a column for each count."""
    lines = [
        [name, *(form.format(statistics.median(one[name] for one in row["rounds"])) for row in rows)]
        for name, form in FORMATS.items()
    ]
    return markdown_table(["images", *(f"{row['images']:,}" for row in rows)], lines)


def main(arguments=None):
    """Runs the benchmark and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description="Measures what many images cost."
    )
    default = PROJECT / "runs" / "scale"
    parser.add_argument(
        "--folder", type=Path, default=default, help="for the drawn images (default: runs/scale)"
    )
    parser.add_argument(
        "--counts",
        type=int,
        nargs="+",
        default=[1_000, 10_000, 100_000],
        help="numbers of images (default: 1000 10000 100000)",
    )
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    use_defaults()
    if options.work:
        print(json.dumps(measure_here(options.work)))
        return 0
    rows = []
    for count in options.counts:
        folder = options.folder.absolute() / str(count)
        if not folder.exists():
            draw_captchas(folder, count)
        identity = {"images": count, "code": code_version()}
        rows.append(record("scale", identity, lambda folder=folder: {"rounds": measure(folder)}))
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
