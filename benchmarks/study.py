"""What all studies share: a training is a run of the notebook, recorded once and never repeated."""

import csv
import datetime
import functools
import hashlib
import itertools
import json
import os
import tempfile
from pathlib import Path

from snippet_ocr import files
from snippet_ocr.reader import Reader
from tools.draw_text import Drawing, draw
from tools.drawing.fonts import MATPLOTLIB, find_fonts
from tools.drawing.texts import random_text
from tools.notebook import code_version, run_notebook
from training import PROJECT, metrics, runs

SEED = 42
CAPTCHA_ALPHABET = "2345678bcdefgmnpwxy"  # without letters and digits that are easily confused
RESULTS = PROJECT / "benchmarks" / "results"
MILESTONES = (0.5, 0.9, 0.95, 0.99)
"""Exact match on the validation images. The first epoch that reaches each one is recorded."""


def use_defaults():
    """Removes the `OCR_…` variables from the environment, so that the notebook's defaults are measured."""
    for variable in [variable for variable in os.environ if variable.startswith("OCR_")]:
        del os.environ[variable]


def add_data_argument(parser):
    """Adds the optional argument DATA, a folder of labelled images, to an `ArgumentParser`."""
    help = "the folder of labelled images (default: captcha_images)"
    parser.add_argument("data", metavar="DATA", nargs="?", default="captcha_images", help=help)


def markdown_table(header, lines):
    """Formats a Markdown table from the names of its columns and a list of lines, each a list of cells."""
    cells = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in cells)


def rows_table(columns, rows):
    """Formats recorded rows as a Markdown table; `columns` maps each header to a format string for a row."""
    return markdown_table(columns, [[form.format(**row) for form in columns.values()] for row in rows])


def draw_captchas(folder, count, lengths=(5, 5), alphabet=CAPTCHA_ALPHABET, height=50, seed=0):
    """Draws images of random texts in the style `captcha` into a new folder; see `tools.draw_text.draw`."""
    source = functools.partial(random_text, alphabet, lengths)
    draw(Path(folder), count, Drawing(find_fonts(MATPLOTLIB), source, ("captcha",), (height, height), seed))


def name_images(folder_name, samples):
    """Returns a name for a set of labelled images, such as "captcha_v2 9a203f12748af44e"."""
    return f"{folder_name} {runs.fingerprint(samples)}"


def recorded_rows(study):
    """Reads the rows of a study from `benchmarks/results/<study>.jsonl`: a list of dictionaries."""
    file = RESULTS / f"{study}.jsonl"
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def append_row(study, figures):
    """Adds the environment and the date to the figures of a measurement and records the row.

    Args:
        study: the name of the study.
        figures: a dictionary.

    Returns:
        The row, a dictionary.
    """
    row = {**figures, **runs.environment(), "date": str(datetime.date.today())}
    with (RESULTS / f"{study}.jsonl").open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(row, ensure_ascii=False) + "\n")
    return row


def record(study, identity, measure_figures):
    """Returns the recorded row of a measurement, or measures and records it.

    Args:
        study: the name of the study.
        identity: a dictionary of the values in which this row differs from the study's other rows.
        measure_figures: a function without arguments that returns the figures, a dictionary.

    Returns:
        The row, a dictionary: identity, figures, environment and date.
    """
    for row in recorded_rows(study):
        if all(row.get(name) == value for name, value in identity.items()):
            return row
    return append_row(study, {**identity, **measure_figures()})


