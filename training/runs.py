"""Run folders: one per training; an interrupted training resumes in its own."""

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path

import filelock
import keras

from snippet_ocr import files
from snippet_ocr.terminal import printable
from training import PROJECT

CHECKPOINT = "checkpoint.npz"  # the state of the training, from which an interrupted run resumes
FINISHED = "metrics.json"  # written last, so a run that has it is finished
DONE = "it is finished"  # why a run cannot resume
LOCK = ".lock"  # locked while a process trains in the folder
_locks = []  # references to the acquired locks: a lock is released when it is garbage-collected


def fingerprint(samples):
    """Returns 16 hexadecimal digits that identify the images and labels of `utils.Sample`s in any order."""
    return _digest(json.dumps(sorted((sample.digest, sample.label) for sample in samples)).encode())


def _digest(content):
    return hashlib.sha256(content).hexdigest()[:16]


def open_run(runs_dir, name, numbered, settings, model, splits):
    """Opens the folder of a training: an unfinished run that can resume, or else a new folder.

    A run can resume if its settings (except the target precision), its model configuration and its images are
    the same, and if no other process is training in its folder. Finished runs are never changed.

    Args:
        runs_dir, name: the folder of all runs, and the name of the run.
        numbered: whether the first folder is `name-1` instead of `name`. The second is `name-2` either way.
        settings, model: a dictionary of all settings of the notebook, and the Keras model to train.
        splits: a dictionary from the names of the splits to lists of `utils.Sample`s.

    Returns:
        A tuple of the folder's `Path` and a message that explains the choice.
    """
    irrelevant = ("data_dir", "unlabelled_dir", "target_precision")  # the images are compared by content
    identity = {f"parameter {key}": value for key, value in settings.items() if key not in irrelevant}
    identity["model configuration"] = _digest(model.to_json().encode())
    identity |= {f"{split} images": fingerprint(samples) for split, samples in splits.items()}
    return _find_folder(runs_dir, name, numbered, identity)


def _find_folder(runs_dir, name, numbered, identity):
    """Finds the first folder that is new or can resume; returns it and the message of `open_run`."""
    skipped = []
    while True:
        number = len(skipped) + 1
        folder = Path(runs_dir, name if number == 1 and not numbered else f"{name}-{number}").absolute()
        if not os.path.lexists(folder):  # a broken link is not a folder
            folder.mkdir(parents=True, exist_ok=True)
        # Checked again under the lock: until then, another process may have changed the folder.
        obstacle = _obstacle(folder, identity) or _lock(folder) or _obstacle(folder, identity)
        if obstacle:
            skipped.append(f"skipping {folder.name}: {obstacle}")
        elif _is_empty(folder):
            files.write_json(folder / "config.json", {"identity": identity, "environment": environment()})
            lines = [line for line in skipped if not line.endswith(DONE)]
            kept = len(skipped) - len(lines)
            lines.append(f"new run: {folder}" + (f" (finished runs, kept: {kept})" if kept else ""))
            return folder, "\n".join(lines)
        else:
            return folder, f"resuming {folder}"


def _lock(folder):
    """Locks a folder until this process ends; returns the obstacle, or an empty string."""
    lock = filelock.FileLock(folder / LOCK, is_singleton=True)  # a notebook's cell may run twice
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return "another process is training there"
    _locks.append(lock)
    return ""


def _is_empty(folder):
    """Returns whether a run is new, or was killed before it wrote its first file."""
    return all(path.name in (LOCK, "config.unfinished.json") for path in folder.iterdir())


def _obstacle(folder, identity):
    """Returns the reason why a run cannot start or resume in a folder, or an empty string."""
    if not folder.is_dir():
        return "it is not a folder"
    if _is_empty(folder):
        return ""
    if (folder / FINISHED).exists():
        return DONE
    try:
        before = dict(json.loads((folder / "config.json").read_text(encoding="utf-8"))["identity"])
    except (OSError, ValueError, KeyError, TypeError):
        return "it has no readable config.json"
    return "; ".join(
        f"{key.removeprefix('parameter ')} changed from {before.get(key)!r} to {value!r}"
        for key, value in identity.items()
        if before.get(key) != value
    )


def commit():
    """Returns the project's git commit, with `-dirty` if files have changed since; None without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def environment():
    """Returns a dictionary of the commit, the package versions, the backend and the machine."""
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


def provenance(samples, settings, score, calibrated):
    """Returns what a reader's file records of its training: a dictionary."""
    return {
        "images": fingerprint(samples),
        "parameters": settings,
        "test": score,
        "calibration": calibrated,
        "environment": environment(),
    }


def finish(folder, checkpoint, settings, scores, calibrated):
    """Writes `FINISHED` unless the training was interrupted; returns a summary with warnings, as text."""
    run = {**checkpoint.summary(), "seed": settings["seed"]}
    lines = [", ".join(f"{name.replace('_', ' ')} {value}" for name, value in run.items())]
    if not checkpoint.early_stopping.taken_off:
        lines.append("WARNING: no validation image was ever read correctly. Train again with more epochs.")
    if checkpoint.epochs_done == checkpoint.last_epoch(settings["epochs"]):
        files.write_csv(folder / "history.csv", checkpoint.history)  # may be that of a later round
        files.write_json(folder / FINISHED, {"scores": scores, "run": run, "calibration": calibrated})
    else:
        lines.append("The training was interrupted. Run its cell or the notebook again to resume it.")
    return "\n".join(lines)


def write_readings(path, images_dir, samples, readings):
    """Writes a CSV with a row per sample: file (relative to `images_dir`), label, text, confidence, right (0
    or 1).
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
    files.write_csv(path, rows)
