"""Cross-validates the notebook: every image is read once, by a model that was not trained on it.

The images are split into folds. The notebook runs once per fold, with that fold as the test split, and at
most 40 others for early stopping. Set the OCR_… variables as for a training. Finished folds are kept in runs/
and are not run again. The results are a score, the confusions, the wrong readings and the suspect labels.
"""

import argparse
import csv
import hashlib
import json
import math
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from snippet_ocr import Reader, Reading, files, model_file
from snippet_ocr.images import load_fitted
from snippet_ocr.terminal import escape, printable
from tools.labelling.journal import Journal
from tools.notebook import code_version, run_notebook
from training import PROJECT, image_size, parameters

VALIDATION_IMAGES = 40  # per fold; but no more than 10% and no less than 1% of all images
SUMMARY = "crossval.json"  # the file with all numbers
SUSPICION = 1000  # a label is suspect if its reading is at least this many times as probable


class CrossValidation(NamedTuple):
    """The results of `cross_validate`."""

    folder: Path  # to save them in
    readings: list  # of dictionaries, the rows of readings.csv
    summary: dict  # the content of crossval.json
    observations: tuple  # `training.calibration.Observations`, in the order of the readings


def cross_validate(data_dir, folds=5, seed=None):
    """Runs the notebook for each unfinished fold; returns the results of all folds as a `CrossValidation`.

    Args:
        data_dir: the `Path` of the folder of labelled images.
        folds: the number of folds, from 2 to the number of images.
        seed: the seed of the split and of every training; None uses `OCR_SEED`, or 42.

    Raises:
        ValueError: if there are too few images, or if a setting is invalid.
        papermill.PapermillExecutionError: if a run of the notebook fails.
    """
    from training import calibration

    data_dir = data_dir.absolute()
    samples, settings = _prepare(data_dir, folds, seed)
    folder = PROJECT / "runs" / f"crossval-{data_dir.name}-{_key(samples, settings)}"
    run_dirs = _run_folds(folder, settings)
    by_name = {printable(sample.path.relative_to(data_dir)): sample for sample in samples}
    by_fold = [_read_fold(fold, run_dir, by_name) for fold, run_dir in enumerate(run_dirs, start=1)]
    readings = [row for rows, _ in by_fold for row in rows]
    assert sorted(row["file"] for row in readings) == sorted(by_name)  # every image exactly once
    observations = calibration.join([observed for _, observed in by_fold])
    confidences = observations.confidences()
    for row, confidence in zip(readings, confidences, strict=True):
        row["confidence"] = float(confidence)
    summary = {
        "images folder": data_dir.name,
        "seed": settings["seed"],
        **_summary(readings, run_dirs),
        "calibration": calibration.fit(confidences, observations.right, settings["target_precision"]),
        "provenance": model_file.description(run_dirs[0] / "reader.keras")["provenance"],
    }
    return CrossValidation(folder, readings, summary, observations)


