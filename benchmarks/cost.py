"""What one training image costs, compared with what the machine can do.

    python -m benchmarks.cost [DATA]

times the training step of the notebook's model and its parts, counts the
arithmetic of the layers, and runs the notebook for two epochs to measure its
start-up time and peak memory. The row is appended to benchmarks/results/cost.jsonl.
"""

import argparse
import functools
import json
import math
import statistics
import sys
import time

import keras
import tensorflow as tf
from keras import layers, ops

import utils
from benchmarks.study import add_data_argument, markdown_table, name_images, record, use_defaults
from snippet_ocr.alphabet import Alphabet
from tools.notebook import code_version, load_build_model, run_notebook
from training import image_size, parameters, runs
from training.fast_gru import speed_up

STEPS, ROUNDS = 20, 5
DATA = "data (in parallel with training)"

CHANGES = [
    (
        "import utils",
        "import utils\nfrom benchmarks.clock import FirstStep\nfrom benchmarks.memory import process_memory",
    ),
    ("Progress(draw, heading),", "Progress(draw, heading), FirstStep(run_dir / 'first_step'),"),
    (
        'report(f"Read your own images: ',
        '(run_dir / "peak_memory").write_text(str(process_memory()))\nreport(f"Read your own images: ',
    ),
]
"""Changes to the notebook that write the time of the first step and the peak memory to the run's folder."""


def load(samples, settings):
    """Prepares images as the notebook does.

    Args:
        samples: a list of `utils.Sample`s.
        settings: a dictionary of the notebook's settings.

    Returns:
        A tuple of the arguments of `build_model` up to `dropout`, and a
        function that decodes the images and returns the training data.
    """
    labels = [sample.label for sample in samples]
    alphabet, max_label_length = Alphabet.from_labels(labels), max(map(len, labels))
    widths, height, _ = image_size.choose_size(samples)
    encode = functools.partial(
        utils.encode_single_sample,
        alphabet=alphabet,
        widths=widths,
        image_height=height,
        max_label_length=max_label_length,
    )
    arguments = (height, max_label_length, alphabet.number_of_classes)
    batch_size, augmentation = settings["batch_size"], settings["augmentation"]
    return arguments, lambda: utils.get_data(samples, encode, batch_size, 1, 0, augmentation)


def compile_model(model, loss=None):
    """Compiles a model with the notebook's optimizer, and returns it. No training batch is decoded there."""
    model.compile(keras.optimizers.Adam(1e-4, global_clipnorm=1.0, use_ema=True), loss)
    return model


def partial_models(model):
    """Returns models that share the first layers: a dictionary from the last part's name to a model."""
    first_dropout = next(layer for layer in model.layers if isinstance(layer, layers.Dropout))
    image = model.inputs[0]
    return {
        "convolutions": keras.Model(image, first_dropout.input),
        "GRUs": keras.Model(image, model.get_layer("logits").output),
        "CTC": model,
    }


def training_step(model):
    """Returns a function that trains a model on one batch.

    A model without CTC, which has no label as input, is trained towards an output of 0.
    """
    if len(model.inputs) == 2:
        return compile_model(model).train_on_batch
    compile_model(model, lambda _, output: ops.mean(ops.square(output)))
    return lambda inputs, label: model.train_on_batch(inputs["image"], label)


