"""New labels arrive: does it help to start from the previous reader?

    python -m benchmarks.start_from

draws 400 images, 100 more with two new characters, and 300 others for the
test. It trains a reader on the 400, and then on all 500: once from that reader,
once from scratch. Each training is a run of the notebook with its defaults. The
rows are printed and appended to benchmarks/results/start_from.jsonl.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import utils
from benchmarks.study import CAPTCHA_ALPHABET, append_row, draw_captchas, use_defaults
from snippet_ocr.reader import Reader
from tools.notebook import run_notebook
from training import runs
from training.metrics import score

NEW_CHARACTERS = "ak"


def train(name, data_dir, base_reader=""):
    """Runs the notebook; returns the run's folder and the part `run` of its `metrics.json`."""
    settings = {"data_dir": str(data_dir), "base_reader": str(base_reader)}
    run_dir = run_notebook({**settings, "run_name": f"{name}-{time.time():.0f}"})
    return run_dir, json.loads((run_dir / runs.FINISHED).read_text(encoding="utf-8"))["run"]


def main():
    """Runs the benchmark and returns the exit code."""
    use_defaults()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, count, alphabet, seed in [
            ("all/old", 400, CAPTCHA_ALPHABET, 1),
            ("all/new", 100, CAPTCHA_ALPHABET + NEW_CHARACTERS, 2),
            ("test", 300, CAPTCHA_ALPHABET + NEW_CHARACTERS, 3),
        ]:
            draw_captchas(folder / name, count, alphabet=alphabet, seed=seed)
        samples, _ = utils.find_images(folder / "test")
        test, labels = [sample.path for sample in samples], [sample.label for sample in samples]

        first, _ = train("start_from_first", folder / "all" / "old")
        for way, reader in [("from the reader of the 400", first / "reader.keras"), ("from scratch", "")]:
            run_dir, run = train("start_from_both", folder / "all", reader)
            texts = [reading.text for reading in Reader.load(run_dir / "reader.keras").read(test)]
            figures = {"way": way, "images given": 500, **score(labels, texts), **run}
            row = append_row("start_from", figures)
            print(
                f"{way:<28} {row['right']} of {row['images']} test images right "
                f"({row['interval'][0]:.1%} to {row['interval'][1]:.1%}), {row['epochs']} epochs, "
                f"{row['seconds']:.0f} s"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
