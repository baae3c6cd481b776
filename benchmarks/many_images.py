"""Reads a folder of 100,000 images, with a kill halfway.

    python -m benchmarks.many_images MODEL [--count 100000]

fills a folder with links to the included images and makes every thousandth
file a broken one. `snippet_ocr read --out` reads the folder, is killed halfway
(SIGKILL), and continues with `--resume`. At the end, every good image must be
in the CSV exactly once. The memory of the process is sampled every second. The
row is appended to benchmarks/results/many_images.jsonl.
"""

import argparse
import csv
import hashlib
import itertools
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.memory import CURRENT, process_memory
from benchmarks.study import record
from training import PROJECT

BROKEN_INTERVAL = 1000
"""Every 1000th file is broken."""


def fill(folder, count):
    """Fills a folder with `count` files: links to the included images, and broken files."""
    included = sorted((PROJECT / "captcha_images").glob("*.png"))
    for number, image in zip(range(count), itertools.cycle(included), strict=False):
        path = folder / f"{number:07}.png"
        if number % BROKEN_INTERVAL == BROKEN_INTERVAL - 1:
            path.write_bytes(b"no image")
        else:
            path.symlink_to(image)


def count_rows(out):
    """Returns the number of rows in a CSV file so far, without its header."""
    return out.read_bytes().count(b"\n") - 1 if out.exists() else 0


def read_command(model, folder, out):
    """Returns the command that reads a folder into a CSV file."""
    return [sys.executable, "-m", "snippet_ocr", "read", str(model), str(folder), "--out", str(out)]


def read(command, out, kill_after=None):
    """Runs the command that reads, and samples its memory.

    Args:
        command: the command, a list.
        out: the `Path` of the CSV file that it writes.
        kill_after: the number of rows after which it is killed, or None.

    Returns:
        A tuple of the seconds, a list of pairs of rows and megabytes (one per
        second), and the text that it wrote to stderr.
    """
    started, samples = time.monotonic(), []
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, cwd=PROJECT, stderr=errors)
        while process.poll() is None:
            time.sleep(1)
            rows = count_rows(out)
            memory = process_memory(CURRENT, process.pid)
            if memory:
                samples.append((rows, memory / 1e6))
            if kill_after is not None and rows >= kill_after:
                process.send_signal(signal.SIGKILL)
                break
        process.wait()
        errors.seek(0)
        return time.monotonic() - started, samples, errors.read()


def measure(model, count):
    """Reads a folder with a kill halfway, resumes, and checks the CSV; returns the figures."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, out = Path(temporary, "images"), Path(temporary, "readings.csv")
        folder.mkdir()
        fill(folder, count)
        command = read_command(model, folder, out)
        seconds_before, samples_before, _ = read(command, out, kill_after=count // 2)
        rows_when_killed = count_rows(out)
        seconds_after, samples_after, errors = read([*command, "--resume"], out)
        with out.open(encoding="utf-8", newline="") as lines:
            names = [Path(row["file"]).name for row in csv.DictReader(lines)]
        good = {path.name for path in folder.iterdir() if path.is_symlink()}
        last_error = errors.splitlines()[-1]
        assert len(names) == len(set(names)), "an image was read twice"
        assert set(names) == good, "an image is missing"
        assert last_error.startswith(f"{count - len(good)} of ")
        return {
            "rows when killed": rows_when_killed,
            "seconds": round(seconds_before + seconds_after, 1),
            "megabytes after the first second of reading": round(
                next(megabytes for rows, megabytes in samples_before if rows > 0)
            ),
            "megabytes at most": round(max(megabytes for _, megabytes in samples_before + samples_after)),
            "refused": count - len(good),
            "errors": last_error,
        }


def main(arguments=None):
    """Runs the benchmark and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.many_images", description="Reads very many images, with a kill halfway."
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="a saved reader, .keras or .onnx")
    parser.add_argument("--count", type=int, default=100_000, help="number of images (default: 100000)")
    options = parser.parse_args(arguments)
    if options.count < 10 * BROKEN_INTERVAL:
        parser.error(f"expected --count of at least {10 * BROKEN_INTERVAL}, received {options.count}")
    model = hashlib.sha256(options.model.read_bytes()).hexdigest()[:16]
    identity = {"format": options.model.suffix, "model": model, "images": options.count}
    row = record("many_images", identity, lambda: measure(options.model.absolute(), options.count))
    for name, value in row.items():
        print(f"{name}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
