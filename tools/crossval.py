"""Cross-validation: every image is read once, by a model that never saw it.

    python -m tools.crossval DATA [--folds 5] [--seed 42]

cuts the images into folds and runs the notebook once for each, with that fold
as the test split and 40 other images for early stopping to watch. Other
settings come from the environment, as ever: `OCR_EPOCHS=20`. Finished folds
are kept in runs/ and not run again. All readings together give the score, the
confusions, a picture of every wrong reading, and a list of suspect labels.
`python -m tools.calibrate` gives the temperature and the threshold that fit them
to a reader.
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

from papermill.exceptions import PapermillExecutionError

import utils
from snippet_ocr import files
from snippet_ocr.images import prepare_image
from snippet_ocr.reader import Reader, Reading
from snippet_ocr.terminal import printable
from tools.notebook import code_version, run_notebook
from training import PROJECT, calibration, image_size, metrics, parameters, plots, runs

VALIDATION_IMAGES = 40
"""The images of each fold for early stopping; a tenth of fewer than 400, a hundredth of more than 4,000."""

SUMMARY = "crossval.json"
"""The file that holds all figures."""

SUSPICION = 1000
"""A label is suspect if the model holds its reading for this many times as probable."""


class CrossValidation(NamedTuple):
    """What a cross-validation found.

    Attributes:
        folder: the `Path` of the folder for the results.
        paths: a list of the images' `Path`s.
        readings: as many rows of `readings.csv`, dictionaries.
        summary: what becomes `crossval.json`, a dictionary.
        observations: the `calibration.Observations` of the images.
    """

    folder: Path
    paths: list
    readings: list
    summary: dict
    observations: calibration.Observations


def cross_validate(data_dir, folds=5, seed=None):
    """Runs the notebook once for each fold, but for those that are finished, and gathers the readings.

    Args:
        data_dir: the `Path` of the folder of labelled images.
        folds: the number of parts the images are cut into, 2 or more.
        seed: the seed of the cut and of every training; None takes `OCR_SEED`, or 42.

    Returns:
        A `CrossValidation`.

    Raises:
        ValueError: if there are too few images, or a parameter is out of bounds.
    """
    data_dir = data_dir.absolute()
    settings = parameters.from_environment()
    if settings.get("base_reader"):
        raise ValueError(
            "Expected no OCR_BASE_READER in cross-validation: that reader may have been trained on the very "
            f"images that are to be unseen. Received: {settings['base_reader']}"
        )
    seed = settings.get("seed", 42) if seed is None else seed
    samples = find_images(data_dir, settings)
    if not 2 <= folds <= len(samples):
        raise ValueError(f"Expected from 2 to {len(samples)} folds, as many as images. Received: {folds}")
    validation_images = min(VALIDATION_IMAGES, len(samples) // 10)
    settings |= {"data_dir": str(data_dir), "seed": seed, "folds": folds}
    settings["validation_share"] = max(0.01, validation_images / len(samples))
    name = f"crossval-{data_dir.name}-{_key(samples, settings)}"
    runs = []
    for fold in range(1, folds + 1):
        run_dir = PROJECT / "runs" / f"{name}-fold-{fold}"
        if (run_dir / runs.FINISHED).exists():
            print(f"fold {fold} of {folds} is finished: {run_dir}")
        else:
            print(f"fold {fold} of {folds}", flush=True)
            run_notebook({**settings, "fold": fold, "run_name": run_dir.name})
        runs.append(run_dir)
    by_name = {printable(sample.path.relative_to(data_dir)): sample for sample in samples}
    readings, observed = [], []
    for fold, run_dir in enumerate(runs, start=1):
        rows = list(_readings(fold, run_dir))
        observed.append(_observe(run_dir, rows, by_name))
        readings += rows
    assert len({row["file"] for row in readings}) == len(readings) == _images_of(runs[0])
    observations = calibration.join(observed)
    fitted = calibration.fit(observations, {**parameters.defaults(), **settings}["target_precision"])
    for row, confidence in zip(readings, observations.confidences(fitted["temperature"]), strict=True):
        row["confidence"] = float(confidence)  # of all folds by one temperature
    summary = {
        "images folder": data_dir.name,
        "seed": seed,
        **_summary(readings, runs),
        "calibration": fitted,
        "provenance": Reader.load(runs[0] / "reader.keras").provenance,
    }
    folder = PROJECT / "runs" / name
    folder.mkdir(exist_ok=True)
    paths = [by_name[row["file"]].path for row in readings]
    return CrossValidation(folder, paths, readings, summary, observations)


def find_images(data_dir, settings):
    """Finds the images that a run of the notebook uses.

    Args:
        data_dir: the `Path` of the folder of labelled images.
        settings: the notebook's settings that are not its defaults.

    Returns:
        A list of `utils.Sample`s.
    """
    settings = {**parameters.defaults(), **settings}
    max_time_steps = image_size.max_time_steps(settings["image_width"])
    return utils.find_images(data_dir, max_time_steps, settings["drop_copy_number"])[0]


def _observe(run_dir, rows, by_name):
    """Looks at the test images of a fold again, for what a CSV does not tell; adds `log_odds` to the rows."""
    reader = Reader.load(run_dir / "reader.keras")
    observations = calibration.observe(reader, [by_name[row["file"]] for row in rows])
    labels = [reader.alphabet.encode(row["label"]) for row in rows]
    for row, odds in zip(rows, calibration.log_odds(observations, labels), strict=True):
        row["log_odds"] = round(float(odds), 2)
    return observations


def _finished(run_dir):
    """What a finished run says of itself."""
    return json.loads((run_dir / runs.FINISHED).read_text(encoding="utf-8"))


def _key(samples, settings):
    """Changes with the images, the settings and the code, so that finished folds are of this very kind."""
    no_training = ("data_dir", "run_name", "target_precision")
    settings = {name: value for name, value in settings.items() if name not in no_training}
    return hashlib.sha256(repr((runs.fingerprint(samples), settings, code_version())).encode()).hexdigest()[
        :8
    ]


def _readings(fold, run_dir):
    with (run_dir / "test_readings.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            converted = {"confidence": float(row["confidence"]), "right": int(row["right"])}
            yield {"fold": fold, **row, **converted}


def _images_of(run_dir):
    """The images of all splits of a run together."""
    return sum(score["images"] for score in _finished(run_dir)["scores"].values())


def _score(rows):
    return metrics.score([row["label"] for row in rows], [row["text"] for row in rows])


def _summary(readings, runs):
    """All figures of a cross-validation, as a dictionary that JSON can hold."""
    by_fold, by_length = [], {}
    for fold, run_dir in enumerate(runs, start=1):
        finished = _finished(run_dir)
        training = finished["scores"]["training"]["images"]
        score = _score([row for row in readings if row["fold"] == fold])
        by_fold.append({"fold": fold, "training images": training, **score, **finished["run"]})
    for length in sorted({len(row["label"]) for row in readings}):
        by_length[length] = _score([row for row in readings if len(row["label"]) == length])
    confusions = metrics.confusions([row["label"] for row in readings], [row["text"] for row in readings])
    seen = Counter("".join(row["label"] for row in readings))
    misread = Counter()
    for (expected, _), count in confusions.items():
        misread[expected] += count
    return {
        **_score(readings),
        "seconds": round(sum(row["seconds"] for row in by_fold), 1),
        "folds": by_fold,
        "lengths": by_length,
        "characters": {c: {"seen": seen[c], "misread": misread[c]} for c in sorted(seen)},
        "confusions": [[*pair, count] for pair, count in confusions.most_common()],
        "wrong": [row for row in readings if not row["right"]],
        "environment": runs.environment(),
    }


def suspect_labels(readings):
    """Ranks the images whose label is contradicted: whoever labelled them should look again.

    The model that reads an image was trained on others, so it cannot have
    learnt the wrong label by heart. (Cross-validated predictions that are sure
    of something else point to label errors: Northcutt et al., "Confident
    Learning", JAIR 2021, <https://arxiv.org/abs/1911.00068>.)

    Args:
        readings: a list of dictionaries with `log_odds`, as `cross_validate` gives them.

    Returns:
        Those of the dictionaries whose reading is at least `SUSPICION` times as
        probable as their label, the most improbable label first.
    """
    suspects = [row for row in readings if row["log_odds"] >= math.log(SUSPICION)]
    return sorted(suspects, key=lambda row: -row["log_odds"])


def describe(summary):
    """Writes the summary of a cross-validation for people: a string of several lines."""
    lines = [
        f"{len(summary['folds'])}-fold on {summary['images folder']}: "
        f"{summary['right']} of {summary['images']}"
    ]
    rows = {f"fold {row['fold']}": row for row in summary["folds"]}
    rows |= {f"length {length}": row for length, row in summary["lengths"].items()}
    lines.append(metrics.table({**rows, "all": summary}))
    for row in summary["folds"]:
        lines.append(
            f"fold {row['fold']}: {row['training images']} training images, "
            f"{row['epochs']} epochs (best {row['best_epoch']}), {row['seconds']:.0f} s"
        )
    worst = sorted(summary["characters"].items(), key=lambda item: -item[1]["misread"] / item[1]["seen"])
    misread = [f"{c} {n['misread']} of {n['seen']}" for c, n in worst if n["misread"]]
    lines.append(f"misread characters: {', '.join(misread) or 'none'}")
    pairs = [f"{label or plots.EMPTY}→{text or plots.EMPTY} {n}" for label, text, n in summary["confusions"]]
    lines.append(f"read as another: {', '.join(pairs) or 'none'}")
    lines.append(f"training took {summary['seconds']:.0f} s in all")
    return "\n".join(lines)


def draw(folder, shown, name, page=100):
    """Draws readings beside their labels.

    Args:
        folder: the `Path` of the folder for the pictures.
        shown: a list of pairs of an image's `Path` and its row of `readings.csv`.
        name: the name of the pictures, before their number.
        page: the readings that one picture shows at most.
    """
    for number, start in enumerate(range(0, len(shown), page), start=1):
        paths, rows = zip(*shown[start : start + page], strict=True)
        prepared = [prepare_image(path, 200, 50) for path in paths]
        readings = [Reading(row["text"], row["confidence"]) for row in rows]
        figure = plots.result_grid(prepared, [row["label"] for row in rows], readings)
        figure.savefig(folder / f"{name}_{number}.png")


def main(arguments=None):
    """Runs the command line and returns the exit code."""
    parser = argparse.ArgumentParser(prog="crossval", description="Cross-validates the notebook.")
    parser.add_argument("data", metavar="DATA", help="the folder of labelled images")
    parser.add_argument("--folds", type=int, default=5, help="parts to cut the images into; 5")
    parser.add_argument("--seed", type=int, help="seed of the cut and the trainings; OCR_SEED, or 42")
    options = parser.parse_args(arguments)
    data_dir = Path(options.data).expanduser()
    try:
        folder, paths, readings, summary, observations = cross_validate(data_dir, options.folds, options.seed)
    except (ValueError, PapermillExecutionError) as error:
        print(error, file=sys.stderr)
        return 1
    suspects, fitted = suspect_labels(readings), summary["calibration"]
    files.write_json(folder / SUMMARY, summary)
    files.write_csv(folder / "readings.csv", readings)
    files.write_csv(folder / "suspect_labels.csv", suspects, list(readings[0]))
    wrong = [(path, row) for path, row in zip(paths, readings, strict=True) if not row["right"]]
    draw(folder, wrong, "wrong_readings")
    confusions = Counter({(label, text): count for label, text, count in summary["confusions"]})
    plots.show(plots.confusion_matrix(confusions), folder / "confusions.png")
    reliability = plots.reliability(observations, fitted["temperature"], fitted["threshold"])
    plots.show(reliability, folder / "reliability.png")
    print(describe(summary))
    print(calibration.describe(fitted))
    print(f"on these same readings: {calibration.describe_check(fitted)}")
    print(f"suspect labels: {len(suspects)}")
    for row in suspects[:20]:
        print(
            f"  {row['file']}: label {row['label']!r}, read as {row['text']!r}, "
            f"{math.exp(min(row['log_odds'], 50)):.1e} times as probable"
        )
    print(f"all of it: {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