def _prepare(data_dir, folds, seed):
    """Returns the usable images, and the settings of fold 1; other folds differ only in `fold`."""
    import utils

    settings = parameters.defaults() | parameters.from_environment()
    if settings["base_reader"] not in ("", "auto"):  # the project's own has seen drawn text only
        raise ValueError(
            "Expected no OCR_BASE_READER of your own in a cross-validation: it may have seen test images. "
            f"Unset the variable. Received: {settings['base_reader']}"
        )
    max_time_steps = image_size.max_time_steps(settings["image_width"])
    names = "drop_copy_number", "group_by", "allow_empty"
    samples, _ = utils.find_images(data_dir, max_time_steps, **{name: settings[name] for name in names})
    if not 2 <= folds <= len(samples):
        raise ValueError(f"Expected from 2 to {len(samples)} folds, the number of images. Received: {folds}")
    settings |= {"data_dir": str(data_dir), "folds": folds, "fold": 1}
    settings["seed"] = settings["seed"] if seed is None else seed
    settings["validation_share"] = max(0.01, min(VALIDATION_IMAGES, len(samples) // 10) / len(samples))
    settings = parameters.validate(settings)
    names = "seed", "validation_share", "folds"
    for fold in (1, folds):  # enough groups? The first folds are the largest
        utils.split_data(samples, fold=fold, **{name: settings[name] for name in names})
    return samples, settings


def _key(samples, settings):
    """Returns 8 hexadecimal digits that change with the images, the settings and the code."""
    from training import runs

    ignored = ("data_dir", "run_name", "target_precision", "fold")
    settings = {name: value for name, value in settings.items() if name not in ignored}
    images = runs.fingerprint(samples), sorted((sample.digest, sample.group) for sample in samples)
    facts = *images, settings, code_version()
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:8]


def _run_folds(folder, settings):
    """Runs the notebook for each fold that is not finished; returns the folders of all runs."""
    from training import runs

    run_dirs = [Path(f"{folder}-fold-{fold}") for fold in range(1, settings["folds"] + 1)]
    for fold, run_dir in enumerate(run_dirs, start=1):
        if (run_dir / runs.FINISHED).exists():
            print(f"fold {fold} of {len(run_dirs)} is finished: {run_dir}")
            continue
        print(f"fold {fold} of {len(run_dirs)}", flush=True)
        run_notebook({**settings, "fold": fold, "run_name": run_dir.name})
        if not (run_dir / runs.FINISHED).exists():
            raise ValueError(f"{run_dir} could not be resumed. Delete the folder and run again.")
    return run_dirs


def _read_fold(fold, run_dir, by_name):
    """Returns the test readings of a fold as rows, and their `Observations`: the images are read again."""
    from training import calibration

    with (run_dir / "test_readings.csv").open(encoding="utf-8", newline="") as file:
        rows = [{"fold": fold, **row, "right": int(row["right"])} for row in csv.DictReader(file)]
    reader = Reader.load(run_dir / "reader.keras", trusted=True)
    observations = calibration.observe(reader, [by_name[row["file"]] for row in rows])
    labels = [reader.alphabet.encode(row["label"]) for row in rows]
    for row, odds in zip(rows, calibration.log_odds(observations, labels), strict=True):
        row["log_odds"] = round(float(odds), 2)
    return rows, observations


def _summary(readings, run_dirs):
    """Returns the results of a cross-validation in numbers, as a dictionary of JSON values."""
    from training import metrics, runs

    def score(rows):
        return metrics.score([row["label"] for row in rows], [row["text"] for row in rows])

    folds = []
    for fold, run_dir in enumerate(run_dirs, start=1):
        finished = json.loads((run_dir / runs.FINISHED).read_text(encoding="utf-8"))
        scores = score([row for row in readings if row["fold"] == fold])
        scores["unseen"] = finished["scores"]["test"]["unseen"]
        training_images = finished["scores"]["training"]["images"]
        folds.append({"fold": fold, "training images": training_images, **scores, **finished["run"]})
    labels, texts = [row["label"] for row in readings], [row["text"] for row in readings]
    lengths, confusions = sorted(set(map(len, labels))), metrics.confusions(labels, texts)
    seen, misread = Counter("".join(labels)), Counter()
    for (expected, _), count in confusions.items():
        misread[expected] += count
    return {
        **score(readings),
        "unseen": {name: sum(row["unseen"][name] for row in folds) for name in ("images", "right")},
        "seconds": round(sum(row["seconds"] for row in folds), 1),
        "folds": folds,
        "lengths": {n: score([row for row in readings if len(row["label"]) == n]) for n in lengths},
        "characters": {c: {"seen": seen[c], "misread": misread[c]} for c in sorted(seen)},
        "confusions": [[*pair, count] for pair, count in confusions.most_common()],
        "wrong": [row for row in readings if not row["right"]],
        "environment": runs.environment(),
    }


def suspect_labels(readings, reviewed=()):
    """Lists the readings of a `CrossValidation` whose label is probably wrong, the most suspect label first.

    The model that reads an image was not trained on it, so it cannot have memorised its label. Pairs of file
    and label in `reviewed` are right: a person has checked them.
    Source: Northcutt et al., "Confident Learning", JAIR 2021, <https://arxiv.org/abs/1911.00068>.
    """
    suspects = [row for row in readings if row["log_odds"] >= math.log(SUSPICION)]
    suspects = [row for row in suspects if (row["file"], row["label"]) not in reviewed]
    return sorted(suspects, key=lambda row: -row["log_odds"])


def describe(summary):
    """Returns the summary of a `CrossValidation` as text of several lines."""
    from training import metrics

    rows = {f"fold {row['fold']}": row for row in summary["folds"]}
    rows |= {f"length {length}": row for length, row in summary["lengths"].items()}
    worst = sorted(summary["characters"].items(), key=lambda item: -item[1]["misread"] / item[1]["seen"])
    misread = [f"{escape(c)} {n['misread']} of {n['seen']}" for c, n in worst if n["misread"]]
    confusions = Counter({(label, text): count for label, text, count in summary["confusions"]})
    fold = (
        "fold {fold}: {training images} training images, {epochs} epochs (best {best_epoch}), {seconds:.0f} s"
    )
    return "\n".join(
        [
            f"{len(summary['folds'])}-fold cross-validation on {summary['images folder']}: "
            f"{summary['right']} of {summary['images']} texts read correctly",
            metrics.table({**rows, "all": summary}),
            *(fold.format(**row) for row in summary["folds"]),
            f"misread characters: {', '.join(misread) or 'none'}",
            f"confusions: {metrics.describe_confusions(confusions)}",
            f"training time: {summary['seconds']:.0f} s",
        ]
    )


def save(results, suspects, data_dir):
    """Saves a `CrossValidation` and its suspect labels in its folder, as JSON, CSV and figures."""
    from training import plots

    folder, readings, summary, observations = results
    folder.mkdir(exist_ok=True)
    files.write_json(folder / SUMMARY, summary)
    files.write_csv(folder / "readings.csv", readings)
    files.write_csv(folder / "suspect_labels.csv", suspects, list(readings[0]))
    draw(summary["wrong"], data_dir, folder / "wrong_readings")
    confusions = Counter({(label, text): count for label, text, count in summary["confusions"]})
    plots.save_all(
        folder,
        confusions=plots.confusion_matrix(confusions),
        reliability=plots.reliability(
            observations.confidences(), observations.right, summary["calibration"]["threshold"]
        ),
    )


def draw(rows, data_dir, path, page_size=100):
    """Draws images with their readings and labels, in files named `path` plus `_1.png`, `_2.png`, …"""
    from training import plots

    for number, start in enumerate(range(0, len(rows), page_size), start=1):
        page = rows[start : start + page_size]
        images = [load_fitted(data_dir / row["file"], [200], 50) for row in page]
        readings = [Reading(row["text"], row["confidence"]) for row in page]
        figure = plots.result_grid(images, [row["label"] for row in page], readings)
        plots.save_all(path.parent, **{f"{path.name}_{number}": figure})


def main(arguments=None):
    """Runs the command line and returns the exit code."""
    example = "Example: OCR_EPOCHS=20 python -m tools.crossval ~/meters --folds 10"
    parser = argparse.ArgumentParser("python -m tools.crossval", description=__doc__, epilog=example)
    option = parser.add_argument
    option("folder", metavar="FOLDER", type=Path, help="the folder of labelled images")
    option("--folds", type=int, default=5, help="number of folds, one training each (default: 5)")
    option("--seed", type=int, help="seed of the split and of every training (default: OCR_SEED, or 42)")
    options = parser.parse_args(arguments)
    from papermill.exceptions import PapermillExecutionError

    from training import calibration

    data_dir = options.folder.expanduser()
    try:
        results = cross_validate(data_dir, options.folds, options.seed)
        suspects = suspect_labels(results.readings, Journal(data_dir).reviewed())
        save(results, suspects, data_dir)
    except (ValueError, OSError, PapermillExecutionError) as error:
        print(error, file=sys.stderr)
        return 1
    fitted, right = results.summary["calibration"], len(suspect_labels(results.readings)) - len(suspects)
    print(describe(results.summary))
    print(calibration.describe(fitted))
    print(f"on the same readings: {calibration.describe_check(fitted)}")
    checked = f"; {right} others were checked in a review" if right else ""
    print(f"suspect labels: {len(suspects)}{checked}")
    for row in suspects[:20]:
        odds = math.exp(min(row["log_odds"], 50))
        found = f"label {row['label']!r}, read as {row['text']!r}, {odds:.1e} times as probable"
        print(f"  {row['file']}: {found}")
    print(f"results: {results.folder}")
    print(f"Review: python -m tools.label {data_dir} --review {results.folder / 'suspect_labels.csv'}")
    print(f"Calibrate a reader: python -m tools.calibrate RUN {results.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
