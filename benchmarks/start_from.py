"""Next month's labels: does it pay to start from this month's reader?

    python -m benchmarks.base_reader

draws 400 images, then 100 more with two new characters, and 300 others to test
on. It trains a reader on the 400, and then on all 500: once from that reader,
once from scratch. Each training is a run of the notebook with its defaults.
The results are printed and appended to benchmarks/results/start_from.jsonl.
"""

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.study import RESULTS, use_defaults
from snippet_ocr.reader import Reader
from tools.make_captchas import ALPHABET, make_captchas
from tools.notebook import run_notebook
from training import runs
from training.labels import label_from_name
from training.metrics import score

NEW_CHARACTERS = "ak"


def train(name, data_dir, base_reader=""):
    """Runs the notebook; returns the run's folder and what its metrics.json says of the run."""
    parameters = {"data_dir": str(data_dir), "base_reader": str(base_reader)}
    run_dir = run_notebook({**parameters, "run_name": f"{name}-{time.time():.0f}"})
    return run_dir, json.loads((run_dir / runs.FINISHED).read_text(encoding="utf-8"))["run"]


def main():
    """Runs the benchmark and returns the exit code."""
    use_defaults()
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
    labels = [label_from_name(path.name) for path in test]

    first, _ = train("start_from_first", folder / "first")
    rows = []
    for way, reader in [("from the reader of the 400", first / "reader.keras"), ("from scratch", "")]:
        run_dir, run = train("start_from_both", both, reader)
        texts = [reading.text for reading in Reader.load(run_dir / "reader.keras").read(test)]
        rows.append({"way": way, "images given": 500, **score(labels, texts), **run, **runs.environment()})
    shutil.rmtree(folder)
    with (RESULTS / "start_from.jsonl").open("a", encoding="utf-8") as file:
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
