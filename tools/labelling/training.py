"""Trains and reads while someone labels: a process of low priority for each round."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from snippet_ocr import Reader, files
from tools.labelling.journal import FOLDER
from training import PROJECT, parameters
from training.transfer import BASE_READER

BASE_ONNX = PROJECT / "snippet_ocr" / "base.onnx"  # `BASE_READER`, to read with
FIRST = 20  # labels of the first round; each further round has at least twice the labels of the one before
STEPS, STEPS_FROM_BASE = 1200, 700  # of training: one or two minutes on two cores, up to 2,500 labels


def settings_of(folder, labels, base):
    """Returns the notebook's settings for a round with n labels, from the path of a base reader or ""."""
    keras = Path(base).with_suffix(".keras") if base else None  # an .onnx file cannot be trained
    base = keras if keras and keras.exists() else ""
    budget = {"epochs": max(8, (STEPS_FROM_BASE if base else STEPS) // max(30, labels // 16))}
    budget |= {"validation_share": 0.2 if labels < 100 else 0.1, "test_share": 0.01}  # others are the test
    name = f"label-{folder.name[:40]}-{time.strftime('%m%d-%H%M%S')}"
    own = {"data_dir": str(folder), "run_name": name, "base_reader": str(base)}
    return budget | parameters.from_environment() | own


class Rounds:
    """The rounds of a folder: each trains with all labels and reads the other images.

    Args:
        folder, reader: the paths of the folder of images, and of the reader of the first proposals or "".

    Attributes:
        last: the last finished round: a dictionary of `round`, `labels`, `reader`, `seconds`, and `readings`,
            a dictionary from files to lists of text and confidence.
        labels: a dictionary from the numbers of the finished rounds to the labels they were trained with.
        next: the number of labels at which the next round starts.
        error: what a round has printed last if it failed, or an empty string.
    """

    def __init__(self, folder, reader=""):
        self.folder, self.error, self._process, self._first = folder, "", None, reader
        self._log = folder / FOLDER / "training.log"
        finished = sorted((folder / FOLDER).glob("round-*.json"))
        rounds = [json.loads(path.read_text(encoding="utf-8")) for path in finished]
        rounds = [one for one in rounds if one["round"]]  # 0 is read again: by another reader, or more images
        nothing = {"round": -1 if reader else 0, "labels": 0, "reader": reader, "readings": {}}
        self.last = rounds[-1] if rounds else nothing
        self.labels = {one["round"]: one["labels"] for one in rounds}
        self.next = max(FIRST, 2 * self.last["labels"])

    def start(self, labels, unlabelled, train=True):
        """Starts a round in the background: training with n labels, if asked, and reading `unlabelled`."""
        number = self.last["round"] + 1
        self._out = self.folder / FOLDER / f"round-{number:04}.json"
        # After an error, from random weights: the labels may no longer fit the base reader.
        base = "" if self.error else self.last["reader"] or self._first
        spec = {
            "settings": settings_of(self.folder, labels, base) if train else None,
            **{"folder": str(self.folder), "out": str(self._out), "round": number, "reader": base},
            **{"labels": labels if train else 0, "files": unlabelled, "server": os.getpid()},
        }
        files.write_json(self.folder / FOLDER / "task.json", spec)
        command = [sys.executable, "-m", "tools.labelling.training", self.folder / FOLDER / "task.json"]
        with self._log.open("wb") as log:
            pipes = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
            self._process = subprocess.Popen(command, cwd=PROJECT, start_new_session=True, **pipes)
        self.error, self.next = "", 2 * labels if train else self.next

    def poll(self):
        """Returns whether a round is running; takes the readings of one that has finished."""
        if self._process is None or self._process.poll() is None:
            return self._process is not None
        if self._process.returncode:
            self.error = self.progress(".+") or "the process was killed"
        else:
            self.last = json.loads(self._out.read_text(encoding="utf-8"))
            self.labels[self.last["round"]] = self.last["labels"]
        self._process = None
        return False

    def wait(self):
        """Waits for the end of a running round."""
        while self.poll():
            self._process.wait()

    def progress(self, lines="epoch .+|reading .+"):
        """Returns the last line of the running round's output that matches a pattern, or an empty string."""
        found = re.findall(f"(?m)^(?:{lines})$", self._log.read_text(encoding="utf-8", errors="replace"))
        return found[-1] if found else ""

    def stop(self):
        """Ends a running round with all its processes."""
        if self.poll():
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait()


def onnx_of(reader):
    """Returns the path of the same reader in ONNX, which needs no TensorFlow, or `reader` if it has none."""
    onnx = BASE_ONNX if reader == BASE_READER else reader.with_suffix(".onnx")
    return onnx if onnx.exists() else reader


def _end_with(server):
    """Ends this round with all its processes once the server that has started it is gone."""
    while os.getppid() == server:
        time.sleep(1)
    os.killpg(0, signal.SIGTERM)


def main():
    """Runs the round that `Rounds.start` has described in a file."""
    os.nice(15)
    spec, started = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), time.monotonic()
    threading.Thread(target=_end_with, args=[spec["server"]], daemon=True).start()
    reader, folder, names = Path(spec["reader"]), Path(spec["folder"]), spec["files"]
    if spec["settings"]:
        from tools.notebook import run_notebook

        run_dir = run_notebook(spec["settings"])
        scores = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))["scores"]
        # A reader that has not taken off has memorised its images: nothing to show or to start from.
        reader = run_dir / "reader.keras" if scores["validation"]["right"] else None
    readings = {}
    if reader:
        print(f"reading {len(names):,} images", flush=True)
        results = Reader.load(onnx_of(reader)).read_each([folder / name for name in names])
        found = zip(names, (result for _, result in results), strict=True)
        readings = {name: one[:2] for name, one in found if not isinstance(one, ValueError) and one.text}
    row = {"reader": str(reader or ""), "seconds": round(time.monotonic() - started, 1), "readings": readings}
    files.write_json(Path(spec["out"]), {"round": spec["round"], "labels": spec["labels"], **row})


if __name__ == "__main__":
    main()
