"""How fast a trained reader reads, compared with other ways and other systems.

    python -m benchmarks.reading MODEL

reads the test images of MODEL, a `reader.keras` of the notebook, repeatedly:
with `Reader` on Keras and on ONNX, with a loop over `model.predict`, with
fast-plate-ocr trained on the same images, with PP-OCRv6 small, and with
Tesseract. Each system runs in its own process, one after the other, and opens
each image from its file. The row is appended to benchmarks/results/reading.jsonl.

`make .venv-fast-plate-ocr/installed .venv-rapidocr/installed` installs two of
them, Tesseract needs Debian's package tesseract-ocr. A system that is not
installed is skipped.
"""

import argparse
import hashlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx

import utils
from benchmarks.speed import PLATES_PYTHON, write_split
from benchmarks.study import markdown_table, record, use_defaults
from snippet_ocr.reader import Reader
from training import PROJECT, image_size, metrics, parameters, runs

KERAS, ONNX, TOP, PATTERN, LOOP, PLATES, RAPIDOCR, TESSERACT = (
    "Reader on Keras",
    "Reader on ONNX",
    "Reader on ONNX, --top 3",
    "Reader on ONNX, --pattern ?????",
    "model.predict for each image",
    "fast-plate-ocr 1.1.0 on ONNX",
    "PP-OCRv6 small, RapidOCR 3.10.0",
    "Tesseract 5",
)
COUNTS = {
    KERAS: (300, 5000),
    ONNX: (1000, 5000),
    TOP: (300, 2000),
    PATTERN: (300, 2000),
    LOOP: (200, 200),
    PLATES: (1000, 5000),
    RAPIDOCR: (300, 500),
    TESSERACT: (50, 100),
}
"""The number of images read one by one, and in one call."""

RAPIDOCR_PYTHON = PROJECT / ".venv-rapidocr" / "bin" / "python"
INSTALLED = {
    PLATES: PLATES_PYTHON.exists,
    RAPIDOCR: RAPIDOCR_PYTHON.exists,
    TESSERACT: lambda: shutil.which("tesseract") is not None,
}
"""Functions that check whether a foreign system is installed."""

PLATES_SECONDS = 240
"""The time limit of fast-plate-ocr's training."""


def splits_of(reader):
    """Returns the images that a reader was trained, validated and tested on.

    Args:
        reader: a `Reader` that the notebook saved.

    Returns:
        A dictionary from the name of the split to a list of `utils.Sample`s.
        The validation split is called `unseen`, as `benchmarks.speed` calls it.

    Raises:
        ValueError: if the folder's images differ from those of the training.
    """
    settings = reader.provenance["parameters"]
    data_dir = parameters.resolve(settings["data_dir"])
    max_time_steps = image_size.max_time_steps(settings["image_width"])
    names = "drop_copy_number", "group_by", "allow_empty"
    samples, _ = utils.find_images(data_dir, max_time_steps, **{name: settings[name] for name in names})
    if runs.fingerprint(samples) != reader.provenance["images"]:
        raise ValueError(
            f"Expected the images that the reader was trained on in {data_dir}, but the images there differ. "
            "Restore them, or train a new reader."
        )
    names = ("seed", "validation_share", "test_share", "fold", "folds")
    splits = utils.split_data(samples, **{name: settings[name] for name in names})
    return dict(zip(("training", "unseen", "test"), splits, strict=True))


def run_plates(folder, *options):
    """Trains fast-plate-ocr on a split that `write_split` wrote, with options of its baseline."""
    program = [str(PLATES_PYTHON), "-m", "benchmarks.fast_plate_ocr_baseline"]
    subprocess.run([*program, folder, folder / "curve.csv", *map(str, options)], cwd=PROJECT, check=True)


def train_plates(folder, kept, *options):
    """Trains fast-plate-ocr on a split, unless that has been done, and exports it with its own command.

    Args:
        folder: the `Path` of a folder that `write_split` filled.
        kept: the `Path` of the folder for the model.
        *options: options of `benchmarks.fast_plate_ocr_baseline`.

    Returns:
        A list of the paths of the ONNX model and of its configuration.
    """
    model, config, onnx_model = kept / "best.keras", kept / "plate_config.yaml", kept / "best.onnx"
    if not model.exists():
        run_plates(folder, *options)
        (trained,) = (folder / "trained").iterdir()
        kept.mkdir(parents=True, exist_ok=True)
        for file in (config, model):  # the model comes last: its presence marks a finished training
            shutil.copy(trained / file.name, file)
    command = [PLATES_PYTHON.with_name("fast-plate-ocr"), "export", "--model", model]
    # The command writes the file, and then fails because it cannot load `Erfc`.
    subprocess.run([*command, "--plate-config-file", config], stderr=subprocess.DEVNULL)
    replace_erfc(onnx_model)
    return [onnx_model, config]


