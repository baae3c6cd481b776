"""What else the recipe could do, tried on several kinds of real images.

    python -m benchmarks.candidates FOLDER … [--cases NAME …] [--labels 100] [--seeds 1] [--base auto]

Each case changes one thing. The notebook is trained on some of a folder's images, from the base reader or
from scratch, and the reader is scored on a fifth of the images that is held back. Of a folder with the
subfolders `train` and `test`, only `train` is used, so that no test image chooses a recipe. The rows are
appended to benchmarks/results/candidates.jsonl; recorded rows are not measured again.
"""

import argparse
import statistics
import sys

import tensorflow as tf

import utils
from benchmarks import learning_curve, study
from benchmarks.recipe import DATA
from tools.draw_text import Drawing, draw
from tools.drawing.fonts import find_fonts
from tools.drawing.texts import Chain
from training import parameters

RECIPE = "the recipe"
RELATED = "[*labels, *transfer.related_characters(labels, base)]"
TRAIN = "train(training, run_dir, message)"
OPTIMIZER = "    optimizer = keras.optimizers.Adam("
FREEZE = """    for layer in model.layers:
        layer.trainable = not isinstance(layer, layers.Conv2D | layers.BatchNormalization)
"""
RESIDUAL = """        y = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.Activation("relu")(layers.Add()([x, normalised(y)]))
"""
POOLED = 'x = layers.Activation("relu")(layers.Add()([x, normalised(y)]))'
SQUEEZED = """
        squeezed = layers.GlobalAveragePooling2D(keepdims=True)(x)
        squeezed = layers.Dense(filters // 4, activation="relu")(squeezed)
        x = layers.Multiply()([x, layers.Dense(filters, activation="sigmoid")(squeezed)])"""


def mapped(name):
    """Returns the changes that apply a function of this module to the training images of each batch."""
    batch = f"lambda x, y: ({{**x, 'image': candidates.{name}(x['image'])}}, y)"
    return [
        ("import utils", "import utils\nfrom benchmarks import candidates"),
        (DATA, f"{DATA}.map({batch})"),
    ]


DRAWN = [
    ("import utils", "import utils\nfrom benchmarks import candidates"),
    (TRAIN, TRAIN.replace("training,", "candidates.add_drawn(training, run_dir),")),
]
CASES = {
    RECIPE: ({}, []),
    "learning rate 0.003": ({"learning_rate": 0.003}, []),
    "patience 15": ({"patience": 15}, []),
    "augmentation 1.5": ({"augmentation": 1.5}, []),
    "brightness, blur and noise": ({}, mapped("photometric")),
    "column masking": ({}, mapped("mask_columns")),
    "blots": ({}, mapped("blot")),
    "weight decay 0.01": ({}, [("optimizers.Adam(", "optimizers.AdamW(weight_decay=0.01, learning_rate=")]),
    "batches of 32": ({"batch_size": 32}, []),
    "frozen convolutions": ({}, [(OPTIMIZER, FREEZE + OPTIMIZER)]),
    "half drawn images": ({}, DRAWN),
    "only characters of the labels": ({}, [(RELATED, "labels")]),
    "no residual convolutions": ({}, [(RESIDUAL, "")]),
    "64 features of a column": ({}, [("layers.Dense(128, use_bias", "layers.Dense(64, use_bias")]),
    "48 and 96 filters": ({}, [("for filters in (32, 64)", "for filters in (48, 96)")]),
    "squeeze and excite": ({}, [(POOLED, POOLED + SQUEEZED)]),
}
"""Settings, and changes to the notebook's code. The last four change the network; they start from scratch."""


