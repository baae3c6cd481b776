"""A training's folder, and the checkpoint from which a killed training goes on."""

import atexit
import csv
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import filelock
import keras
import numpy as np

from snippet_ocr import files
from snippet_ocr.terminal import printable
from training import distribution
from training.configuration import PROJECT

CHECKPOINT = "checkpoint.npz"
"""The file from which a killed training goes on."""

FINISHED = "metrics.json"
"""The file that a run writes last: a run that has it is finished."""

LOCK = ".lock"
"""The file that a run holds a lock on for as long as its process lives, so that no other writes beside it."""

_locks = []
"""The locks that this process holds; one that nothing refers to would be given up."""


def fingerprint(samples):
    """A short name for a set of labelled images: the same bytes and labels give the same name.

    Args:
        samples: a list of `utils.Sample`s, in any order.

    Returns:
        16 hexadecimal digits.
    """
    listed = sorted((sample.digest, sample.label) for sample in samples)
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]


def open_run(runs_dir, name, numbered, parameters, model, splits):
    """Finds the folder for a training: that of an unfinished run of the same kind, or a new one.

    A run goes on only if its parameters (but for the target precision, which
    trains nothing), its model's configuration and its images are those of now,
    and no other process is training there. A finished run is never touched.

    Of several hosts that train together, the first one opens the run and gives
    the others its checkpoint. Theirs is a folder that is deleted in the end.

    Args:
        runs_dir: the folder of all runs.
        name: the name of the run.
        numbered: whether the first run bears a number too: `name-1`, and not
            just `name`. Later ones are `name-2`, `name-3` …
        parameters: the dictionary of the notebook's parameters.
        model: the Keras model that is to be trained.
        splits: a dictionary from the names of the splits to their lists of `utils.Sample`s.

    Returns:
        A tuple of the folder's `Path` and a message that says why this one.

    Raises:
        ValueError: if several hosts train together and something of this, or a
            version, is not the same on all of them.
    """
    identity = {
        **{f"parameter {key}": value for key, value in parameters.items() if key != "target_precision"},
        "model configuration": hashlib.sha256(model.to_json().encode()).hexdigest()[:16],
        **{f"{split} images": fingerprint(samples) for split, samples in splits.items()},
    }
    facts = {**identity, **environment(), "first weights": _digest(model.get_weights())}
    for may_differ in ("parameter data_dir", "parameter start_from", "machine"):
        facts.pop(may_differ, None)
    distribution.compare(facts)
    if distribution.host() == 0:
        folder, message = _find_folder(runs_dir, name, numbered, identity)
    else:
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        message = f"the first host keeps what the training leaves; here it is {folder}, until the end"
    saved = folder / CHECKPOINT
    content = distribution.from_first(saved.read_bytes() if saved.exists() else b"")
    if content and not saved.exists():
        saved.write_bytes(content)
    return folder, message


def _digest(arrays):
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:16]


def _find_folder(runs_dir, name, numbered, identity):
    """Finds the folder for a training, as `open_run` does; returns it and why this one."""
    passed_over = []
    number = 1
    while True:
        folder = Path(runs_dir, name if number == 1 and not numbered else f"{name}-{number}").absolute()
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
        difference = _difference(folder, identity) or _lock(folder) or _difference(folder, identity)
        if difference is None and _is_empty(folder):
            write_json(folder / "config.json", {"identity": identity, "environment": environment()})
            return folder, "\n".join([*passed_over, f"new run: {folder}"])
        if difference is None:
            return folder, f"goes on with the unfinished run: {folder}"
        passed_over.append(f"leaves {folder.name} alone: {difference}")
        number += 1


def _lock(folder):
    """Locks a run's folder until this process ends; returns why that cannot be, or None."""
    lock = filelock.FileLock(folder / LOCK, is_singleton=True)  # a notebook's cell may run twice
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return "another process is training there"
    _locks.append(lock)
    return None


def _is_empty(folder):
    """Whether a run is new, or was killed before it had written its first file."""
    return all(path.name in (LOCK, "config.unfinished.json") for path in folder.iterdir())


def _difference(folder, identity):
    """Why a run cannot go on, or begin in an empty folder; None if it can."""
    if not folder.is_dir():
        return "it is no folder"
    if _is_empty(folder):
        return None
    if (folder / FINISHED).exists():
        return "it is finished"
    try:
        before = json.loads((folder / "config.json").read_text(encoding="utf-8"))["identity"]
    except (OSError, ValueError, KeyError):
        return "it holds no readable config.json"
    changed = [key for key in identity if before.get(key) != identity[key]]
    if not changed:
        return None
    return "; ".join(f"{key} changed from {before.get(key)!r} to {identity[key]!r}" for key in changed)