def replace_erfc(path):
    """Replaces `Erfc` nodes by `1 - Erf` in an ONNX file.

    tf2onnx writes them for a GELU, but no ONNX runtime supports them.
    """
    model = onnx.load(path)
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Erfc":
            (value,), (output,) = node.input, node.output
            nodes.append(onnx.helper.make_node("Erf", [value], [f"{output}/erf"]))
            nodes.append(onnx.helper.make_node("Sub", ["one", f"{output}/erf"], [output]))
        else:
            nodes.append(node)
    if len(nodes) > len(model.graph.node):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1.0, "float32"), "one"))
        del model.graph.node[:]
        model.graph.node.extend(nodes)
    onnx.save(model, path)


def run_system(name, command):
    """Runs `benchmarks.read_with`; returns the dictionary it prints, and the seconds to the first text."""
    print(name, flush=True)
    started = time.perf_counter()
    process = subprocess.Popen(
        list(map(str, command)), cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    first = time.perf_counter() - started
    output, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{name} failed with exit code {process.returncode}: {errors}")
    return {**json.loads(output.splitlines()[-1]), "seconds to the first text": round(first, 2)}


def measure(name, command, labels):
    """Runs one system and returns its figures, a dictionary."""
    found = run_system(name, command)
    return {
        "seconds to the first text": found["seconds to the first text"],
        "milliseconds": round(statistics.median(found["milliseconds"]), 2),
        "milliseconds, 99th percentile": round(float(np.percentile(found["milliseconds"], 99)), 2),
        "images per second": round(found["bulk images"] / found["bulk seconds"], 1),
        "megabytes": round(found["bytes"] / 1e6),
        "exact match": metrics.score(labels, found["texts"])["exact_match"],
    }


def measure_all(model):
    """Runs all installed systems; returns a dictionary from their names to their figures."""
    reader = Reader.load(model)
    splits = splits_of(reader)
    labels = [sample.label for sample in splits["test"]]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_split(folder, splits)
        exported = folder / "reader.onnx"
        export = [sys.executable, "-m", "tools.export", model, "--out", exported, "--images", folder]
        subprocess.run(export, cwd=PROJECT, check=True)
        systems = {
            KERAS: (sys.executable, "reader", [model]),
            ONNX: (sys.executable, "reader", [exported]),
            TOP: (sys.executable, "reader", [exported, 3]),
            PATTERN: (sys.executable, "reader", [exported, 1, "?????"]),
            LOOP: (sys.executable, "predict_loop", [model]),
        }
        if INSTALLED[PLATES]():
            kept = PROJECT / "runs" / f"fast-plate-ocr-{runs.fingerprint(splits['training'])}"
            options = ("--seed", 1, "--limit", PLATES_SECONDS, "--target", 1.0)
            systems[PLATES] = (PLATES_PYTHON, "plates", train_plates(folder, kept, *options))
        if INSTALLED[RAPIDOCR]():
            systems[RAPIDOCR] = (RAPIDOCR_PYTHON, "rapidocr", [])
        if INSTALLED[TESSERACT]():
            only = f"tessedit_char_whitelist={reader.alphabet.characters}"
            systems[TESSERACT] = (sys.executable, "tesseract", ["--psm", "8", "-c", only])
        figures = {}
        for name, (python, system, arguments) in systems.items():
            command = [python, "-m", "benchmarks.read_with", system, folder, *COUNTS[name], *arguments]
            figures[name] = measure(name, command, labels)
        return figures


def table(row):
    """Formats the row as a Markdown table."""
    lines = [
        [system, *(f"{value:.1%}" if name == "exact match" else value for name, value in figures.items())]
        for system, figures in row["systems"].items()
    ]
    return markdown_table(["system", *row["systems"][KERAS]], lines)


def main(arguments=None):
    """Runs the benchmark and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reading", description="Measures how fast images are read."
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="a reader.keras that the notebook saved")
    options = parser.parse_args(arguments)
    use_defaults()
    try:
        provenance = Reader.load(options.model).provenance
        missing = [name for name, is_installed in INSTALLED.items() if not is_installed()]
        identity = {
            "images": provenance["images"],
            "test images": provenance["test"]["images"],
            "model": hashlib.sha256(options.model.read_bytes()).hexdigest()[:16],
            "left out": missing,
        }
        for name in missing:
            print(f"not installed, skipped: {name}")
        row = record("reading", identity, lambda: {"systems": measure_all(options.model.absolute())})
    except (ValueError, KeyError) as error:
        print(error, file=sys.stderr)
        return 1
    print(table(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
