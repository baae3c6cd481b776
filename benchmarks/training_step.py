"""How long does a training step take, and which part of it do the GRUs take?

    python -m benchmarks.training_step

trains copies of the notebook's model on random images, one step of each in turn, so that a busy machine slows
all of them alike: with Keras's own GRUs, with and without decoding the training batches, and with those of
`training.fast_gru`; and without GRUs. The row is appended to benchmarks/results/training_step.jsonl.
"""

import sys
import time

import keras
import numpy as np

from benchmarks.study import append_row
from tools.notebook import load_build_model
from training import metrics
from training.fast_gru import speed_up

BATCH, ROUNDS, WARM_UP = 16, 100, 3
VARIANTS = {
    "Keras, batches decoded": (lambda model: model, True),
    "Keras": (lambda model: model, False),
    "fast_gru": (speed_up, False),
    "no GRUs": (lambda model: without_grus(model), False),
}
"""For each variant: what is done to the model, and whether the metrics are computed."""


def without_grus(model):
    """Replaces each bidirectional GRU by a repetition of its inputs, in place; returns the model."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Bidirectional):
            width = 2 * layer.forward_layer.units

            def call(sequences, initial_state=None, mask=None, training=None, width=width):
                return keras.ops.tile(sequences, (1, 1, -(-width // sequences.shape[2])))[:, :, :width]

            layer.call = call
    return model


def build(prepare, decoded):
    """Returns the notebook's model for 200×50 images and 5 of 19 characters, compiled as there."""
    keras.utils.set_random_seed(1)
    model = prepare(load_build_model()(50, 5, 20, 0.15))
    optimizer = keras.optimizers.Adam(0.003, global_clipnorm=1.0, use_ema=True, ema_momentum=0.98)
    model.compile(optimizer, metrics=[metrics.ExactMatch(), metrics.ClippedLoss()] if decoded else [])
    return model


def main():
    """Runs the benchmark and returns the exit code."""
    rng = np.random.default_rng(0)
    label = rng.integers(1, 20, (BATCH, 5)).astype("int32")
    batch = {"image": rng.integers(0, 256, (BATCH, 50, 200)).astype("uint8"), "label": label}
    models = {name: build(*variant) for name, variant in VARIANTS.items()}
    seconds = {name: [] for name in models}
    for _ in range(WARM_UP + ROUNDS):
        for name, model in models.items():
            started = time.perf_counter()
            model.train_on_batch(batch, label)
            seconds[name].append(time.perf_counter() - started)
    figures = {name: np.array(values[WARM_UP:]) * 1000 / BATCH for name, values in seconds.items()}
    row = {
        name: {
            "milliseconds per image, median": round(float(np.median(values)), 2),
            "ratio to Keras, median": round(float(np.median(values / figures["Keras"])), 3),
        }
        for name, values in figures.items()
    }
    append_row("training_step", {"batch size": BATCH, "rounds": ROUNDS, **row})
    for name, found in row.items():
        print(f"{name:<24}" + ", ".join(f"{value} {key}" for key, value in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
