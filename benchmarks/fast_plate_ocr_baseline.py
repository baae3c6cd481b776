"""Trains fast-plate-ocr with its own command, timed by `benchmarks.clock`.

    .venv-fast-plate-ocr/bin/python -m benchmarks.fast_plate_ocr_baseline FOLDER CURVE …

It runs in its own virtual environment (`make .venv-fast-plate-ocr/installed`)
and imports nothing of this project except `Clock`. The first arguments are
those of `benchmarks.baselines`.
"""

import argparse
import csv
import json
import sys
from pathlib import Path

import keras

from benchmarks.clock import Clock

CONVOLUTION = {"layer": "Conv2D", "kernel_size": 3, "strides": 1, "padding": "valid", "activation": "relu"}
POOLING = {"layer": "MaxBlurPooling2D", "pool_size": 2, "filter_size": 3}
CCT_XS = {
    "model": "cct",
    "rescaling": {"scale": 1 / 255, "offset": 0.0},
    "tokenizer": {
        "blocks": [
            {**CONVOLUTION, "filters": 32},
            POOLING,
            {**CONVOLUTION, "filters": 48},
            {**CONVOLUTION, "filters": 64},
            POOLING,
            {**CONVOLUTION, "filters": 80},
            {**CONVOLUTION, "filters": 96},
        ],
        "positional_emb": True,
        "patch_size": 2,
        "patch_mlp": {"layer": "MLP", "hidden_units": [64], "activation": "gelu", "dropout_rate": 0.05},
    },
    "transformer_encoder": {
        "layers": 4,
        "heads": 1,
        "projection_dim": 64,
        "units": [64, 64],
        "activation": "gelu",
        "stochastic_depth": 0.05,
        "attention_dropout": 0.05,
        "mlp_dropout": 0.1,
        "head_mlp_dropout": 0.05,
        "token_reducer_heads": 4,
        "normalization": "dyt",
    },
}
"""The values of its `models/cct_xs_v1.yaml`, which is not part of its package."""


def plate_config(texts, height=50, width=200, color="grayscale"):
    """Returns its configuration of texts and images, with a slot for each character of the longest text."""
    characters = set("".join(texts))
    pad = next(one for one in "_~|^`" if one not in characters)
    return {
        "max_plate_slots": max(map(len, texts)),
        "alphabet": "".join(sorted(characters)) + pad,
        "pad_char": pad,
        "img_height": height,
        "img_width": width,
        "image_color_mode": color,
    }


def main(arguments=None):
    """Trains fast-plate-ocr and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fast_plate_ocr_baseline", description="Trains fast-plate-ocr."
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("curve", type=Path)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--limit", type=float, required=True, help="maximum training time in seconds")
    parser.add_argument("--target", type=float, required=True, help="exact match that ends the training")
    parser.add_argument("--epochs", default="150", help="maximum number of epochs; its schedule ends there")
    parser.add_argument("--height", type=int, default=50, help="height of the images in pixels")
    parser.add_argument("--width", type=int, default=200, help="width of the images in pixels")
    parser.add_argument("--color", choices=["grayscale", "rgb"], default="grayscale")
    options = parser.parse_args(arguments)
    folder, texts = options.folder, []
    for split in ("training", "unseen"):
        with (folder / f"{split}.csv").open(encoding="utf-8", newline="") as lines:
            texts += [row["plate_text"] for row in csv.DictReader(lines)]
    config = plate_config(texts, options.height, options.width, options.color)
    # It reads YAML, and JSON is a subset of YAML.
    (folder / "model.yaml").write_text(json.dumps(CCT_XS), encoding="utf-8")
    (folder / "plate.yaml").write_text(json.dumps(config), encoding="utf-8")

    # Its command takes no callbacks, so `fit` is wrapped to add the clock.
    fit = keras.Model.fit
    clock = Clock(options.curve, "val_acc", options.limit, options.target)
    keras.Model.fit = lambda *args, callbacks, **kwargs: fit(*args, callbacks=[*callbacks, clock], **kwargs)
    from fast_plate_ocr.cli.train import train

    train(
        [
            *("--model-config-file", str(folder / "model.yaml")),
            *("--plate-config-file", str(folder / "plate.yaml")),
            *("--annotations", str(folder / "training.csv")),
            *("--val-annotations", str(folder / "unseen.csv")),
            *("--batch-size", "16", "--epochs", options.epochs, "--seed", options.seed),
            *("--output-dir", str(folder / "trained")),
        ],
        standalone_mode=False,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
