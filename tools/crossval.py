"""Cross-validation: every image is read once, by a model that never saw it.

    python -m tools.crossval DATA [--folds 5] [--seed 42]

cuts the images into folds and runs the notebook once for each, with that fold
as the test split and 40 other images for early stopping to watch. Other
parameters come from the environment, as ever: `OCR_EPOCHS=20`. Finished folds
are kept in runs/ and not run again. All readings together give the score, the
confusions, a picture of every wrong reading, and a list of suspect labels.
"""

import argparse
import csv
import hashlib
import json
import sys
from collections import Counter
from pathlib import Path

from papermill.exceptions import PapermillExecutionError

import checkpoint
import configuration
import metrics
import plots
import utils
from images import prepare_image
from reader import Reading
from tools.notebook import PROJECT, code_version, run_notebook

VALIDATION_IMAGES = 40
"""The images of each fold for early stopping; a tenth of fewer than 400, a hundredth of more than 4,000."""

SUSPICION = 0.5
"""A label is suspect if it is contradicted with at least this confidence."""


def cross_validate(data_dir, folds=5, seed=None):
    """Runs the notebook once for each fold, but for those that are finished, and gathers the readings.

    Args:
        data_dir: the `Path` of the folder of labelled images.
        folds: the number of parts the images are cut into, 2 or more.
        seed: the seed of the cut and of every training; None takes `OCR_SEED`, or 42.

    Returns:
        A tuple of the `Path` of the folder with the results, the rows of its
        `readings.csv` and the summary that is its `crossval.json`.

    Raises:
        ValueError: if there are too few images, or a parameter is out of bounds.
    """
    data_dir = data_dir.absolute()
    parameters = configuration.from_environment()
    seed = parameters.get("seed", 42) if seed is None else seed
    samples, _ = utils.find_images(data_dir, drop_copy_number=parameters.get("drop_copy_number", True))
    if not 2 <= folds <= len(samples):
        raise ValueError(f"Expected from 2 to {len(samples)} folds, as many as images. Received: {folds}")
    validation_images = min(VALIDATION_IMAGES, len(samples) // 10)
    parameters |= {"data_dir": str(data_dir), "seed": seed, "folds": folds}
    parameters["validation_share"] = max(0.01, validation_images / len(samples))
    name = f"crossval-{data_dir.name}-{_key(samples, parameters)}"
    runs = []
    for fold in range(1, folds + 1):
        run_dir = PROJECT / "runs" / f"{name}-fold-{fold}"
        if (run_dir / checkpoint.FINISHED).exists():
            print(f"fold {fold} of {folds} is finished: {run_dir}")
        else:
            print(f"fold {fold} of {folds}", flush=True)
            run_notebook({**parameters, "fold": fold, "run_name": run_dir.name})
        runs.append(run_dir)
    readings = [reading for fold, run_dir in enumerate(runs, start=1) for reading in _readings(fold, run_dir)]
    assert len({row["file"] for row in readings}) == len(readings) == _images_of(runs[0])
    folder = PROJECT / "runs" / name
    folder.mkdir(exist_ok=True)
    return folder, readings, {"images folder": data_dir.name, "seed": seed, **_summary(readings, runs)}


def _key(samples, parameters):
    """Changes with the images, the parameters and the code, so that finished folds are of this very kind."""
    settings = {name: value for name, value in parameters.items() if name not in ("data_dir", "run_name")}
    return hashlib.sha256(
        repr((checkpoint.fingerprint(samples), settings, code_version())).encode()
    ).hexdigest()[:8]


def _readings(fold, run_dir):
    with (run_dir / "test_readings.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            converted = {"confidence": float(row["confidence"]), "right": int(row["right"])}
            yield {"fold": fold, **row, **converted}


def _images_of(run_dir):
    """The images of all splits of a run together."""
    scores = json.loads((run_dir / checkpoint.FINISHED).read_text(encoding="utf-8"))["scores"]
    return sum(score["images"] for score in scores.values())


def _score(rows):
    return metrics.score([row["label"] for row in rows], [row["text"] for row in rows])


def _summary(readings, runs):
    """All figures of a cross-validation, as a dictionary that JSON can hold."""
    by_fold, by_length = [], {}
    for fold, run_dir in enumerate(runs, start=1):
        finished = json.loads((run_dir / checkpoint.FINISHED).read_text(encoding="utf-8"))
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
        "environment": checkpoint.environment(),
    }


def suspect_labels(readings, suspicion=SUSPICION):
    """Ranks the images whose label is contradicted: whoever labelled them should look again.

    The model that reads an image was trained on others, so it cannot have
    learnt the wrong label by heart. (Cross-validated predictions that are sure
    of something else point to label errors: Northcutt et al., "Confident
    Learning", JAIR 2021, <https://arxiv.org/abs/1911.00068>.)

    Args:
        readings: a list of dictionaries with `label`, `text` and `confidence`.
        suspicion: the least confidence of a reading that makes a label suspect.

    Returns:
        Those of the dictionaries that contradict their label, the surest first.
    """
    contradicted = [r for r in readings if r["text"] != r["label"] and r["confidence"] >= suspicion]
    return sorted(contradicted, key=lambda row: -row["confidence"])


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
    pairs = [
        f"{label or plots.NOTHING}→{text or plots.NOTHING} {n}" for label, text, n in summary["confusions"]
    ]
    lines.append(f"read as another: {', '.join(pairs) or 'none'}")
    lines.append(f"training took {summary['seconds']:.0f} s in all")
    return "\n".join(lines)


def draw(folder, data_dir, rows, name, page=100):
    """Draws readings beside their labels.

    Args:
        folder: the `Path` of the folder for the pictures.
        data_dir: the folder of the images.
        rows: a list of rows of `readings.csv`.
        name: the name of the pictures, before their number.
        page: the readings that one picture shows at most.
    """
    for number, start in enumerate(range(0, len(rows), page), start=1):
        shown = rows[start : start + page]
        prepared = [prepare_image(Path(data_dir, row["file"]), 200, 50) for row in shown]
        readings = [Reading(row["text"], row["confidence"]) for row in shown]
        figure = plots.result_grid(prepared, [row["label"] for row in shown], readings)
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
        folder, readings, summary = cross_validate(data_dir, options.folds, options.seed)
    except (ValueError, PapermillExecutionError) as error:
        print(error, file=sys.stderr)
        return 1
    suspects = suspect_labels(readings)
    checkpoint.write_csv(folder / "readings.csv", readings)
    checkpoint.write_csv(folder / "suspect_labels.csv", suspects, list(readings[0]))
    draw(folder, data_dir, summary["wrong"], "wrong_readings")
    confusions = Counter({(label, text): count for label, text, count in summary["confusions"]})
    plots.show(plots.confusion_matrix(confusions), folder / "confusions.png")
    checkpoint.write_json(folder / "crossval.json", summary)
    print(describe(summary))
    print(f"suspect labels: {len(suspects)}")
    for row in suspects[:20]:
        print(
            f"  {row['file']}: label {row['label']!r}, read as {row['text']!r}, "
            f"confidence {row['confidence']:.1%}"
        )
    print(f"all of it: {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
