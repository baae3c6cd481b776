"""A training's folder, and the checkpoint from which a killed training goes on."""

import atexit
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import filelock
import keras

from snippet_ocr import files
from snippet_ocr.terminal import printable
from training import PROJECT, devices

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


def open_run(runs_dir, name, numbered, settings, model, splits):
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
        settings: the dictionary of the notebook's parameters.
        model: the Keras model that is to be trained.
        splits: a dictionary from the names of the splits to their lists of `utils.Sample`s.

    Returns:
        A tuple of the folder's `Path` and a message that says why this one.

    Raises:
        ValueError: if several hosts train together and something of this, or a
            version, is not the same on all of them.
    """
    identity = {
        **{f"parameter {key}": value for key, value in settings.items() if key != "target_precision"},
        "model configuration": hashlib.sha256(model.to_json().encode()).hexdigest()[:16],
        **{f"{split} images": fingerprint(samples) for split, samples in splits.items()},
    }
    facts = {**identity, **environment(), "first weights": _digest(model.get_weights())}
    for may_differ in ("parameter data_dir", "parameter base_reader", "machine"):
        facts.pop(may_differ, None)
    devices.require_same(facts)
    if devices.host() == 0:
        folder, message = _find_folder(runs_dir, name, numbered, identity)
    else:
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        message = f"the first host keeps what the training leaves; here it is {folder}, until the end"
    saved = folder / CHECKPOINT
    content = devices.broadcast(saved.read_bytes() if saved.exists() else b"")
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
            files.write_json(folder / "config.json", {"identity": identity, "environment": environment()})
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
    files.write_csv(path, rows)