def commit():
    """The commit of the project's code, with `-dirty` where files were changed since; None without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def environment():
    """What the training ran on: code, versions, backend and machine, as a dictionary."""
    packages = ["keras", "tensorflow", "numpy", "pillow"]
    if keras.backend.backend() == "jax":
        packages.append("jax")
    return {
        "commit": commit(),
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in packages},
        "backend": keras.backend.backend(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def write_json(path, content):
    """Writes a JSON file, which is whole or not there."""
    with files.whole(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_csv(path, rows, columns=None):
    """Writes a table as CSV, which is whole or not there.

    Args:
        path: the `Path` of the file.
        rows: a list of dictionaries with the same keys.
        columns: those keys; needed only where there may be no row.
    """
    with (
        files.whole(path) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.DictWriter(file, fieldnames=columns or list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_readings(path, images_dir, samples, readings):
    """Writes a CSV with a line for each labelled image: file, label, text, confidence, right (0 or 1).

    Args:
        path: the `Path` of the file to write.
        images_dir: the folder that the files' names are relative to.
        samples: a list of `utils.Sample`s.
        readings: a list of as many `reader.Reading`s.
    """
    rows = [
        {
            "file": printable(sample.path.relative_to(images_dir)),
            "label": sample.label,
            "text": reading.text,
            "confidence": reading.confidence,
            "right": int(sample.label == reading.text),
        }
        for sample, reading in zip(samples, readings, strict=True)
    ]
    write_csv(path, rows)


class Checkpoint(keras.callbacks.Callback):
    """Saves the whole training after every epoch, and brings it back.

    One file holds the weights, their average, the optimizer, the seed
    generators, early stopping with its best weights, and the history. It is
    written beside its place and moved there: a kill at any moment leaves the
    last whole one. `history.csv` beside it is written anew from it.

    It must be the last of the three in the list of callbacks: what `averaging`
    and `early_stopping` make of an epoch is saved with it.

    Args:
        folder: the run's folder.
        averaging: the `keras.callbacks.SwapEMAWeights` of the same training,
            with `swap_on_epoch=True`.
        early_stopping: the `EarlyStopping` of the same training.

    Attributes:
        history: a list with a dictionary for each finished epoch: `epoch`
            (counted from 1), the logs of Keras, `learning_rate`, `seconds`.
    """

    STOPPING = ("best", "best_epoch", "wait", "stopped_epoch", "taken_off")

    def __init__(self, folder, averaging, early_stopping):
        super().__init__()
        self.path = Path(folder) / CHECKPOINT
        self.averaging = averaging
        self.early_stopping = early_stopping
        self.history = []
        if self.path.exists():
            with np.load(self.path) as saved:
                self.history = json.loads(str(saved["history"]))
                early_stopping.stopped_epoch = json.loads(str(saved["early stopping"]))["stopped_epoch"]

    @property
    def epochs_done(self):
        """The finished epochs; the `initial_epoch` of `fit`."""
        return len(self.history)

    def last_epoch(self, epochs):
        """The `epochs` of `fit`: those wanted, or those done if early stopping ended the training."""
        return self.epochs_done if self.early_stopping.stopped_epoch > 0 else epochs

    def summary(self):
        """The training in short: epochs, the best of them, seconds and the machine, as a dictionary."""
        return {
            "epochs": self.epochs_done,
            "best_epoch": self.early_stopping.best_epoch + 1,
            "seconds": round(sum(row["seconds"] for row in self.history), 1),
            "machine": environment()["machine"],
        }

    def on_train_begin(self, logs=None):
        if not self.path.exists():
            return
        with np.load(self.path) as saved:
            for number, variable in enumerate(self._variables()):
                variable.assign(saved[f"variable {number}"])
            stopping = json.loads(str(saved["early stopping"]))
            weights = [saved[f"best weight {number}"] for number in range(len(self.model.weights))]
        self.early_stopping.best_weights = weights
        for name, value in stopping.items():
            setattr(self.early_stopping, name, value)

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        row = {key: float(value) for key, value in logs.items()}
        row["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        row = {"epoch": epoch + 1, **row, "seconds": time.monotonic() - self.started}
        # Between epochs the model holds the averaged weights. What training goes on with are the others.
        self.averaging.on_epoch_begin(epoch)
        self._save([*self.history, row])
        self.averaging.on_epoch_end(epoch)
        write_csv(self.path.with_name("history.csv"), self.history)

    def _save(self, history):
        stopping = {name: getattr(self.early_stopping, name) for name in self.STOPPING}
        variables = map(keras.ops.convert_to_numpy, self._variables())
        content = {f"variable {number}": variable for number, variable in enumerate(variables)}
        content |= {f"best weight {number}": w for number, w in enumerate(self.early_stopping.best_weights)}
        content |= {"early stopping": json.dumps(stopping), "history": json.dumps(history)}
        with files.whole(self.path) as unfinished:
            np.savez(unfinished, **content)
        self.history = history  # An epoch counts once it is saved.

    def _variables(self):
        """Everything that training changes: weights, seed generators, the optimizer's memory."""
        self.model.optimizer.build(self.model.trainable_variables)
        return [*self.model.variables, *self.model.optimizer.variables]
