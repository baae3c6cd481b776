"""What each ingredient of the recipe is worth, and what else was tried.

    python -m benchmarks.recipe ablation [DATA]
    python -m benchmarks.recipe candidates [DATA]
    python -m benchmarks.recipe recorded

trains on 65% of a folder's images and validates on 25%, always the same ones:
the split of seed 42, without its test images. Each case changes one thing and
is trained for 15 epochs with two seeds. The rows are appended to
benchmarks/results/recipe.jsonl; recorded cases are not trained again.
`recorded` prints all rows, including those of earlier versions of the code.
"""

import argparse
import statistics
import sys

import keras

import utils
from benchmarks.study import (
    MILESTONES,
    add_data_argument,
    markdown_table,
    measure,
    name_images,
    recorded_rows,
)
from training import parameters

EPOCHS = 15
SEEDS = (1, 2)
SPLIT = [("utils.split_data(samples, seed,", "utils.split_data(samples, 42,")]
"""Every training has the split of seed 42, whatever its own seed."""

SCHEDULER = "LearningRateScheduler(SquareRootScheduler(learning_rate, warmup_epochs))"
WARM_UP_FACTOR = "min(1.0, (epoch + 1) / (warmup_epochs + 1))"
GRU_NORMALISED = """return_sequences=True))(x)
        x = layers.LayerNormalization()(x)"""
POOLED_FIRST = """        x = layers.MaxPooling2D(2)(x)
        x = layers.Activation("relu")(normalised(x))"""
POOLED_LAST = """        x = layers.Activation("relu")(normalised(x))
        x = layers.MaxPooling2D(2)(x)"""
CONVOLUTION_AND_POOLING = """layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.MaxPooling2D(2)(x)"""
STRIDED_CONVOLUTION = 'layers.Conv2D(filters, 5, strides=2, padding="same", use_bias=False)(x)'
RECIPE = "the recipe"
ABLATION = {
    RECIPE: ({}, []),
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
        [(SCHEDULER, f"LearningRateScheduler(lambda epoch, rate: learning_rate * {WARM_UP_FACTOR})")],
    ),
    "strided convolutions, no pooling": ({}, [(CONVOLUTION_AND_POOLING, STRIDED_CONVOLUTION)]),
    "images as they are": ({"image_width": 200, "image_height": 50}, []),
}
"""The recipe with one ingredient changed: settings, and changes to the notebook's code."""

PASS = "utils.count_batches(samples, widths, height, batch_size)"
DATA = "utils.get_data(samples, encode, batch_size, seed, first_step, augmentation)"
CLEAN = "utils.get_data(samples, encode, batch_size, seed, {}, 0.0)"
AUGMENTED = "utils.get_data(samples, encode, batch_size, seed, {}, augmentation)"
DRAWN = "lambda x, y: ({{**x, 'image': recipe.{}(x['image'])}}, y)"
IMPORT = ("import utils", "import utils\nfrom benchmarks import recipe")
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
            (LOSS, 'CTCLayer(name="ctc")(label, logits) + 0 * CTCLayer(name="auxiliary")(label, columns)'),
        ],
    ),
    "first 5 epochs without augmentation": (
        {},
        [
            (
                DATA,
                f"{CLEAN.format(0)}.take(5 * {PASS}).concatenate({AUGMENTED.format(f'5 * {PASS}')})",
            )
        ],
    ),
    "last 5 epochs without augmentation": (
        {},
        [
            (
                DATA,
                f"{AUGMENTED.format(0)}.take(10 * {PASS}).concatenate({CLEAN.format(f'10 * {PASS}')})",
            )
        ],
    ),
    "noise on the images": ({}, [IMPORT, (DATA, f"{DATA}.map({DRAWN.format('add_noise')})")]),
    "a line drawn through the images": (
        {},
        [IMPORT, (DATA, f"{DATA}.map({DRAWN.format('strike_through')})")],
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
    "16 and 48 filters": ({}, [("for filters in (32, 64)", "for filters in (16, 48)")]),
}
"""What else was tried: settings, and changes to the notebook's code."""


def add_noise(images):
    """Adds normal noise to images, uint8 of shape `(batch, height, width)`: a fifth of their deviation."""
    grey = keras.ops.cast(images, "float32")
    noise = 0.2 * keras.ops.std(grey, axis=(1, 2), keepdims=True) * keras.random.normal(keras.ops.shape(grey))
    return keras.ops.cast(keras.ops.clip(keras.ops.round(grey + noise), 0, 255), "uint8")