def add_drawn(training, folder, count=400):
    """Returns samples, half of them drawn in all styles with texts like the labels, in `folder / "drawn"`."""
    source = Chain([sample.label for sample in training])
    draw(folder / "drawn", count, Drawing(find_fonts(), source))
    drawn = utils.find_images(folder / "drawn")[0]
    return training * -(-len(drawn) // len(training)) + drawn


def photometric(images):
    """Changes gamma, sharpness and noise of images at random; uint8 of shape `(batch, height, width)`."""
    grey = tf.cast(images, tf.float32)[..., None] / 255.0  # (batch, height, width, 1)
    shape = (tf.shape(grey)[0], 1, 1, 1)
    grey = tf.pow(grey, tf.exp(tf.random.uniform(shape, -0.5, 0.5)))
    blurred = tf.nn.avg_pool2d(grey, 3, 1, "SAME")
    grey += tf.random.uniform(shape, -0.5, 1.0) * (blurred - grey)
    deviation = tf.math.reduce_std(grey, (1, 2, 3), keepdims=True)
    grey += tf.random.uniform(shape, 0.0, 0.3) * deviation * tf.random.normal(tf.shape(grey))
    return tf.saturate_cast(tf.round(255.0 * grey[..., 0]), tf.uint8)


def mask_columns(images):
    """Fills two strips of each image with its mean, each up to a twentieth of the width; shapes as above."""
    batch, _, width = tf.unstack(tf.shape(images))
    width = tf.cast(width, tf.float32)
    starts = tf.random.uniform((batch, 1, 2), 0.0, width)
    ends = starts + tf.random.uniform((batch, 1, 2), 0.0, 0.05 * width)
    columns = tf.range(width)[None, :, None]  # (1, width, 1)
    masked = tf.reduce_any((columns >= starts) & (columns < ends), axis=2)  # (batch, width)
    return _fill(images, masked[:, None, :])


def blot(images):
    """Fills an ellipse of each image with its mean, up to a fifth of the height wide; shapes as above."""
    batch, height, width = tf.unstack(tf.shape(images))
    height, width = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    x, y = (tf.random.uniform((batch, 1, 1), 0.0, size) for size in (width, height))
    radii = tf.random.uniform((2, batch, 1, 1), 1.0, 0.2 * height)
    distance = ((tf.range(width)[None, None, :] - x) / radii[0]) ** 2
    distance += ((tf.range(height)[None, :, None] - y) / radii[1]) ** 2  # (batch, height, width)
    return _fill(images, distance < 1)


def _fill(images, masked):
    means = tf.reduce_mean(tf.cast(images, tf.float32), axis=(1, 2), keepdims=True)
    return tf.where(masked, tf.saturate_cast(tf.round(means), tf.uint8), images)


def train(folder, case, count, seed, base):
    """Trains a case on `count` images of a folder, unless that is recorded; returns the row."""
    folder = folder / "train" if (folder / "train").is_dir() else folder
    given, held_out = learning_curve.split(folder)
    name = folder.parent.name if folder.name == "train" else folder.name
    chosen = learning_curve.choose(given, count, seed)
    settings, changes = CASES[case]
    identity = {"set": name, "case": case, "labels": len(chosen), "base": base}
    identity |= {"seed": seed, "base file": learning_curve.base_version(base)}
    settings = {"seed": seed, "base_reader": base, **settings}
    return study.measure_held_out("candidates", identity, chosen, held_out, name, changes, **settings)


def table(rows):
    """Formats a Markdown table: a line for each case, a column for each set, number of labels and start."""
    columns = list(dict.fromkeys((row["set"], row["labels"], row["base"]) for row in rows))
    header = ["case", *(f"{name}, {n} labels, {learning_curve.BASES[base]}" for name, n, base in columns)]
    lines = []
    for case in dict.fromkeys(row["case"] for row in rows):
        cells = []
        for column in columns:
            same = [r for r in rows if (r["case"], r["set"], r["labels"], r["base"]) == (case, *column)]
            right = " / ".join(str(row["test"]["right"]) for row in same)
            seconds = statistics.median([row["seconds"] for row in same] or [0])
            cells.append(f"{right} of {same[0]['test']['images']} ({seconds:.0f} s)" if same else "–")
        lines.append([case, *cells])
    return study.markdown_table(header, lines)


def main(arguments=None):
    """Runs the study and returns the exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks.candidates", description=__doc__.split("\n")[0])
    option = parser.add_argument
    option("folders", metavar="FOLDER", nargs="*", help="a folder of labelled images; none: only the table")
    option("--cases", nargs="+", choices=list(CASES), default=list(CASES), help="default: all")
    option("--labels", type=int, default=100, help="number of images to train on (default: 100)")
    option("--seeds", nargs="+", type=int, default=[1], help="default: 1")
    option("--base", choices=list(learning_curve.BASES), default="auto", help="default: auto")
    options = parser.parse_args(arguments)
    for seed in options.seeds:
        for folder in map(parameters.resolve, options.folders):
            for case in options.cases:
                train(folder, case, options.labels, seed, options.base)
    print(table(study.recorded_rows("candidates")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
