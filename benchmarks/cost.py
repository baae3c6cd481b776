"""What one training image costs, and how far that is from what the machine can do.

    python -m benchmarks.cost [DATA]

times the training step of the notebook's model and of its beginnings, counts
the arithmetic of its layers, and runs the notebook for two epochs to see how
long it takes to start and how much memory it needs. The row is appended to
benchmarks/results/cost.jsonl.
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
from benchmarks.study import record, use_defaults
from snippet_ocr.alphabet import Alphabet
from tools.notebook import code_version, load_build_model, run_notebook
from training import image_size, metrics, parameters, runs
from training.parameters import defaults

STEPS, ROUNDS = 20, 5


def load(samples, settings):
    """Prepares images as the notebook does.

    Args:
        samples: a list of `utils.Sample`s.
        settings: the notebook's parameters.

    Returns:
        A tuple of the arguments of the model but for dropout, and a function that makes a data set.
    """
    labels = [sample.label for sample in samples]
    alphabet, longest = Alphabet.from_labels(labels), max(map(len, labels))
    width, height, _ = image_size.choose_size(samples)
    encode = functools.partial(
        utils.encode_single_sample,
        alphabet=alphabet,
        image_width=width,
        image_height=height,
        max_label_length=longest,
    )
    shape = (width, height, longest, alphabet.number_of_classes, image_size.choose_step_width(samples, width))
    batch_size, augmentation = settings["batch_size"], settings["augmentation"]
    return shape, lambda: utils.get_data(samples, encode, batch_size, 1, 0, augmentation)


def beginnings(model):
    """The model's beginnings: a dictionary from the name of what comes last to a model that ends there."""
    first_dropout = next(layer for layer in model.layers if isinstance(layer, layers.Dropout))
    image = model.inputs[0]
    return {
        "convolutions": keras.Model(image, first_dropout.input),
        "GRUs": keras.Model(image, model.get_layer("logits").output),
        "CTC": model,
    }


def step_of(model, own_loss, measured=()):
    """Compiles a model as the notebook does; returns a function that trains it on one batch."""
    optimizer = keras.optimizers.Adam(1e-4, global_clipnorm=1.0, use_ema=True)
    loss = None if own_loss else lambda _, output: ops.mean(ops.square(output))
    model.compile(optimizer, loss=loss, metrics=list(measured))
    return lambda inputs, label: model.train_on_batch(inputs if own_loss else inputs["image"], label)


def milliseconds_per_image(steps, batches):
    """Times training steps of several models, which take turns, so that a busy machine slows all of them.

    Args:
        steps: a dictionary from names to what `step_of` returns.
        batches: a list of batches of the training data.

    Returns:
        A dictionary from names to milliseconds per image, the median of `ROUNDS` rounds.
    """
    images = sum(len(label) for _, label in batches)
    rounds = {name: [] for name in steps}
    for number in range(ROUNDS + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            for batch in batches:
                step(*batch)
            if number:  # the first one also traces the graph
                rounds[name].append(1000 * (time.perf_counter() - started) / images)
    return {name: statistics.median(times) for name, times in rounds.items()}


def data_milliseconds(data, batch_size):
    """Times the data set alone, augmentation included: milliseconds per image, for each round."""
    iterator = iter(data)
    next(iterator)
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(STEPS):
            next(iterator)
        rounds.append(1000 * (time.perf_counter() - started) / (STEPS * batch_size))
    return rounds


def operations(model):
    """Counts the floating-point operations of reading one image, two for each multiplication and addition.

    Convolutions, dense layers and GRUs are counted; normalisation, pooling and
    CTC are small beside them.

    Args:
        model: the notebook's model.

    Returns:
        A dictionary from the kind of layer to a number.
    """
    counts = {"convolutions": 0, "GRUs": 0}
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D):
            counts["convolutions"] += 2 * math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:3])
        elif isinstance(layer, layers.Dense):
            steps = layer.output.shape[1]
            part = "GRUs" if layer.name == "logits" else "convolutions"
            counts[part] += 2 * math.prod(layer.kernel.shape) * steps
        elif isinstance(layer, layers.Bidirectional):
            for direction in (layer.forward_layer, layer.backward_layer):
                kernels = (direction.cell.kernel, direction.cell.recurrent_kernel)
                counts["GRUs"] += sum(2 * math.prod(k.shape) * layer.output.shape[1] for k in kernels)
    return counts


def matrix_product_rate():
    """What the machine can do: floating-point operations per second of a product of two large matrices."""
    size = 2048
    matrix = tf.random.uniform((size, size))
    rates = []
    for _ in range(ROUNDS + 1):
        started = time.perf_counter()
        tf.matmul(matrix, matrix).numpy()
        rates.append(2 * size**3 / (time.perf_counter() - started))
    return statistics.median(rates[1:])


