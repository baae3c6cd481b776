"""How fast a trained reader reads, beside other ways and other systems.

    python -m benchmarks.reading MODEL

reads the test images of MODEL, a `reader.keras` of the notebook, over and
over: with `Reader` on Keras and on ONNX, with a loop over `model.predict`, with
fast-plate-ocr trained on the same images, and with Tesseract. Each runs in a
process of its own, one after the other, each image read from its file. The
row is appended to benchmarks/results/reading.jsonl.

Besides make .venv-fast-plate-ocr/installed, it needs Debian's tesseract-ocr;
what is not installed is left out and said so.
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
from benchmarks.study import record, use_defaults
from snippet_ocr.reader import Reader
from training import PROJECT, metrics, runs

KERAS, ONNX, TOP, PATTERN, LOOP, PLATES, TESSERACT = (
    "Reader on Keras",
    "Reader on ONNX",
    "Reader on ONNX, --top 3",
    "Reader on ONNX, --pattern ?????",
    "model.predict for each image",
    "fast-plate-ocr 1.1.0 on ONNX",
    "Tesseract 5",
)
COUNTS = {
    KERAS: (300, 5000),
    ONNX: (1000, 5000),
    TOP: (300, 2000),
    PATTERN: (300, 2000),
    LOOP: (200, 200),
    PLATES: (1000, 5000),
    TESSERACT: (50, 100),
}
"""The images that are read one by one, and at once."""

INSTALLED = {PLATES: PLATES_PYTHON.exists, TESSERACT: lambda: shutil.which("tesseract") is not None}
"""Whether the systems that are not this project's are there."""

PLATES_SECONDS = 600
"""The longest that fast-plate-ocr is trained."""


def splits_of(reader):
    """The images that a reader was trained, validated and tested on.

    Args:
        reader: a `Reader` that the notebook saved.

    Returns:
        A dictionary from the name of the split to a list of `Sample`s.

    Raises:
        ValueError: if the images are not those of the training any more.
    """
    parameters = reader.provenance["parameters"]
    data_dir = parameters.resolve(parameters["data_dir"])
    samples, _ = utils.find_images(data_dir, reader.time_steps, parameters["drop_copy_number"])
    if runs.fingerprint(samples) != reader.provenance["images"]:
        raise ValueError(f"Expected the images that the reader was trained on in {data_dir}. Found others.")
    names = ("seed", "validation_share", "test_share", "fold", "folds")
    split = utils.split_data(samples, **{name: parameters[name] for name in names})
    # fast-plate-ocr watches the validation images under this name.
    return dict(zip(("training", "unseen", "test"), split, strict=True))


def train_plates(folder, images):
    """Trains fast-plate-ocr on a split, unless that has been done, and exports it with its own command.

    Args:
        folder: the `Path` of the split, as `write_split` makes it.
        images: a short name for the split.

    Returns:
        The paths of the ONNX model and of its configuration, a list.
    """
    kept = PROJECT / "runs" / f"fast-plate-ocr-{images}"
    model, config, onnx_model = kept / "best.keras", kept / "plate_config.yaml", kept / "best.onnx"
    if not model.exists():
        options = ["--seed", "1", "--limit", str(PLATES_SECONDS), "--enough", "1.0"]
        program = [str(PLATES_PYTHON), "-m", "benchmarks.fast_plate_ocr_baseline"]
        subprocess.run([*program, folder, folder / "curve.csv", *options], cwd=PROJECT, check=True)
        (trained,) = (folder / "trained").iterdir()
        kept.mkdir(parents=True, exist_ok=True)
        for file in (config, model):  # the model, by which a finished training is known, comes last
            shutil.copy(trained / file.name, file)
    command = [PLATES_PYTHON.with_name("fast-plate-ocr"), "export", "--model", model]
    # It writes the file, then fails to open it: see below.
    subprocess.run([*command, "--plate-config-file", config], stderr=subprocess.DEVNULL)
    mend_erfc(onnx_model)
    return [onnx_model, config]


