"""Reads images with one system, and times it, in a process of its own.

    python -m benchmarks.read_with SYSTEM FOLDER SINGLE BULK MODEL…

prints the text of the first image as soon as it has it, then a line of JSON:
milliseconds of SINGLE images one by one, seconds for BULK images at once, the
peak of memory, and what was read. FOLDER holds `test.csv` with the columns
`image_path` and `plate_text`; its images are read over and over. Nothing is
imported but what the system needs: each runs in its own environment.
"""

import csv
import itertools
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WARM_UP = 10


def reader(model, top="1", pattern=None):
    """This project's `Reader`, with a model in Keras or in ONNX."""
    from snippet_ocr.constraints import combine
    from snippet_ocr.reader import Reader

    opened = Reader.load(model)
    constraint = combine(opened.alphabet, opened.time_steps, pattern=pattern)
    return lambda paths: [reading.text for reading in opened.read(paths, constraint, int(top))]


def predict_loop(model):
    """One call of `model.predict` for each image, as in the Keras example `captcha_ocr`."""
    import zipfile

    import keras
    import numpy as np

    from snippet_ocr.images import prepare_image

    with zipfile.ZipFile(model) as archive:
        characters = json.loads(archive.read("reader.json"))["alphabet"]
    opened = keras.saving.load_model(model)
    _, width, height, _ = opened.input_shape

    def read(path):
        logits = opened.predict(prepare_image(path, width, height)[None], verbose=0)
        steps = np.full(len(logits), logits.shape[1])
        (decoded,), _ = keras.ops.ctc_decode(logits, steps, strategy="greedy", mask_index=0)
        return "".join(characters[number - 1] for number in np.array(decoded)[0] if number > 0)

    return lambda paths: [read(path) for path in paths]


def plates(model, config):
    """fast-plate-ocr, with its own class for reading."""
    from fast_plate_ocr import LicensePlateRecognizer

    opened = LicensePlateRecognizer(onnx_model_path=model, plate_config_path=config, device="cpu")
    # Its own way with many images is one batch; 64 keep memory within bounds, as here.
    return lambda paths: [
        one.plate
        for start in range(0, len(paths), 64)
        for one in opened.run(list(map(str, paths[start : start + 64])))
    ]


def tesseract(characters):
    """Tesseract's command, told that an image holds one word, and of which characters."""
    options = ["stdout", "--psm", "8", "-c", f"tessedit_char_whitelist={characters}"]

    def read(paths):
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as listed:
            listed.write("\n".join(map(str, paths)))
            listed.flush()
            done = subprocess.run(["tesseract", listed.name, *options], capture_output=True, check=True)
        # A form feed ends each page.
        return ["".join(page.split()) for page in done.stdout.decode().split("\f")[: len(paths)]]

    return read


SYSTEMS = {"reader": reader, "predict_loop": predict_loop, "plates": plates, "tesseract": tesseract}


def main():
    """Reads and times."""
    system, folder, single, bulk, *model = sys.argv[1:]
    with Path(folder, "test.csv").open(encoding="utf-8", newline="") as lines:
        paths = [Path(folder, row["image_path"]) for row in csv.DictReader(lines)]
    read = SYSTEMS[system](*model)
    print(*read(paths[:1]), flush=True)
    milliseconds = []
    for number, path in enumerate(itertools.islice(itertools.cycle(paths), WARM_UP + int(single))):
        started = time.perf_counter()
        read([path])
        if number >= WARM_UP:
            milliseconds.append(1000 * (time.perf_counter() - started))
    many = list(itertools.islice(itertools.cycle(paths), max(int(bulk), len(paths))))
    started = time.perf_counter()
    texts = read(many)
    seconds = time.perf_counter() - started
    # Kilobytes. (Of this process, getrusage would tell what its parent had when it was started.)
    own = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
    memory = max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    print(
        json.dumps(
            {
                "milliseconds": milliseconds,
                "bulk images": len(many),
                "bulk seconds": seconds,
                "megabytes": memory / 1000,
                "texts": texts[: len(paths)],
            }
        )
    )


if __name__ == "__main__":
    main()
