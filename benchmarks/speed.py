"""Training time to 90%, 95% and 99% exact match on unseen images, compared with other systems.

This notebook, from the base reader and from scratch, and three other systems are
trained on the same images and read the same unseen images after each epoch; all
are timed the same way. A training ends at 99%, at a time limit, or with its own
last epoch. The rows are appended to benchmarks/results/speed.jsonl; recorded
trainings are not repeated. Run it with `python -m benchmarks.bench`.
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
from benchmarks.study import markdown_table, name_images, record
from snippet_ocr import files
from tools.notebook import code_version, run_notebook
from training import PROJECT, plots

MILESTONES = (0.9, 0.95, 0.99)
BATCH_SIZE = 16
NOTEBOOK, FROM_SCRATCH, ANCESTOR, EXAMPLE, PLATES = SYSTEMS = (
    "this notebook",
    "this notebook, from scratch",
    "the notebook's ancestor",
    "Keras captcha_ocr",
    "fast-plate-ocr 1.1.0",
)
OURS = {NOTEBOOK: "auto", FROM_SCRATCH: ""}  # the setting `base_reader`
PLATES_PYTHON = PROJECT / ".venv-fast-plate-ocr" / "bin" / "python"


def write_split(folder, splits):
    """Writes splits for the other systems: folders of links to the images, and a CSV file for each.

    Args:
        folder: the `Path` of an empty folder.
        splits: a dictionary from the name of a split to a list of `utils.Sample`s.
    """
    for split, samples in splits.items():
        (folder / split).mkdir()
        rows = []
        for number, sample in enumerate(samples):
            name = f"{split}/{number:06}{sample.path.suffix}"
            os.symlink(sample.path, folder / name)
            rows.append({"image_path": name, "plate_text": sample.label})
        files.write_csv(folder / f"{split}.csv", rows)


def split_shares(count):
    """Returns the notebook's settings that make a quarter of `count` images its validation split.

    These are the unseen images here. Their number is a multiple of 16, because
    fast-plate-ocr averages exact match over batches.
    """
    return {"validation_share": BATCH_SIZE * round(count / 4 / BATCH_SIZE) / count, "test_share": 0.01}


def clock_changes(curve, limit):
    """Returns the changes that add the `Clock` to the notebook, as in `run_notebook`."""
    clock = f"Clock({os.fspath(curve)!r}, 'val_exact_match', {limit}, {MILESTONES[-1]})"
    return [
        ("import utils", "import utils\nfrom benchmarks.clock import Clock"),
        ("Progress(draw, heading),", f"Progress(draw, heading), {clock},"),
    ]


def train_notebook(data_dir, settings, limit):
    """Trains with the notebook and returns the curve."""
    settings = {"data_dir": str(data_dir), "run_name": f"speed-{time.time_ns()}", **settings}
    with tempfile.TemporaryDirectory() as folder:
        curve = Path(folder, "curve.csv")
        shutil.rmtree(run_notebook(settings, clock_changes(curve, limit)))
        return read_curve(curve)


def train_other(system, splits, seed, limit):
    """Trains another system in its own process and returns the curve."""
    modules = {
        ANCESTOR: [sys.executable, "-m", "benchmarks.baselines", "ancestor"],
        EXAMPLE: [sys.executable, "-m", "benchmarks.baselines", "captcha_ocr"],
        PLATES: [str(PLATES_PYTHON), "-m", "benchmarks.fast_plate_ocr_baseline"],
    }
    options = ["--seed", str(seed), "--limit", str(limit), "--target", str(MILESTONES[-1])]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_split(folder, splits)
        command = [*modules[system], folder, folder / "curve.csv", *options]
        subprocess.run(command, cwd=PROJECT, check=True)
        return read_curve(folder / "curve.csv")


def train(system, data_dir, seed, limit):
    """Trains a system with a seed, unless that is recorded, and returns the row."""
    samples, _ = utils.find_images(data_dir)
    settings = split_shares(len(samples))
    training, unseen, _ = utils.split_data(samples, seed, **settings)
    identity = {
        "system": system,
        "seed": seed,
        "limit": limit,
        "images": name_images(data_dir.name, samples),
        "code": code_version() if system in OURS else source_version(),
    }

    def measure():
        print(f"{system}, seed {seed}", flush=True)
        if system in OURS:
            settings["base_reader"] = OURS[system]
            curve = train_notebook(data_dir, {"seed": seed, **settings}, limit)
        else:
            curve = train_other(system, {"training": training, "unseen": unseen}, seed, limit)
        return {"training": len(training), "unseen": len(unseen), "curve": curve}

    return record("speed", identity, measure)


def source_version():
    """Returns a short name for the code that trains the other systems: 8 hexadecimal digits."""
    names = ("baselines.py", "clock.py", "fast_plate_ocr_baseline.py", "requirements-fast-plate-ocr.txt")
    names = [*(f"benchmarks/{name}" for name in names), "CTCLayer.py", "training/metrics.py"]
    contents = [(PROJECT / name).read_bytes() for name in (*names, "SquareRootScheduler.py")]
    return hashlib.sha256(b"".join(contents)).hexdigest()[:8]


def seconds_to(curve, milestone):
    """Returns the seconds after which a curve first reaches an exact match; infinity if it does not."""
    return next((seconds for seconds, match in curve if match >= milestone), float("inf"))


def median_seconds(rows, milestone):
    """Returns the median seconds to a milestone; infinity if at least half of the rows do not reach it."""
    return statistics.median(seconds_to(row["curve"], milestone) for row in rows)


def table(rows):
    """Formats the rows as a Markdown table: a line for each system, medians over the seeds."""
    ours = [row for row in rows if row["system"] == NOTEBOOK]
    header = ["system", "seeds", "seconds an epoch"]
    header += [f"seconds to {milestone:.0%} (× this notebook)" for milestone in MILESTONES]
    lines = []
    for system in SYSTEMS:
        of_system = [row for row in rows if row["system"] == system]
        if of_system:
            epoch = statistics.median(row["curve"][-1][0] / len(row["curve"]) for row in of_system)
            cells = [_milestone_cell(of_system, ours, milestone) for milestone in MILESTONES]
            best = " / ".join(f"{max(match for _, match in row['curve']):.1%}" for row in of_system)
            lines.append([system, len(of_system), f"{epoch:.1f}", *cells, best])
    return markdown_table([*header, "highest exact match"], lines)


def _milestone_cell(rows, ours, milestone):
    """Formats median seconds, their ratio to ours, and how many trainings reached the milestone."""
    median, our_median = median_seconds(rows, milestone), median_seconds(ours, milestone)
    missed = [row for row in rows if seconds_to(row["curve"], milestone) == float("inf")]
    not_in, at_least = "", ""
    if median == float("inf"):
        not_in, at_least = "not in ", ">"
        median = min(row["curve"][-1][0] for row in missed)
    ratio = f" ({at_least}{median / our_median:.1f})" if our_median < float("inf") else ""
    by = f", by {len(rows) - len(missed)} of {len(rows)}" if missed else ""
    return f"{not_in}{median:.0f}{ratio}{by}"


def draw(rows):
    """Draws exact match over seconds, a line for each training; returns a matplotlib `Figure`."""
    figure = Figure(figsize=(8, 4.2), dpi=100, layout="constrained")
    axis = figure.subplots()
    styles = {
        NOTEBOOK: (plots.BLUE, "-"),
        FROM_SCRATCH: (plots.BLUE, "--"),
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
    figure.legend(loc="outside upper center", ncols=3)
    return figure
