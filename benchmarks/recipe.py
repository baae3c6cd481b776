"""What each ingredient of the recipe is worth, and what was tried besides.

    python -m benchmarks.recipe ablation DATA
    python -m benchmarks.recipe candidates DATA
    python -m benchmarks.recipe recorded

trains on 65 % of a folder's images and validates on 25 %, always the same
ones: those of seed 42, whose test split stays out of it. Each case changes one
thing and is trained for 15 epochs with two seeds. The rows are appended to
benchmarks/results/recipe.jsonl; a case that is there is not trained again.
`recorded` prints all of them, those of earlier states of the code too.
"""

import argparse
import statistics
import sys

import keras

import utils
from benchmarks.study import MILESTONES, measure, read
from training import parameters, runs

EPOCHS = 15
SEEDS = (1, 2)
SPLIT = [("utils.split_data(samples, seed,", "utils.split_data(samples, 42,")]
"""Whatever the seed of the training, the split is that of seed 42."""

SCHEDULER = "LearningRateScheduler(SquareRootScheduler(learning_rate, warmup_epochs))"
WARMING = "min(1.0, (epoch + 1) / (warmup_epochs + 1))"
GRU_NORMALISED = """return_sequences=True))(x)
        x = layers.LayerNormalization()(x)"""
POOLED_FIRST = """        x = layers.MaxPooling2D(pool)(x)
        x = layers.Activation("relu")(normalised(x))"""
POOLED_LAST = """        x = layers.Activation("relu")(normalised(x))
        x = layers.MaxPooling2D(pool)(x)"""
BASE = "the recipe"
ABLATION = {
    BASE: ({}, []),
    "no augmentation": ({"augmentation": 0.0}, []),
    "no dropout": ({"dropout": 0.0}, []),
    "no normalisation after the GRUs": ({}, [(GRU_NORMALISED, "return_sequences=True))(x)")]),
    "batch normalisation after the GRUs": (
        {},
        [(GRU_NORMALISED, "return_sequences=True))(x)\n        x = normalised(x)")],
    ),
    "normalisation before pooling": ({}, [(POOLED_FIRST, POOLED_LAST)]),
    "batches of 32": ({"batch_size": 32}, []),
    "blank's bias starts at 0": ({}, [("Constant([3.0]", "Constant([0.0]")]),
    "no average of the weights": ({}, [("ema_momentum=0.98", "ema_momentum=0.0")]),
    "no clipping of gradients": ({}, [("global_clipnorm=1.0, ", "")]),
    "no warm-up": ({"warmup_epochs": 0}, []),
    "constant learning rate, no warm-up": (
        {},
        [(SCHEDULER, "LearningRateScheduler(lambda epoch, rate: learning_rate)")],
    ),
    "constant learning rate after the warm-up": (
        {},
        [(SCHEDULER, f"LearningRateScheduler(lambda epoch, rate: learning_rate * {WARMING})")],
    ),
    "steps of 8 pixels": ({}, [("image_size.choose_step_width(samples, width, known)", "8")]),
}
"""Without one ingredient each: parameters, and changes of the notebook's code."""

DATA = "utils.get_data(training, encode, batch_size, seed, first_epoch * passes, augmentation)"
CLEAN = "utils.get_data(training, encode, batch_size, seed, {}, 0.0)"
AUGMENTED = "utils.get_data(training, encode, batch_size, seed, {}, augmentation)"
NOISE = "({**x, 'image': x['image'] + keras.random.normal(keras.ops.shape(x['image']), stddev=0.2)}, y)"
LINE = "lambda x, y: ({**x, 'image': strike_through(x['image'])}, y)"
CONVOLUTION = '        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)'
ACTIVATION = 'x = layers.Activation("relu")(normalised(x))'
LOSS = 'CTCLayer(name="ctc")(label, logits)'
CANDIDATES = {
    "batches of 8": ({"batch_size": 8}, []),
    "dropout 0.1": ({"dropout": 0.1}, []),
    "dropout 0.3": ({"dropout": 0.3}, []),
    "augmentation 1.5": ({"augmentation": 1.5}, []),
    "highest learning rate 0.005": ({"learning_rate": 0.005}, []),
    "highest learning rate 0.002": ({"learning_rate": 0.002}, []),
    "average over 100 batches": ({}, [("ema_momentum=0.98", "ema_momentum=0.99")]),
    "weight decay 0.01": ({}, [("optimizers.Adam(", "optimizers.AdamW(weight_decay=0.01, learning_rate=")]),
    "auxiliary CTC head on the columns": (
        {},
        [
            ("    for units in", "    columns = layers.Dense(number_of_classes)(x)\n    for units in"),
            (
                LOSS,
                'CTCLayer(name="ctc")(label, logits) + 0 * CTCLayer(name="auxiliary")(label, columns)',
            ),
        ],
    ),
    "first 5 epochs without augmentation": (
        {},
        [(DATA, f"{CLEAN.format(0)}.take(5 * batches).concatenate({AUGMENTED.format(5)})")],
    ),
    "last 5 epochs without augmentation": (
        {},
        [(DATA, f"{AUGMENTED.format(0)}.take(10 * batches).concatenate({CLEAN.format(10)})")],
    ),
    "noise on the images": ({}, [(DATA, f"{DATA}.map(lambda x, y: {NOISE})")]),
    "a line drawn through the images": (
        {},
        [
            ("import utils", "import utils\nfrom benchmarks.recipe import strike_through"),
            (DATA, f"{DATA}.map({LINE})"),
        ],
    ),
    "two convolutions in a block": (
        {},
        [(CONVOLUTION, f"{CONVOLUTION}\n        {ACTIVATION}\n{CONVOLUTION}")],
    ),
    "five batches in one execution": (
        {},
        [("optimizer, metrics", "optimizer, steps_per_execution=5, metrics")],
    ),
    "GRUs of 96, 96 and 64 units": ({}, [("(128, 128, 64)", "(96, 96, 64)")]),
    "16 and 48 filters": ({}, [("((32, (2, 2)), (64,", "((16, (2, 2)), (48,")]),
}
"""What was tried besides: parameters, and changes of the notebook's code."""


