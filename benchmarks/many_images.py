"""A folder of 100,000 images, read with a kill in the middle.

    python -m benchmarks.many_images MODEL [--count 100000]

links to the shipped images under as many names, a thousandth of them broken,
reads them with `reader.py --out`, kills it in the middle (SIGKILL), goes on
with `--resume`, and checks that every image is in the file exactly once. The
memory of the process is looked at all along. The row is appended to
benchmarks/results/many_images.jsonl.
"""

import argparse
import csv
import hashlib
import itertools
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.study import record
from training import PROJECT

BROKEN = 1000
"""Every so many-th image is none."""


def fill(folder, count):
    """Fills a folder with links to the shipped images, some of them broken files instead."""
    shipped = sorted((PROJECT / "captcha_images").glob("*.png"))
    for number, image in zip(range(count), itertools.cycle(shipped), strict=False):
        path = folder / f"{number:07}.png"
        if number % BROKEN == BROKEN - 1:
            path.write_bytes(b"no image")
        else:
            path.symlink_to(image)


def rows_in(out):
    """The lines of a file so far, without its header."""
    return out.read_bytes().count(b"\n") - 1 if out.exists() else 0


def read(command, out, until=None):
    """Runs the reader and watches it.

    Args:
        command: the command, a list.
        out: the `Path` of the CSV that it writes.
        until: the rows after which it is killed, or None to let it end.

    Returns:
        A tuple of the seconds, a list of pairs of rows and megabytes, one a
        second, and what it wrote to stderr.
    """
    started, memory = time.monotonic(), []
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, cwd=PROJECT, stderr=errors)
        while process.poll() is None:
            time.sleep(1)
            rows = rows_in(out)
            resident = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
            if resident:
                memory.append((rows, int(resident[1]) / 1000))
            if until is not None and rows >= until:
                process.send_signal(signal.SIGKILL)
                break
        process.wait()
        errors.seek(0)
        return time.monotonic() - started, memory, errors.read()


def measure(model, count):
    """Fills a folder, reads it, kills, goes on, and checks; returns the figures, a dictionary."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, out = Path(temporary, "images"), Path(temporary, "readings.csv")
        folder.mkdir()
        fill(folder, count)
        command = [
            sys.executable,
            "-m",
            "snippet_ocr",
            os.fspath(model),
            os.fspath(folder),
            "--out",
            os.fspath(out),
        ]
        first_seconds, first_memory, _ = read(command, out, until=count // 2)
        kept = rows_in(out)
        seconds, memory, errors = read([*command, "--resume"], out)
        with out.open(encoding="utf-8", newline="") as lines:
            files = [Path(row["file"]).name for row in csv.DictReader(lines)]
        good = {path.name for path in folder.iterdir() if path.is_symlink()}
        assert len(files) == len(set(files)), "an image was read twice"
        assert set(files) == good, "an image is missing"
        assert f"{count - len(good)} of " in errors.splitlines()[-1]
        started = [megabytes for rows, megabytes in first_memory if rows > 0]
        return {
            "rows when killed": kept,
            "seconds": round(first_seconds + seconds, 1),
            "megabytes after the first second of reading": round(started[0]),
            "megabytes at most": round(max(megabytes for _, megabytes in first_memory + memory)),
            "refused": count - len(good),
            "errors": errors.splitlines()[-1],
        }


def main(arguments=None):
    """Runs the benchmark and returns the exit code."""
    parser = argparse.ArgumentParser(prog="many_images", description="Reads very many images.")
    parser.add_argument("model", metavar="MODEL", type=Path, help="a saved reader, .keras or .onnx")
    parser.add_argument("--count", type=int, default=100_000, help="images; 100000")
    options = parser.parse_args(arguments)
    if options.count < 10 * BROKEN:
        parser.error(f"expected --count of {10 * BROKEN} or more")
    model = hashlib.sha256(options.model.read_bytes()).hexdigest()[:16]
    identity = {"format": options.model.suffix, "model": model, "images": options.count}
    row = record("many_images", identity, lambda: measure(options.model.absolute(), options.count))
    for name, value in row.items():
        print(f"{name}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
