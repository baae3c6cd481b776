"""Next month's labels: does it pay to start from this month's reader?

    python -m benchmarks.start_from

draws 400 images, then 100 more with two new characters, and 300 others to test
on. It trains a reader on the 400, and then on all 500: once from that reader,
once from scratch. Each training is a run of the notebook with its defaults.
The results are printed and appended to benchmarks/results/start_from.jsonl.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import papermill

from checkpoint import environment
from labels import label_of
from metrics import score
from reader import Reader
from tools.make_captchas import ALPHABET, make_captchas
from tools.notebook import NOTEBOOK, PROJECT

RESULTS = PROJECT / "benchmarks" / "results" / "start_from.jsonl"
NEW_CHARACTERS = "ak"


def train(name, data_dir, start_from=""):
    """Runs the notebook; returns the run's folder and what its metrics.json says of the run."""
    for variable in [variable for variable in os.environ if variable.startswith("OCR_")]:
        del os.environ[variable]  # the defaults are measured
    parameters = {"data_dir": str(data_dir), "start_from": str(start_from), "run_name": name}
    papermill.execute_notebook(NOTEBOOK, None, parameters, cwd=PROJECT, progress_bar=False)
    run_dir = max((PROJECT / "runs").glob(f"{name}*"), key=lambda path: path.stat().st_mtime)
    return run_dir, json.loads((run_dir / "metrics.json").read_text())["run"]


def main():
    """Runs the benchmark and returns the exit code."""
    folder = Path(tempfile.mkdtemp())
    for name, count, alphabet, seed in [
        ("first", 400, ALPHABET, 1),
        ("second", 100, ALPHABET + NEW_CHARACTERS, 2),
        ("test", 300, ALPHABET + NEW_CHARACTERS, 3),
    ]:
        make_captchas(count, (5, 5), alphabet, out=folder / name, seed=seed)
    both = shutil.copytree(folder / "first", folder / "both" / "first").parent
    shutil.copytree(folder / "second", both / "second")
    test = sorted((folder / "test").iterdir())
    labels = [label_of(path.name) for path in test]

    first, _ = train("start_from_first", folder / "first")
    rows = []
    for way, reader in [("from the reader of the 400", first / "reader.keras"), ("from scratch", "")]:
        run_dir, run = train("start_from_both", both, reader)
        texts = [reading.text for reading in Reader.load(run_dir / "reader.keras").read(test)]
        rows.append({"way": way, "images given": 500, **score(labels, texts), **run, **environment()})
    shutil.rmtree(folder)
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")
            print(
                f"{row['way']:<28} {row['right']} of {row['images']} test images right "
                f"({row['interval'][0]:.1%} to {row['interval'][1]:.1%}), {row['epochs']} epochs, "
                f"{row['seconds']:.0f} s"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