def strike_through(images):
    """Draws a line through each image, from the left edge to the right edge, 1 to 3 pixels thick.

    Args:
        images: uint8 tensor of shape `(batch, height, width)`.

    Returns:
        A tensor of the same shape.
    """
    batch, height, width = keras.ops.shape(images)
    grey = keras.ops.cast(images, "float32")
    ends = keras.random.uniform((2, batch, 1, 1), 0.2 * height, 0.8 * height)
    left, right = ends[0], ends[1]  # (batch, 1, 1)
    thickness = keras.random.uniform((batch, 1, 1), 1.0, 3.0)
    x = keras.ops.reshape(keras.ops.arange(width, dtype="float32"), (1, 1, width))
    x = x / keras.ops.max(x)  # from 0 to 1
    y = keras.ops.reshape(keras.ops.arange(height, dtype="float32"), (1, height, 1))
    on_line = keras.ops.abs(y - left - (right - left) * x) < thickness / 2  # (batch, height, width)
    mean, darkest = (reduce(grey, axis=(1, 2), keepdims=True) for reduce in (keras.ops.mean, keras.ops.min))
    drawn = keras.ops.where(on_line, keras.ops.minimum(grey, mean + 0.8 * (darkest - mean)), grey)
    return keras.ops.cast(drawn, "uint8")


def train(data_dir, case, settings, changes, seed):
    """Trains one case with one seed, unless that is recorded, and returns the row."""
    samples, _ = utils.find_images(data_dir)
    settings = {
        "data_dir": str(data_dir),
        "validation_share": 0.25,
        "epochs": EPOCHS,
        "patience": EPOCHS,
        "base_reader": "",
        "seed": seed,
        **settings,
    }
    images = name_images(data_dir.name, samples)
    return measure("recipe", {"case": case, "seed": seed}, images, settings, SPLIT + changes)


def table(rows):
    """Formats the rows as a Markdown table: a line for each case, its seeds separated by slashes."""
    header = ["case", "take-off epoch"]
    header += [f"epochs (seconds) to {milestone:.0%}" for milestone in MILESTONES[1:]]
    header += ["validation loss", "exact match", "seconds an epoch"]
    lines = []
    for case in dict.fromkeys(row["case"] for row in rows):
        of_case = [row for row in rows if row["case"] == case]
        cells = [[row["take-off epoch"] for row in of_case]]
        cells += [[_milestone_cell(row, f"{m:.0%}") for row in of_case] for m in MILESTONES[1:]]
        cells += [[row["validation loss"] for row in of_case]]
        cells += [[f"{row['validation exact match']:.1%}" for row in of_case]]
        cells += [[f"{statistics.median([row['seconds'] / row['epochs'] for row in of_case]):.1f}"]]
        lines.append([case, *(" / ".join("–" if v is None else str(v) for v in cell) for cell in cells)])
    return markdown_table(header, lines)


def _milestone_cell(row, milestone):
    """Formats the epochs and seconds of a training to a milestone; None if it was not reached."""
    epochs, seconds = row["epochs to"][milestone], row["seconds to"][milestone]
    return None if epochs is None else f"{epochs} ({seconds:.0f})"


def print_recorded():
    """Prints a table for each set of images and each version of the code."""
    rows = recorded_rows("recipe")
    for code, images in dict.fromkeys((row["code"], row["images"]) for row in rows):
        shown = [row for row in rows if (row["code"], row["images"]) == (code, images)]
        print(f"\n{images.rsplit(' ', 1)[0]}, code {code}, {shown[0]['parameters']['epochs']} epochs\n")
        print(table(shown))


def main(arguments=None):
    """Runs the study and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recipe",
        description="Measures what each ingredient of the recipe is worth.",
    )
    parser.add_argument("cases", choices=["ablation", "candidates", "recorded"])
    add_data_argument(parser)
    options = parser.parse_args(arguments)
    if options.cases == "recorded":
        print_recorded()
        return 0
    data_dir = parameters.resolve(options.data)
    cases = ABLATION if options.cases == "ablation" else {RECIPE: ABLATION[RECIPE], **CANDIDATES}
    rows = [
        train(data_dir, case, settings, changes, seed)
        for seed in SEEDS
        for case, (settings, changes) in cases.items()
    ]
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
