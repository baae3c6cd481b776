"""Time to 90, 95 and 99 % exact match on unseen images, beside what people use today.

This notebook and three others are trained on the same images and read the same
unseen ones after each epoch; one clock times all of them. A training ends when
it has reached 99 %, after a number of seconds, or with its own last epoch. The
rows are appended to benchmarks/results/speed.jsonl; what is there is not
trained again. `python -m benchmarks.bench` runs it.
"""

import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

import utils
from benchmarks.clock import read_curve
from benchmarks.study import record
from snippet_ocr import files
from tools.notebook import code_version, run_notebook
from training import PROJECT, plots, runs

MILESTONES = (0.9, 0.95, 0.99)
BATCH = 16
NOTEBOOK, ANCESTOR, EXAMPLE, PLATES = SYSTEMS = (
    "this notebook",
    "the notebook's ancestor",
    "Keras captcha_ocr",
    "fast-plate-ocr 1.1.0",
)
PLATES_PYTHON = PROJECT / ".venv-fast-plate-ocr" / "bin" / "python"


def write_split(folder, samples):
    """Writes the images of a split for the other systems: links to them, and a csv file beside.

    Args:
        folder: the `Path` of an empty folder.
        samples: a dictionary from the split's name to a list of `Sample`s.
    """
    for split, images in samples.items():
        (folder / split).mkdir()
        rows = []
        for number, sample in enumerate(images):
            name = f"{split}/{number:06}{sample.path.suffix}"
            os.symlink(sample.path, folder / name)
            rows.append({"image_path": name, "plate_text": sample.label})
        files.write_csv(folder / f"{split}.csv", rows)


def shares(count):
    """The notebook's parameters that make a quarter of the images its validation split: the unseen ones here.

    They are full batches of 16, because fast-plate-ocr averages exact match over batches.
    """
    return {"validation_share": BATCH * round(count / 4 / BATCH) / count, "test_share": 0.01}


def clocked(curve, limit):
    """The changes of the notebook that put it under the same clock as the others."""
    clock = f"Clock({os.fspath(curve)!r}, 'val_exact_match', {limit}, {MILESTONES[-1]})"
    return [
        ("import utils", "import utils\nfrom benchmarks.clock import Clock"),
        ("Progress()]", f"Progress(), {clock}]"),
    ]


def train_notebook(data_dir, parameters, limit):
    """Trains with the notebook; returns the curve."""
    name = f"speed-{time.time_ns()}"
    with tempfile.TemporaryDirectory() as folder:
        curve = Path(folder, "curve.csv")
        run_dir = run_notebook(
            {"data_dir": str(data_dir), "run_name": name, **parameters}, clocked(curve, limit)
        )
        shutil.rmtree(run_dir)
        return read_curve(curve)


def train_other(system, samples, seed, limit):
    """Trains another system in a process of its own; returns the curve."""
    options = ["--seed", str(seed), "--limit", str(limit), "--enough", str(MILESTONES[-1])]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_split(folder, samples)
        commands = {
            ANCESTOR: [sys.executable, "-m", "benchmarks.baselines", "ancestor"],
            EXAMPLE: [sys.executable, "-m", "benchmarks.baselines", "captcha_ocr"],
            PLATES: [str(PLATES_PYTHON), "-m", "benchmarks.fast_plate_ocr_baseline"],
        }
        command = [*commands[system], folder, folder / "curve.csv", *options]
        subprocess.run(command, cwd=PROJECT, check=True)
        return read_curve(folder / "curve.csv")