def milliseconds_per_image(steps, batches):
    """Times training steps of several models in turn, so that a busy machine slows all of them alike.

    Args:
        steps: a dictionary from names to functions that take a batch.
        batches: a list of batches of the training data.

    Returns:
        A dictionary from names to milliseconds per image, medians of `ROUNDS` rounds.
    """
    images = sum(len(label) for _, label in batches)
    times = {name: [] for name in steps}
    for _ in range(ROUNDS + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            for inputs, label in batches:
                step(inputs, label)
            times[name].append(1000 * (time.perf_counter() - started) / images)
    return {name: statistics.median(rounds[1:]) for name, rounds in times.items()}  # [0] traced the graph


def data_milliseconds(data, batch_size):
    """Times the training data alone, with augmentation; returns milliseconds per image, a median."""
    iterator = iter(data)
    next(iterator)
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(STEPS):
            next(iterator)
        rounds.append(1000 * (time.perf_counter() - started) / (STEPS * batch_size))
    return statistics.median(rounds)


def count_operations(model, width):
    """Counts the floating-point operations of reading one image, two per multiplication and addition.

    Convolutions, dense layers and GRUs are counted. Normalisation, pooling and
    CTC need few compared with them.

    Args:
        model: the notebook's model.
        width: the width of the image, in pixels.

    Returns:
        A dictionary from the part of the model to the number of operations.
    """
    counts = {"convolutions": 0, "GRUs": 0}
    image = model.inputs[0]
    for layer in model.layers:
        if not isinstance(layer, layers.Conv2D | layers.Dense | layers.Bidirectional):
            continue
        shape = keras.Model(image, layer.output).compute_output_shape((1, image.shape[1], width))
        if isinstance(layer, layers.Conv2D):
            counts["convolutions"] += 2 * math.prod(layer.kernel.shape) * math.prod(shape[1:3])
        elif isinstance(layer, layers.Dense):
            part = "GRUs" if layer.name == "logits" else "convolutions"
            counts[part] += 2 * math.prod(layer.kernel.shape) * shape[1]
        else:
            for direction in (layer.forward_layer, layer.backward_layer):
                kernels = (direction.cell.kernel, direction.cell.recurrent_kernel)
                counts["GRUs"] += sum(2 * math.prod(k.shape) * shape[1] for k in kernels)
    return counts


def matrix_product_rate():
    """Returns the floating-point operations per second of a product of two large matrices."""
    size = 2048
    matrix = tf.random.uniform((size, size))
    rates = []
    for _ in range(ROUNDS + 1):
        started = time.perf_counter()
        tf.matmul(matrix, matrix).numpy()
        rates.append(2 * size**3 / (time.perf_counter() - started))
    return statistics.median(rates[1:])


def measure_steps(data_dir):
    """Times the parts of a training step and counts their arithmetic; returns the figures."""
    settings = parameters.defaults()
    samples, _ = utils.find_images(data_dir)
    arguments, new_data = load(samples, settings)
    data = new_data()
    model = speed_up(load_build_model()(*arguments, settings["dropout"]))
    steps = {name: training_step(part) for name, part in partial_models(model).items()}
    batches = list(data.take(STEPS))
    times = milliseconds_per_image(steps, batches)
    mean_width = statistics.mean(inputs["image"].shape[2] for inputs, _ in batches)
    operations = count_operations(model, round(mean_width))
    rate = matrix_product_rate()
    return {
        "milliseconds": {
            DATA: data_milliseconds(data, settings["batch_size"]),
            "convolutions": times["convolutions"],
            "GRUs": times["GRUs"] - times["convolutions"],
            "CTC": times["CTC"] - times["GRUs"],
            "whole step": times["CTC"],
        },
        "operations of reading": operations,
        "operations per second of a matrix product": rate,
        # Training takes three times the operations: forward, and backward for inputs and for weights.
        "milliseconds at that rate": 1000 * 3 * sum(operations.values()) / rate,
    }


def measure_run(data_dir):
    """Runs the notebook for two epochs; returns its images, start-up time and peak memory."""
    started = time.time()
    settings = {"data_dir": str(data_dir), "run_name": f"cost-{time.time_ns()}", "epochs": 2}
    run_dir = run_notebook(settings, CHANGES)
    finished = json.loads((run_dir / runs.FINISHED).read_text(encoding="utf-8"))
    return {
        "images": sum(score["images"] for score in finished["scores"].values()),
        "seconds to the first step": float((run_dir / "first_step").read_text()) - started,
        "peak memory in GB": int((run_dir / "peak_memory").read_text()) / 1e9,
    }


def train(data_dir):
    """Measures, unless that is recorded, and returns the row."""
    samples, _ = utils.find_images(data_dir)
    identity = {"data": name_images(data_dir.name, samples), "code": code_version()}
    return record("cost", identity, lambda: {**measure_steps(data_dir), **measure_run(data_dir)})


def table(row):
    """Formats the row as a Markdown table and a paragraph."""
    milliseconds, operations = row["milliseconds"], row["operations of reading"]
    lines = []
    for part, time_per_image in milliseconds.items():
        count = f"{3e-9 * operations[part]:.3f}" if part in operations else "–"
        lines.append([part, f"{time_per_image:.2f}", count])
    rate = row["operations per second of a matrix product"] / 1e9
    lines.append(
        [
            f"the arithmetic alone, at the {rate:.0f} GFLOP/s of a large matrix product",
            f"{row['milliseconds at that rate']:.2f}",
            f"{3e-9 * sum(operations.values()):.3f}",
        ]
    )
    ratio = milliseconds["whole step"] / milliseconds[DATA]
    return (
        markdown_table(["part of a training step", "ms per image", "GFLOP per image"], lines)
        + f"\n\nFeeding the data alone is {ratio:.0f} times as fast as a training step uses them. From the "
        f"start of the kernel to the end of the first step: {row['seconds to the first step']:.1f} s; peak "
        f"memory of the process with {row['images']} images: {row['peak memory in GB']:.2f} GB."
    )


def main(arguments=None):
    """Measures and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cost", description="Measures what a training image costs."
    )
    add_data_argument(parser)
    options = parser.parse_args(arguments)
    use_defaults()
    print(table(train(parameters.resolve(options.data))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
