"""What many images cost: checking them, feeding them, training on them.

    python -m benchmarks.scale [--folder FOLDER] [--counts 1000 10000 100000]

draws as many images as the largest count into FOLDER (ten minutes; only what
is missing), and links to the first of them. Then it checks, feeds and trains
the notebook's model with each count, in a process of its own, in `ROUNDS`
rounds, prints a table of medians, and appends the rows to
benchmarks/results/scale.jsonl.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.study import record, use_defaults
from tools.make_captchas import make_captchas
from tools.notebook import code_version
from training import PROJECT

ROUNDS, BLOCKS, STEPS = 2, 3, 100

FIGURES = {
    "seconds to check all": "{:.1f}",
    "seconds to check all again": "{:.1f}",
    "seconds to the first step": "{:.1f}",
    "images a second, fed and decoded": "{:,.0f}",
    "images a second, fed again": "{:,.0f}",
    "images a second, trained in the first epoch": "{:.1f}",
    "images a second, trained in a later one": "{:.1f}",
    "peak memory in GB": "{:.2f}",
}


def fill(folder, count):
    """Draws what is missing of `count` images, and returns the folder that holds them."""
    drawn = folder / "drawn"
    drawn.mkdir(parents=True, exist_ok=True)
    missing = count - len(list(drawn.iterdir()))
    if missing > 0:
        make_captchas(missing, out=drawn, seed=missing)
    return drawn


def link(drawn, count):
    """Makes a folder of links to the first images; returns it."""
    folder = drawn.parent / str(count)
    if not folder.exists():
        folder.mkdir()
        for path in sorted(drawn.iterdir())[:count]:
            (folder / path.name).symlink_to(path)
    return folder


def work(folder):
    """Checks, feeds and trains on the images of a folder, in this process; returns the figures."""
    started = time.monotonic()
    import keras

    import utils
    from benchmarks.cost import load
    from tools.notebook import load_build_model
    from training import metrics, pixels
    from training.parameters import defaults

    started_checking = time.monotonic()
    samples, _ = utils.find_images(folder, remember=True)
    figures = {"seconds to check all again": time.monotonic() - started_checking}
    settings = defaults()
    shape, data = load(samples, settings)

    class Clock(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.blocks = []

        def on_train_batch_end(self, batch, logs=None):
            figures.setdefault("seconds to the first step", time.monotonic() - started)

        def on_epoch_begin(self, epoch, logs=None):
            self.begun = time.monotonic()

        def on_epoch_end(self, epoch, logs=None):
            self.blocks.append(time.monotonic() - self.begun)

    model = load_build_model()(*shape, settings["dropout"])
    optimizer = keras.optimizers.Adam(1e-4, global_clipnorm=1.0, use_ema=True)
    model.compile(optimizer, metrics=[metrics.ExactMatch(), metrics.ClippedLoss()])
    images = STEPS * settings["batch_size"]
    trained = data()
    for epoch in ("the first epoch", "a later one"):  # the same batches again, which are decoded by now
        clock = Clock()
        model.fit(
            trained, steps_per_epoch=STEPS, epochs=BLOCKS + 1, callbacks=[clock], shuffle=False, verbose=0
        )
        figures[f"images a second, trained in {epoch}"] = images / statistics.median(clock.blocks[1:])
    fed = data()
    for name in ("images a second, fed and decoded", "images a second, fed again"):
        iterator, begun = iter(fed), time.monotonic()
        for _ in range(STEPS):
            next(iterator)
        figures[name] = images / (time.monotonic() - begun)
        del iterator
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    figures["peak memory in GB"] = int(peak[1]) * 1024 / 1e9
    figures["kept in a file"] = pixels.in_file(len(samples), *shape[:2])
    return figures


def measure(folder):
    """Checks anew, then measures in `ROUNDS` processes; returns a list of dictionaries of figures."""
    rounds = []
    for _ in range(ROUNDS):
        check = (
            "import sys, time, cache, shutil, utils; shutil.rmtree(pixels.FOLDER, ignore_errors=True); "
            "start = time.monotonic(); utils.find_images(sys.argv[1], remember=True); "
            "print(time.monotonic() - start)"
        )
        checked = run("-c", check, folder)
        figures = json.loads(run("-m", "benchmarks.scale", "--work", folder))
        rounds.append({"seconds to check all": float(checked), **figures})
    return rounds


def run(*arguments):
    """Runs a Python process in the project's folder; returns the last line that it printed."""
    command = [sys.executable, *map(os.fspath, arguments)]
    return subprocess.run(
        command, cwd=PROJECT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.splitlines()[-1]


def table(rows):
    """The figures as a table in Markdown; medians of the rounds."""
    lines = [
        "| images | " + " | ".join(f"{row['images']:,}" for row in rows) + " |",
        "|---|" + "---|" * len(rows),
    ]
    for name, form in FIGURES.items():
        medians = [form.format(statistics.median(one[name] for one in row["rounds"])) for row in rows]
        lines.append(f"| {name} | {' | '.join(medians)} |")
    kept = ["a file" if row["rounds"][0]["kept in a file"] else "memory" for row in rows]
    return "\n".join([*lines, f"| pixels kept in | {' | '.join(kept)} |"])


def main(arguments=None):
    """Runs the benchmark and returns the exit code."""
    parser = argparse.ArgumentParser(prog="scale", description="Measures what many images cost.")
    parser.add_argument(
        "--folder", type=Path, default=PROJECT / "runs" / "scale", help="for the drawn images"
    )
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="images")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    use_defaults()
    if options.work:
        print(json.dumps(work(options.work)))
        return 0
    drawn = fill(options.folder.absolute(), max(options.counts))
    rows = []
    for count in options.counts:
        folder = link(drawn, count)
        identity = {"images": count, "code": code_version()}
        rows.append(record("scale", identity, lambda folder=folder: {"rounds": measure(folder)}))
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