def measure_steps(data_dir):
    """Times the parts of a training step, and counts its arithmetic."""
    settings = defaults()
    samples, _ = utils.find_images(data_dir)
    arguments, new_data = load(samples, settings)
    data = new_data()
    # A whole epoch: from then on, images are decoded.
    batches = list(data.take(-(-len(samples) // settings["batch_size"])))[:STEPS]
    build_model = load_build_model()
    model = build_model(*arguments, settings["dropout"])
    steps = {name: step_of(part, own_loss=part is model) for name, part in beginnings(model).items()}
    whole = build_model(*arguments, settings["dropout"])
    steps["whole step"] = step_of(whole, True, [metrics.ExactMatch(), metrics.ClippedLoss()])
    times = milliseconds_per_image(steps, batches)
    arithmetic = operations(model)
    rate = matrix_product_rate()
    return {
        "milliseconds": {
            "data (beside the training)": statistics.median(data_milliseconds(data, settings["batch_size"])),
            "convolutions": times["convolutions"],
            "GRUs": times["GRUs"] - times["convolutions"],
            "CTC": times["CTC"] - times["GRUs"],
            "metrics": times["whole step"] - times["CTC"],
            "whole step": times["whole step"],
        },
        "operations of reading": arithmetic,
        "operations per second of a matrix product": rate,
        # Training reads forward, and backward for the inputs and for the weights.
        "milliseconds at that rate": 1000 * 3 * sum(arithmetic.values()) / rate,
    }


FIRST_STEP = """keras.callbacks.LambdaCallback(
    on_train_batch_end=lambda batch, logs: (run_dir / "first_step").exists()
    or (run_dir / "first_step").write_text(str(__import__("time").time()))
)"""
MEMORY = '__import__("re").search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]'
CHANGES = [
    ("Progress()]", f"Progress(), {FIRST_STEP}]"),
    ('report(f"reader: ', f'(run_dir / "memory").write_text({MEMORY})\nreport(f"reader: '),
]
"""They note the time of the first step, and the most memory that was taken (Linux counts kilobytes; of
`getrusage`, it would be what the process that started it had taken, if that is more)."""


def measure_run(data_dir):
    """Runs the notebook for two epochs; returns the images, seconds to the first step, and memory."""
    name = f"cost-{time.time_ns()}"
    started = time.time()
    run_dir = run_notebook({"data_dir": str(data_dir), "run_name": name, "epochs": 2}, CHANGES)
    finished = json.loads((run_dir / runs.FINISHED).read_text(encoding="utf-8"))
    return {
        "images": sum(score["images"] for score in finished["scores"].values()),
        "seconds to the first step": float((run_dir / "first_step").read_text()) - started,
        "peak memory in GB": int((run_dir / "memory").read_text()) * 1024 / 1e9,
    }


def train(data_dir):
    """Measures, unless that is recorded; returns the row."""
    samples, _ = utils.find_images(data_dir)
    images = f"{data_dir.name} {runs.fingerprint(samples)}"
    identity = {"data": images, "code": code_version()}
    return record("cost", identity, lambda: {**measure_steps(data_dir), **measure_run(data_dir)})


def table(row):
    """Writes the row as a table in Markdown."""
    lines = ["| part of a training step | ms per image | GFLOP per image |", "| --- | --- | --- |"]
    for part, milliseconds in row["milliseconds"].items():
        count = row["operations of reading"].get(part)
        lines.append(f"| {part} | {milliseconds:.2f} | {'–' if count is None else f'{3e-9 * count:.3f}'} |")
    rate = row["operations per second of a matrix product"]
    whole = 3e-9 * sum(row["operations of reading"].values())
    lines.append(
        f"| the arithmetic alone, at the {rate / 1e9:.0f} GFLOP/s of a large matrix product "
        f"| {row['milliseconds at that rate']:.2f} | {whole:.3f} |"
    )
    lines.append("")
    share = row["milliseconds"]["whole step"] / row["milliseconds"]["data (beside the training)"]
    lines.append(
        f"The data alone come {share:.0f} times as fast as a training step uses them. From the start of the "
        f"kernel to the end of the first step: {row['seconds to the first step']:.1f} s; peak memory of the "
        f"process with {row['images']} images: {row['peak memory in GB']:.2f} GB."
    )
    return "\n".join(lines)


def main(arguments=None):
    """Measures and returns the exit code."""
    parser = argparse.ArgumentParser(prog="cost", description="Measures what a training image costs.")
    parser.add_argument("data", metavar="DATA", nargs="?", default="captcha_images")
    options = parser.parse_args(arguments)
    use_defaults()
    print(table(train(parameters.resolve(options.data))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