def train(system, data_dir, seed, limit):
    """Trains a system with a seed, unless that is recorded; returns the row."""
    samples, _ = utils.find_images(data_dir)
    parameters = shares(len(samples))
    training, unseen, _ = utils.split_data(samples, seed, **parameters)
    identity = {
        "system": system,
        "seed": seed,
        "limit": limit,
        "images": f"{data_dir.name} {runs.fingerprint(samples)}",
        "code": code_version() if system == NOTEBOOK else source_version(),
    }

    def measured():
        print(f"{system}, seed {seed}", flush=True)
        splits = {"training": training, "unseen": unseen}
        if system == NOTEBOOK:
            curve = train_notebook(data_dir, {"seed": seed, **parameters}, limit)
        else:
            curve = train_other(system, splits, seed, limit)
        return {**{name: len(split) for name, split in splits.items()}, "curve": curve}

    return record("speed", identity, measured)


def source_version():
    """A short name for the code of the other systems: 8 hexadecimal digits."""
    benchmarks = ("baselines.py", "clock.py", "fast_plate_ocr_baseline.py", "requirements-fast-plate-ocr.txt")
    files = [PROJECT / "benchmarks" / name for name in benchmarks]
    files += [PROJECT / f"{name}.py" for name in ("CTCLayer", "training/metrics", "SquareRootScheduler")]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def seconds_to(curve, milestone):
    """The seconds after which a curve first reaches an exact match; infinity if it does not."""
    return next((seconds for seconds, match in curve if match >= milestone), float("inf"))


def table(rows):
    """Writes the rows as a table in Markdown: a line for each system, medians over the seeds."""
    ours = medians([row for row in rows if row["system"] == NOTEBOOK])
    lines = [
        "| system | seeds | seconds an epoch | "
        + " | ".join(f"seconds to {m:.0%} (× this notebook)" for m in MILESTONES)
        + " | highest exact match |",
        "|" + " --- |" * (len(MILESTONES) + 4),
    ]
    for system in SYSTEMS:
        of_system = [row for row in rows if row["system"] == system]
        if not of_system:
            continue
        cells = [system, len(of_system)]
        cells.append(f"{statistics.median(r['curve'][-1][0] / len(r['curve']) for r in of_system):.1f}")
        cells += [_cell(of_system, milestone, ours[milestone]) for milestone in MILESTONES]
        cells.append(" / ".join(f"{max(m for _, m in row['curve']):.1%}" for row in of_system))
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _cell(rows, milestone, ours):
    """Writes the median seconds to a milestone, their ratio to ours, and how many trainings reached it."""
    seconds = [seconds_to(row["curve"], milestone) for row in rows]
    median, missed = statistics.median(seconds), [one == float("inf") for one in seconds]
    words = ""
    if median == float("inf"):
        words = "not in "
        median = min(row["curve"][-1][0] for row, out in zip(rows, missed, strict=True) if out)
    ratio = f" ({'>' if words else ''}{median / ours:.1f})" if ours < float("inf") else ""
    by = f", by {missed.count(False)} of {len(rows)}" if any(missed) else ""
    return f"{words}{median:.0f}{ratio}{by}"


def medians(rows):
    """The median seconds to each milestone: a dictionary."""
    return {m: statistics.median([seconds_to(row["curve"], m) for row in rows]) for m in MILESTONES}


def draw(rows):
    """Draws exact match over seconds, a line for each training: a matplotlib `Figure`."""
    figure = Figure(figsize=(8, 4.2), dpi=100, layout="constrained")
    axis = figure.subplots()
    styles = {
        NOTEBOOK: (plots.BLUE, "-"),
        ANCESTOR: (plots.GREY, ":"),
        EXAMPLE: (plots.GREY, "--"),
        PLATES: (plots.ORANGE, "-."),
    }
    for system, (color, style) in styles.items():
        for number, row in enumerate(row for row in rows if row["system"] == system):
            seconds, matches = zip(*row["curve"], strict=True)
            axis.plot(seconds, matches, style, color=color, label=None if number else system)
    axis.set(xlabel="seconds of training", xscale="log", ylim=(-0.02, 1.02))
    axis.set(ylabel=f"exact match on {rows[0]['unseen']} unseen images")
    axis.xaxis.set_major_formatter("{x:.0f}")
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=4)
    return figure
