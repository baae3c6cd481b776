"""Typical edits of the notebook's `build_model`: each model is saved, exported, loaded and reads the same."""

import json

import keras
import numpy as np
import pytest
from keras import layers
from notebook_runs import TWO_EPOCHS, run

from conftest import PROJECT
from CTCLayer import CTCLayer
from snippet_ocr.alphabet import Alphabet
from snippet_ocr.model_file import OnnxModel
from snippet_ocr.reader import Reader
from training import export

ALPHABET = Alphabet("abcdé")
CONVOLUTION = 'x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)\n'
SECOND = CONVOLUTION.removeprefix("x = ").rstrip()
GRU = "layers.Bidirectional(layers.GRU(units, return_sequences=True))"
DENSE = 'x = layers.Dense(128, use_bias=False, name="column_features")(x)\n'
RELU = 'layers.Activation("relu")(normalised(x))'
STANDARDISED = "center=False, scale=False, epsilon=1.0)(x)\n"

EDITS = {
    "Add": (CONVOLUTION, f"{CONVOLUTION}        x = layers.Add()([x, normalised({SECOND})])\n"),
    "Add, as a sum": ("layers.Add()([x, normalised(y)])", "x + normalised(y)"),
    "Concatenate": ("layers.Add()", "layers.Concatenate()"),
    "SeparableConv2D": ("layers.Conv2D", "layers.SeparableConv2D"),
    "ReLU": (RELU, "layers.ReLU(max_value=6)(normalised(x))"),
    "LeakyReLU": (RELU, "layers.LeakyReLU()(normalised(x))"),
    "GELU": (RELU, 'layers.Activation("gelu")(normalised(x))'),
    "GRU": (GRU, "layers.GRU(units, return_sequences=True)"),
    "LSTM": ("layers.GRU(units", "layers.LSTM(units"),
    "other GRU": ("layers.GRU(units", "layers.GRU(units, reset_after=False, use_bias=False"),
    "SpatialDropout1D": ("layers.Dropout(dropout)", "layers.SpatialDropout1D(dropout)"),
    "GaussianNoise": ("layers.Dropout(dropout)", "layers.GaussianNoise(dropout)"),
    "Permute": (STANDARDISED, f"{STANDARDISED}    x = layers.Permute((2, 1))(layers.Permute((2, 1))(x))\n"),
    "Rescaling": ("layers.Rescaling(-1.0)", "layers.Rescaling(-0.1, offset=20.0)"),
    "ZeroPadding2D": (CONVOLUTION, CONVOLUTION.replace(', padding="same"', "").replace("(x)", "(padded(x))")),
    "L2": ("use_bias=False)", 'use_bias=False, kernel_regularizer="l2")'),
    "RandomNormal": ("use_bias=False)", "use_bias=False, kernel_initializer=RandomNormal(stddev=0.3))"),
    "AveragePooling2D": ("layers.MaxPooling2D", "layers.AveragePooling2D"),
    "attention": ("    mostly_blank =", "    x = layers.MultiHeadAttention(2, 8)(x, x)\n    mostly_blank ="),
    "no dense layer": (DENSE, "\n"),
}
NEEDS_TRUST = {
    "SimpleRNN": ("layers.GRU(units", "layers.SimpleRNN(units"),
    "Lambda": (
        "    mostly_blank =",
        "    x = layers.Lambda(keras.ops.sin)(x)\n    mostly_blank =",
    ),
}
"""Edits whose files are refused unless they are trusted: they have loops, or unusual operations."""


def model_source():
    cells = json.loads((PROJECT / "ocr.ipynb").read_text(encoding="utf-8"))["cells"]
    (cell,) = [cell for cell in cells if "model" in cell["metadata"].get("tags", [])]
    return "".join(cell["source"])


@pytest.fixture(scope="module")
def noise():
    """Images of two widths."""
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (24, width)).astype("uint8") for width in 10 * [80] + 5 * [120]]


def edited_reader(before, after):
    """A reader whose model has the edit, with random weights and statistics."""
    source = model_source()
    assert before in source
    names = {"keras": keras, "layers": layers, "CTCLayer": CTCLayer}
    names |= {"padded": lambda x: layers.ZeroPadding2D(1)(x), "RandomNormal": keras.initializers.RandomNormal}
    exec(source.replace(before, after), names)
    keras.utils.set_random_seed(0)
    model = names["build_model"](24, 5, ALPHABET.number_of_classes, 0.1)
    generator = np.random.default_rng(0)
    for weight in model.weights:
        if "seed" not in weight.path:
            value = np.array(weight) + generator.normal(size=weight.shape, scale=0.1)
            weight.assign(np.abs(value) + 0.1 if "variance" in weight.path else value)
    reading_model = keras.Model(model.inputs[0], model.get_layer("logits").output)
    return Reader(reading_model, ALPHABET, [80, 120])


def assert_same(reader, other, noise):
    for expected, found in zip(*(one.log_probabilities(noise) for one in (reader, other)), strict=True):
        assert found == pytest.approx(expected, abs=export.TOLERANCE)


@pytest.mark.parametrize("edit", EDITS)
def test_edited_model_exports_and_both_files_read_like_it(edit, noise, tmp_path):
    reader = edited_reader(*EDITS[edit])
    reader.save(tmp_path / "reader.keras")
    export.export(reader, tmp_path / "reader.onnx", noise)
    for name in ("reader.keras", "reader.onnx"):
        assert_same(reader, Reader.load(tmp_path / name), noise)
    assert export.export(reader, tmp_path / "again.onnx", noise) < export.TOLERANCE


@pytest.mark.parametrize("edit", NEEDS_TRUST)
def test_model_with_unusual_layers_exports_and_reads_if_trusted(edit, noise, tmp_path):
    reader = edited_reader(*NEEDS_TRUST[edit])
    loaded, arguments, message = export.save(reader, tmp_path, noise)
    assert isinstance(loaded.model, OnnxModel), message
    assert arguments == f"--trust {tmp_path / 'reader.onnx'}"
    assert "reader.onnx needs --trust: " in message
    assert_same(reader, loaded, noise)


def edit_notebook(project, before, after):
    path = project / "ocr.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if "model" in cell["metadata"].get("tags", []):
            source = "".join(cell["source"])
            assert before in source
            cell["source"] = source.replace(before, after).splitlines(keepends=True)
    path.write_text(json.dumps(notebook), encoding="utf-8")


@pytest.mark.parametrize("edit", ["Add", "LeakyReLU"])
def test_notebook_with_an_edited_model_leaves_a_reader(edit, project, image_folder, tmp_path):
    edit_notebook(project, *EDITS[edit])
    variables = TWO_EPOCHS | {"OCR_EPOCHS": "1", "OCR_DATA_DIR": str(image_folder)}
    code, output = run("jupyter", project, project, **variables)
    assert code == 0, output
    reader = Reader.load(project / "runs" / "tiny run" / "reader.onnx")
    assert len(reader.read(sorted(image_folder.iterdir()))) == 30