def measure(study, case, images, settings, changes=(), finish=None):
    """Trains with the notebook and records the figures of the training, unless they are recorded already.

    Args:
        study: the name of the study.
        case: a dictionary of the values in which this training differs from the study's others.
        images: a name for the images that the training is given, such as `name_images` returns.
        settings: a dictionary of the notebook's settings that differ from its defaults.
        changes: changes to the notebook's code, as in `run_notebook`.
        finish: a function from the run's folder to further figures, a dictionary.

    Returns:
        The row, a dictionary.
    """
    use_defaults()
    recorded_settings = {name: value for name, value in settings.items() if name != "data_dir"}
    # The key is "parameters", as in rows that were recorded before settings had that name.
    identity = {**case, "images": images, "parameters": recorded_settings}
    identity |= {"changes": list(map(list, changes)), "code": code_version()}

    def train():
        name = f"{study}-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]}"
        print(f"{study}: {', '.join(f'{key} {value}' for key, value in case.items())}", flush=True)
        run_dir = PROJECT / "runs" / name
        if not (run_dir / runs.FINISHED).exists():
            run_notebook({**settings, "run_name": name}, changes)
        return {**training_figures(run_dir), **(finish(run_dir) if finish else {})}

    return record(study, identity, train)


def measure_held_out(study, case, given, held_out, name, changes=(), finish=None, **settings):
    """Trains with the notebook on some images and scores the reader on others, which it never sees.

    Args:
        study, case, changes, finish: as in `measure`; without `finish`, the figure is `test`, a score.
        given: a list of `utils.Sample`s for training and validation.
        held_out: a list of `utils.Sample`s for the score.
        name: the name of the images' folder.
        **settings: further settings of the notebook.

    Returns:
        The row, a dictionary.
    """

    def score_held_out(run_dir):
        reader = Reader.load(run_dir / "reader.keras")
        return {"test": metrics.read_and_score(reader, held_out, {sample.label for sample in given})}

    with tempfile.TemporaryDirectory() as folder:
        link_images(Path(folder), [sample.path for sample in given], [sample.label for sample in given])
        # The notebook's own test split is as small as possible: the held-out images are the test.
        settings = {"data_dir": folder, "test_share": 0.01, "seed": SEED, **settings}
        return measure(study, case, name_images(name, given), settings, changes, finish or score_held_out)


def link_images(folder, paths, labels):
    """Fills a folder with links to labelled images and a `labels.csv`. Nothing is copied.

    Args:
        folder: the `Path` of an empty folder.
        paths: a list of the images' paths.
        labels: a list of their labels, strings.

    Returns:
        A list of the names of the links, in the order of the images.
    """
    names = [f"{number:06}{path.suffix}" for number, path in enumerate(paths)]
    for name, path in zip(names, paths, strict=True):
        os.symlink(path, folder / name)
    rows = [{"file": name, "text": label} for name, label in zip(names, labels, strict=True)]
    files.write_csv(folder / "labels.csv", rows)
    return names


def training_figures(run_dir):
    """Returns the figures of a finished training, on its training and validation images.

    Args:
        run_dir: the `Path` of the run's folder.

    Returns:
        A dictionary: numbers of images and epochs, the take-off epoch, epochs
        and seconds to each milestone (None if it was not reached), and loss and
        exact match of the best epoch.
    """
    with (run_dir / "history.csv").open(encoding="utf-8", newline="") as file:
        history = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    finished = json.loads((run_dir / runs.FINISHED).read_text(encoding="utf-8"))
    best = history[finished["run"]["best_epoch"] - 1]
    elapsed = list(itertools.accumulate(row["seconds"] for row in history))

    def reached(milestone):
        """Returns the first epoch that reaches a milestone and the seconds up to its end, or two Nones."""
        for row, seconds in zip(history, elapsed, strict=True):
            if row["val_exact_match"] >= milestone:
                return int(row["epoch"]), round(seconds, 1)
        return None, None

    return {
        "training images": finished["scores"]["training"]["images"],
        "validation images": finished["scores"]["validation"]["images"],
        "epochs": len(history),
        "best epoch": int(best["epoch"]),
        "take-off epoch": reached(1e-9)[0],
        "epochs to": {f"{milestone:.0%}": reached(milestone)[0] for milestone in MILESTONES},
        "seconds to": {f"{milestone:.0%}": reached(milestone)[1] for milestone in MILESTONES},
        "validation loss": round(best["val_loss"], 4),
        "validation exact match": round(best["val_exact_match"], 4),
        "seconds": round(elapsed[-1], 1),
    }
