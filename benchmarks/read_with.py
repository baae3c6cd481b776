"""Reads images with one system and times it, in its own process.

    python -m benchmarks.read_with SYSTEM FOLDER SINGLE BULK [ARGUMENT…]

prints the text of the first image as soon as it is read, then a line of JSON:
the milliseconds of SINGLE images read one by one, the seconds of BULK images
read in one call, the peak memory, and the texts. FOLDER contains `test.csv`
with the columns `image_path` and `plate_text`; its images are read repeatedly.
Each system imports only what it needs, because each runs in its own environment.
"""

import csv
import functools
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.memory import process_memory

WARM_UP = 10
"""Images that are read before the time is taken."""


def reader(model, top="1", pattern=None):
    """Reads with this project's `Reader`, from a Keras or an ONNX file."""
    from snippet_ocr.reader import Reader

    loaded = Reader.load(model)
    return lambda paths: [reading.text for reading in loaded.read(paths, pattern=pattern, top=int(top))]


def predict_loop(model):
    """Calls `model.predict` for each image, as the Keras example `captcha_ocr` does."""
    import zipfile

    import keras
    import numpy as np

    from snippet_ocr.images import load_fitted

    with zipfile.ZipFile(model) as archive:
        metadata = json.loads(archive.read("reader.json"))
    characters, sizes = metadata["alphabet"], (metadata["widths"], metadata["image_height"])
    loaded = keras.saving.load_model(model)

    def read(path):
        logits = loaded.predict(load_fitted(path, *sizes)[None], verbose=0)  # (1, steps, classes)
        steps = np.full(len(logits), logits.shape[1])
        (decoded,), _ = keras.ops.ctc_decode(logits, steps, strategy="greedy", mask_index=0)
        return "".join(characters[number - 1] for number in np.array(decoded)[0] if number > 0)

    return lambda paths: [read(path) for path in paths]


def plates(model, config):
    """Reads with fast-plate-ocr's own recogniser."""
    from fast_plate_ocr import LicensePlateRecognizer

    recogniser = LicensePlateRecognizer(onnx_model_path=model, plate_config_path=config, device="cpu")
    # It puts all images of a call into one batch. Batches of 64 limit its memory, as in this project.
    return lambda paths: [
        found.plate
        for start in range(0, len(paths), 64)
        for found in recogniser.run(list(map(str, paths[start : start + 64])))
    ]


def tesseract(*options):
    """Reads with Tesseract's command and its options."""

    def read(paths):
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as listed:
            listed.write("\n".join(map(str, paths)))
            listed.flush()
            command = ["tesseract", listed.name, "stdout", *options]
            done = subprocess.run(command, capture_output=True, check=True)
        # A form feed ends each page.
        return [" ".join(page.split()) for page in done.stdout.decode().split("\f")[: len(paths)]]

    return read


def rapidocr():
    """Reads with PP-OCRv6 small, without the detection of text."""
    from rapidocr import RapidOCR

    engine = RapidOCR(params={"Global.log_level": "error"})
    read = functools.partial(engine, use_det=False, use_cls=False)
    return lambda paths: ["".join(read(str(path)).txts or ()) for path in paths]


def ddddocr():
    """Reads with the newer of ddddocr's models, which its documentation recommends for captchas."""
    from ddddocr import DdddOcr

    engine = DdddOcr(beta=True, show_ad=False)
    return lambda paths: [engine.classification(path.read_bytes(), png_fix=True) for path in paths]


def kraken(model, order):
    """Reads with a model that `benchmarks.kraken_baseline` trained; each image is a line."""
    from kraken.configs import RecognitionInferenceConfig
    from kraken.containers import BBoxLine, Segmentation
    from kraken.tasks import RecognitionTaskModel
    from PIL import Image

    recogniser = RecognitionTaskModel.load_model(model)
    options = {"accelerator": "cpu", "device": "auto", "num_threads": 2, "num_line_workers": 0}
    config = RecognitionInferenceConfig(bidi_reordering=order == "logical", **options)

    def read(path):
        image = Image.open(path)
        line = BBoxLine(id="line", bbox=(0, 0, *image.size))
        page = Segmentation(
            type="bbox",
            imagename=str(path),
            text_direction="horizontal-lr",
            script_detection=False,
            lines=[line],
        )
        return "".join(record.prediction for record in recogniser.predict(image, page, config))

    return lambda paths: list(map(read, paths))


SYSTEMS = {
    system.__name__: system for system in (reader, predict_loop, plates, tesseract, rapidocr, ddddocr, kraken)
}


def main():
    """Reads with one system and prints the figures."""
    system, folder, single, bulk, *arguments = sys.argv[1:]
    with Path(folder, "test.csv").open(encoding="utf-8", newline="") as lines:
        paths = [Path(folder, row["image_path"]) for row in csv.DictReader(lines)]
    read = SYSTEMS[system](*arguments)
    print(*read(paths[:1]), flush=True)
    milliseconds = []
    for number, path in enumerate(itertools.islice(itertools.cycle(paths), WARM_UP + int(single))):
        started = time.perf_counter()
        read([path])
        if number >= WARM_UP:
            milliseconds.append(1000 * (time.perf_counter() - started))
    repeated = list(itertools.islice(itertools.cycle(paths), max(int(bulk), len(paths))))
    started = time.perf_counter()
    texts = read(repeated)
    figures = {
        "milliseconds": milliseconds,
        "bulk images": len(repeated),
        "bulk seconds": time.perf_counter() - started,
        # Tesseract runs in child processes, whose peak getrusage gives in kilobytes.
        "bytes": max(process_memory(), 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss),
        "texts": texts[: len(paths)],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