def mend_erfc(path):
    """Replaces a node that no ONNX runtime knows: tf2onnx writes TensorFlow's `Erfc` for a GELU.

    Args:
        path: the `Path` of an ONNX model; it is written anew.
    """
    model = onnx.load(path)
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Erfc":  # erfc(x) = 1 - erf(x)
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


def measure(name, command, labels):
    """Runs one system; returns its figures, a dictionary."""
    print(name, flush=True)
    started = time.perf_counter()
    process = subprocess.Popen(
        list(map(str, command)), cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    first = time.perf_counter() - started
    output, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{name}: {errors}")
    found = json.loads(output.splitlines()[-1])
    return {
        "seconds to the first text": round(first, 2),
        "milliseconds": round(statistics.median(found["milliseconds"]), 2),
        "milliseconds, 99th percentile": round(float(np.percentile(found["milliseconds"], 99)), 2),
        "images per second": round(found["bulk images"] / found["bulk seconds"], 1),
        "megabytes": round(found["megabytes"]),
        "exact match": metrics.exact_match(labels, found["texts"]),
    }


def measure_all(model):
    """Runs all systems that are installed; returns a dictionary from their names to their figures."""
    reader = Reader.load(model)
    splits = splits_of(reader)
    labels = [sample.label for sample in splits["test"]]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_split(folder, splits)
        onnx = folder / "reader.onnx"
        export = [sys.executable, "-m", "tools.export", model, "--to", "onnx", "--out", onnx]
        subprocess.run([*export, "--images", folder], cwd=PROJECT, check=True)
        systems = {
            KERAS: (sys.executable, "reader", [model]),
            ONNX: (sys.executable, "reader", [onnx]),
            TOP: (sys.executable, "reader", [onnx, 3]),
            PATTERN: (sys.executable, "reader", [onnx, 1, "?????"]),
            LOOP: (sys.executable, "predict_loop", [model]),
        }
        if INSTALLED[PLATES]():
            split = runs.fingerprint(splits["training"])
            systems[PLATES] = (PLATES_PYTHON, "plates", train_plates(folder, split))
        if INSTALLED[TESSERACT]():
            systems[TESSERACT] = (sys.executable, "tesseract", [reader.alphabet.characters])
        return {
            name: measure(
                name,
                [python, "-m", "benchmarks.read_with", system, folder, *COUNTS[name], *arguments],
                labels,
            )
            for name, (python, system, arguments) in systems.items()
        }


def table(row):
    """Writes the row as a table in Markdown."""
    columns = list(row["systems"][KERAS])
    lines = [f"| system | {' | '.join(columns)} |", "|" + " --- |" * (len(columns) + 1)]
    for system, figures in row["systems"].items():
        cells = [f"{value:.1%}" if name == "exact match" else str(value) for name, value in figures.items()]
        lines.append(f"| {system} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments=None):
    """Runs the benchmark and returns the exit code."""
    parser = argparse.ArgumentParser(prog="reading", description="Measures how fast images are read.")
    parser.add_argument("model", metavar="MODEL", type=Path, help="a reader.keras that the notebook saved")
    options = parser.parse_args(arguments)
    use_defaults()
    try:
        provenance = Reader.load(options.model).provenance
        missing = [name for name, there in INSTALLED.items() if not there()]
        identity = {
            "images": provenance["images"],
            "test images": provenance["test"]["images"],
            "model": hashlib.sha256(options.model.read_bytes()).hexdigest()[:16],
            "left out": missing,
        }
        for name in missing:
            print(f"not installed, left out: {name}")
        row = record("reading", identity, lambda: {"systems": measure_all(options.model.absolute())})
    except (ValueError, KeyError) as error:
        print(error, file=sys.stderr)
        return 1
    print(table(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
