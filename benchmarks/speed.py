"""Time to 90, 95 and 99 % exact match on unseen images, beside what people use today.

This notebook and three others are trained on the same images and read the same
unseen ones after each epoch. A training ends after a number of seconds, with
its own last epoch, or, but for this notebook, when it has reached 99 %. The
rows are appended to benchmarks/results/speed.jsonl; what is there is not
trained again. `python -m benchmarks.bench` runs it.
"""

import csv
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

import checkpoint
import plots
import utils
from benchmarks.clock import read_curve
from benchmarks.study import record
from tools.notebook import PROJECT, code_version, run_notebook

MILESTONES = (0.9, 0.95, 0.99)
SHARES = {"validation_share": 0.247, "test_share": 0.01}
"""The notebook's validation images are the unseen ones here: of 842 images 208, thirteen batches of 16."""

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
        checkpoint.write_csv(folder / f"{split}.csv", rows)


def train_notebook(data_dir, seed, limit):
    """Trains with the notebook's defaults; returns the curve, without what comes after the limit."""
    name = f"speed-{hashlib.sha256(f'{data_dir} {seed} {code_version()}'.encode()).hexdigest()[:12]}"
    run_dir = PROJECT / "runs" / name
    if not (run_dir / checkpoint.FINISHED).exists():
        run_notebook({"data_dir": str(data_dir), "seed": seed, "run_name": name, **SHARES})
    curve, seconds = [], 0.0
    with (run_dir / "history.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            seconds += float(row["seconds"])
            curve.append([round(seconds, 2), round(float(row["val_exact_match"]), 4)])
    return [point for point in curve if point[0] <= limit]


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
    training, unseen, _ = utils.split_data(samples, seed, **SHARES)
    identity = {
        "system": system,
        "seed": seed,
        "limit": limit,
        "images": f"{data_dir.name} {checkpoint.fingerprint(samples)}",
        "code": code_version() if system == NOTEBOOK else source_version(),
    }

    def measured():
        print(f"{system}, seed {seed}", flush=True)
        splits = {"training": training, "unseen": unseen}
        if system == NOTEBOOK:
            curve = train_notebook(data_dir, seed, limit)
        else:
            curve = train_other(system, splits, seed, limit)
        return {**{name: len(split) for name, split in splits.items()}, "curve": curve}

    return record("speed", identity, measured)


def source_version():
    """A short name for the code of the other systems: 8 hexadecimal digits."""
    files = ("baselines", "clock", "fast_plate_ocr_baseline")
    sources = [(PROJECT / "benchmarks" / f"{name}.py").read_bytes() for name in files]
    return hashlib.sha256(b"".join(sources)).hexdigest()[:8]


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
        for milestone, seconds in medians(of_system).items():
            if seconds == float("inf"):
                longest = max(row["curve"][-1][0] for row in of_system)
                cells.append(f"not in {longest:.0f}")
            else:
                ratio = f"{seconds / ours[milestone]:.1f}" if ours[milestone] < float("inf") else "–"
                cells.append(f"{seconds:.0f} ({ratio})")
        cells.append(" / ".join(f"{max(m for _, m in row['curve']):.1%}" for row in of_system))
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


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
    axis.legend()
    return figure