def strike_through(images):
    """Draws one more line of ink through each image, from its left to its right edge, 1 to 3 pixels thick.

    Args:
        images: float32 tensor of shape `(batch, image_width, image_height, 1)`.

    Returns:
        A tensor of the same shape.
    """
    batch, width, height = keras.ops.shape(images)[0], images.shape[1], images.shape[2]
    ends = keras.random.uniform((2, batch, 1, 1), 0.2 * height, 0.8 * height)
    left, right = ends[0], ends[1]
    thickness = keras.random.uniform((batch, 1, 1), 1.0, 3.0)
    along = keras.ops.reshape(keras.ops.linspace(0.0, 1.0, width), (1, width, 1))
    across = keras.ops.reshape(keras.ops.arange(height, dtype="float32"), (1, 1, height))
    on_line = keras.ops.abs(across - left - (right - left) * along) < thickness / 2
    ink = 0.8 * keras.ops.max(images, axis=(1, 2, 3), keepdims=True)
    return keras.ops.where(on_line[..., None], keras.ops.maximum(images, ink), images)


def train(data_dir, case, parameters, changes, seed):
    """Trains one case with one seed, unless that is recorded; returns its row."""
    samples, _ = utils.find_images(data_dir)
    parameters = {
        "data_dir": str(data_dir),
        "validation_share": 0.25,
        "epochs": EPOCHS,
        "patience": EPOCHS,
        "seed": seed,
        **parameters,
    }
    images = f"{data_dir.name} {runs.fingerprint(samples)}"
    return measure("recipe", {"case": case, "seed": seed}, images, parameters, SPLIT + changes)


def reached(row, milestone):
    """The epochs and seconds that a training took to a milestone, as text; None if it was not reached."""
    epochs, seconds = row["epochs to"][milestone], row["seconds to"][milestone]
    return None if epochs is None else f"{epochs} ({seconds:.0f})"


def table(rows):
    """Writes the rows of all cases as a table in Markdown, a line for each case, the seeds side by side."""
    header = ["case", "take-off epoch", *(f"epochs (seconds) to {m:.0%}" for m in MILESTONES[1:])]
    header += ["validation loss", "exact match", "seconds an epoch"]
    lines = [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    for case in dict.fromkeys(row["case"] for row in rows):
        of_case = [row for row in rows if row["case"] == case]
        cells = [[row["take-off epoch"] for row in of_case]]
        cells += [[reached(row, f"{milestone:.0%}") for row in of_case] for milestone in MILESTONES[1:]]
        cells += [[row["validation loss"] for row in of_case]]
        cells += [[f"{row['validation exact match']:.1%}" for row in of_case]]
        cells += [[f"{statistics.median([row['seconds'] / row['epochs'] for row in of_case]):.1f}"]]
        texts = [" / ".join("–" if value is None else str(value) for value in cell) for cell in cells]
        lines.append(f"| {case} | {' | '.join(texts)} |")
    return "\n".join(lines)


def print_recorded():
    """Prints a table for each set of images and each state of the code that rows were recorded with."""
    rows = read("recipe")
    for code, images in dict.fromkeys((row["code"], row["images"]) for row in rows):
        shown = [row for row in rows if (row["code"], row["images"]) == (code, images)]
        print(f"\n{images.rsplit(' ', 1)[0]}, code {code}, {shown[0]['parameters']['epochs']} epochs\n")
        print(table(shown))


def main(arguments=None):
    """Runs the study and returns the exit code."""
    parser = argparse.ArgumentParser(prog="recipe", description="Measures the recipe's ingredients.")
    parser.add_argument("cases", choices=["ablation", "candidates", "recorded"])
    parser.add_argument("data", metavar="DATA", nargs="?", default="captcha_images")
    options = parser.parse_args(arguments)
    if options.cases == "recorded":
        print_recorded()
        return 0
    data_dir = parameters.resolve(options.data)
    cases = ABLATION if options.cases == "ablation" else {BASE: ABLATION[BASE], **CANDIDATES}
    rows = [
        train(data_dir, case, parameters, changes, seed)
        for seed in SEEDS
        for case, (parameters, changes) in cases.items()
    ]
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
