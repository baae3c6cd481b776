"""What all studies share: a training is a run of the notebook, recorded once and never repeated."""

import csv
import datetime
import hashlib
import json
import os
import tempfile
from pathlib import Path

from snippet_ocr import files
from snippet_ocr.reader import Reader
from tools.notebook import code_version, run_notebook
from training import PROJECT, metrics, runs

SEED = 42
RESULTS = PROJECT / "benchmarks" / "results"
MILESTONES = (0.5, 0.9, 0.95, 0.99)
"""Exact match on the validation images; epochs and seconds until it is first reached are recorded."""


def use_defaults():
    """Takes the `OCR_…` variables out of the environment: what is measured is what a new user gets."""
    for variable in [variable for variable in os.environ if variable.startswith("OCR_")]:
        del os.environ[variable]


def measure(study, case, images, parameters, changes=(), finish=None):
    """Trains with the notebook, unless that has been recorded, and records the figures of the training.

    Args:
        study: the name of the study; its rows are in `benchmarks/results/<study>.jsonl`.
        case: a dictionary that tells this training from others of the study.
        images: what the training is given, a text such as `runs.fingerprint` returns.
        parameters: the notebook's parameters that are not its defaults.
        changes: what is changed in the notebook's code, as in `run_notebook`.
        finish: a function of the run's folder that returns more figures, a dictionary.

    Returns:
        The row, a dictionary.
    """
    use_defaults()
    kept = {name: value for name, value in parameters.items() if name != "data_dir"}
    identity = {**case, "images": images, "parameters": kept, "changes": list(map(list, changes))}
    identity["code"] = code_version()

    def train():
        name = f"{study}-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]}"
        print(f"{study}: {', '.join(f'{key} {value}' for key, value in case.items())}", flush=True)
        run_dir = PROJECT / "runs" / name
        if not (run_dir / runs.FINISHED).exists():
            run_notebook({**parameters, "run_name": name}, changes)
        return {**figures(run_dir), **(finish(run_dir) if finish else {})}

    return record(study, identity, train)


def record(study, identity, measured):
    """Measures once: what has been recorded is returned, anything else is measured and recorded.

    Args:
        study: the name of the study; its rows are in `benchmarks/results/<study>.jsonl`.
        identity: a dictionary that tells this row from others of the study.
        measured: a function that returns the figures, a dictionary.

    Returns:
        The row, a dictionary: identity, figures, the machine and versions they come from, and the date.
    """
    for row in read(study):
        if all(row.get(name) == value for name, value in identity.items()):
            return row
    row = {**identity, **measured(), **runs.environment(), "date": str(datetime.date.today())}
    with (RESULTS / f"{study}.jsonl").open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(row, ensure_ascii=False) + "\n")
    return row


def link_images(folder, paths, labels):
    """Makes a folder of links to labelled images, with a `labels.csv`; nothing is copied or changed.

    Args:
        folder: the `Path` of an empty folder.
        paths: a list of the images' paths.
        labels: a list of as many strings.

    Returns:
        A list of the names of the links, in the order of the images.
    """
    names = [f"{number:06}{path.suffix}" for number, path in enumerate(paths)]
    for name, path in zip(names, paths, strict=True):
        os.symlink(path, folder / name)
    rows = [{"file": name, "text": label} for name, label in zip(names, labels, strict=True)]
    files.write_csv(folder / "labels.csv", rows)
    return names


def measure_on(study, case, samples, test, name, changes=()):
    """Trains with the notebook on some images, and scores the reader on others, which it never sees.

    Args:
        study, case, changes: as in `measure`.
        samples: a list of `utils.Sample`s for training and validation.
        test: a list of the others.
        name: what the images are called, a string.

    Returns:
        The row, with the score of the others as `test`.
    """

    def score_test(run_dir):
        readings = Reader.load(run_dir / "reader.keras").read([sample.path for sample in test])
        return {"test": metrics.score([s.label for s in test], [reading.text for reading in readings])}

    with tempfile.TemporaryDirectory() as folder:
        link_images(Path(folder), [s.path for s in samples], [s.label for s in samples])
        # The notebook's own test split is as small as can be: the images held back are the test.
        parameters = {"data_dir": folder, "test_share": 0.01, "seed": SEED}
        images = f"{name} {runs.fingerprint(samples)}"
        return measure(study, case, images, parameters, changes, finish=score_test)


def read(study):
    """The recorded rows of a study: a list of dictionaries, the oldest first."""
    file = RESULTS / f"{study}.jsonl"
    return (
        [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    )


def figures(run_dir):
    """The figures of a training, on training and validation images alone: no test image is looked at.

    Args:
        run_dir: the `Path` of a finished run.

    Returns:
        A dictionary: images, epochs, the first epoch that read a validation
        image right, epochs and seconds to each milestone (None if it was not
        reached), and loss and exact match of the best epoch.
    """
    with (run_dir / "history.csv").open(encoding="utf-8", newline="") as file:
        history = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    finished = json.loads((run_dir / runs.FINISHED).read_text(encoding="utf-8"))
    best = history[finished["run"]["best_epoch"] - 1]
    seconds = 0
    reached = {}
    for row in history:
        seconds += row["seconds"]
        for milestone in (0, *MILESTONES):
            if row["val_exact_match"] >= (milestone or 1e-9):
                reached.setdefault(milestone, (int(row["epoch"]), round(seconds, 1)))
    return {
        "training images": finished["scores"]["training"]["images"],
        "validation images": finished["scores"]["validation"]["images"],
        "epochs": len(history),
        "best epoch": int(best["epoch"]),
        "take-off epoch": reached.get(0, (None,))[0],
        "epochs to": {f"{milestone:.0%}": reached.get(milestone, (None, 0))[0] for milestone in MILESTONES},
        "seconds to": {f"{milestone:.0%}": reached.get(milestone, (0, None))[1] for milestone in MILESTONES},
        "validation loss": round(best["val_loss"], 4),
        "validation exact match": round(best["val_exact_match"], 4),
        "seconds": round(seconds, 1),
    }
