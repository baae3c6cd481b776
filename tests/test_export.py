import json
import subprocess
import sys

import keras
import numpy as np
import onnx
import pytest
from keras import layers

from conftest import PROJECT
from snippet_ocr import images
from snippet_ocr.alphabet import Alphabet
from snippet_ocr.decoding import greedy_decode, log_softmax
from snippet_ocr.model_file import DESCRIPTION, OnnxModel
from snippet_ocr.reader import Reader
from tools import export
from tools.notebook import load_build_model

ALPHABET = Alphabet("abcdé")


@pytest.fixture(scope="module")
def reader():
    """A reader of the notebook's model, in which no weight has its first, simple value."""
    keras.utils.set_random_seed(3)
    model = load_build_model()(80, 24, 5, ALPHABET.number_of_classes, 4, 0.1)
    generator = np.random.default_rng(0)
    for variable in model.variables:
        if "seed" not in variable.path:
            value = np.array(variable) + generator.normal(size=variable.shape, scale=0.1)
            variable.assign(np.abs(value) + 0.1 if "variance" in variable.path else value)
    return Reader(keras.Model(model.inputs[0], model.get_layer("logits").output), ALPHABET, {"seed": 3})


@pytest.fixture(scope="module")
def prepared(shipped):
    return np.stack([images.prepare_image(path, 80, 24) for path in shipped[:200]])


@pytest.fixture(scope="module")
def exported(reader, prepared, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "reader.onnx"
    export.export(reader, "onnx", path, prepared)
    return path


def test_onnx_gives_the_log_probabilities_of_keras_in_batches_of_any_size(reader, prepared, exported):
    expected = log_softmax(reader.model.predict_on_batch(prepared))
    model = OnnxModel(exported)
    for count in (1, 7, 200):
        found = model.predict_on_batch(prepared[:count])
        assert found == pytest.approx(expected[:count], abs=export.TOLERANCE)
    assert len({tuple(text) for text in greedy_decode(expected)}) > 20


def test_onnx_has_a_node_for_each_bidirectional_gru_and_no_normalisation_that_can_be_folded(exported):
    kinds = [node.op_type for node in onnx.load(exported).graph.node]
    assert kinds.count("GRU") == 3
    assert not {"Loop", "Scan", "BatchNormalization", "Mul"} & set(kinds)


@pytest.mark.parametrize("gamma", [[1.0, 2.0, 0.5, 3.0], [1.0, -1.0, 2.0, -0.5]])
def test_pooled_normalisation_gives_the_same_folded_or_not(gamma, prepared, tmp_path):
    image = keras.Input((80, 24, 1))
    x = layers.MaxPooling2D(2)(layers.Conv2D(4, 3, padding="same")(image))
    normalisation = layers.BatchNormalization()
    x = layers.Reshape((40, 48))(normalisation(x))
    model = keras.Model(image, layers.Dense(6)(x))
    normalisation.gamma.assign(gamma)
    reader = Reader(model, ALPHABET)
    assert export.export(reader, "onnx", tmp_path / "reader.onnx", prepared[:20]) < export.TOLERANCE


def test_reader_loads_onnx_with_all_that_reading_needs_and_reads_the_same(reader, exported, shipped):
    loaded = Reader.load(exported)
    assert (loaded.alphabet, loaded.provenance) == (ALPHABET, {"seed": 3})
    sizes = ("image_width", "image_height", "time_steps")
    assert [getattr(loaded, name) for name in sizes] == [getattr(reader, name) for name in sizes]
    for expected, found in zip(reader.read(shipped[:50]), loaded.read(shipped[:50]), strict=True):
        assert found.text == expected.text
        assert found.confidence == pytest.approx(expected.confidence, rel=1e-3)


def test_layer_of_an_unknown_kind_is_refused_by_name(prepared, tmp_path):
    image = keras.Input((80, 24, 1))
    x = layers.Dense(6)(layers.Reshape((80, 24))(image))
    model = keras.Model(image, layers.SpatialDropout1D(0.1, name="odd one")(x))
    with pytest.raises(ValueError, match=r"'odd one'.*SpatialDropout1D"):
        export.export(Reader(model, ALPHABET), "onnx", tmp_path / "reader.onnx", prepared)
    assert not list(tmp_path.iterdir())


def test_export_that_reads_differently_leaves_nothing_behind(reader, prepared, tmp_path, monkeypatch):
    def forgetful(graph, layer):
        graph.add("LayerNormalization", np.array(layer.gamma), epsilon=layer.epsilon)

    monkeypatch.setitem(export.WRITERS, layers.LayerNormalization, forgetful)
    with pytest.raises(ValueError, match="log-probabilities differ by up to"):
        export.export(reader, "onnx", tmp_path / "reader.onnx", prepared)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(reader, prepared, tmp_path):
    (tmp_path / "reader.onnx").write_text("mine")
    with pytest.raises(ValueError, match="Expected nothing at"):
        export.export(reader, "onnx", tmp_path / "reader.onnx", prepared)
    assert (tmp_path / "reader.onnx").read_text() == "mine"


def test_reader_in_onnx_is_not_exported_again(exported, prepared, tmp_path):
    with pytest.raises(ValueError, match=r"Expected a reader of Keras"):
        export.export(Reader.load(exported), "savedmodel", tmp_path / "reader", prepared)


def test_images_that_cannot_be_read_are_passed_over(reader, shipped, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"nothing")
    assert export.prepare([tmp_path / "broken.png", *shipped[:3]], reader).shape == (3, 80, 24, 1)
    with pytest.raises(ValueError, match="None of 1 can be read"):
        export.prepare([tmp_path / "broken.png"], reader)


def test_folder_that_is_not_there_is_an_error_in_a_line(reader, tmp_path, capsys):
    reader.save(tmp_path / "reader.keras")
    out = tmp_path / "missing" / "reader.onnx"
    assert export.main([str(tmp_path / "reader.keras"), "--to", "onnx", "--out", str(out)]) == 1
    assert "missing" in capsys.readouterr().err


def test_command_exports_beside_the_reader_in_both_formats(reader, tmp_path, capsys):
    reader.save(tmp_path / "reader.keras")
    for form in export.FORMATS:
        assert export.main([str(tmp_path / "reader.keras"), "--to", form]) == 0
        assert "reads 200 images as Keras does" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reader", "reader.keras", "reader.onnx"]
    description = json.loads((tmp_path / "reader" / "assets.extra" / DESCRIPTION).read_text(encoding="utf-8"))
    assert description["alphabet"] == ALPHABET.characters


def test_onnx_needs_neither_keras_nor_tensorflow(exported, shipped, tmp_path):
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    install = [python, "-m", "pip", "install", "--quiet", "--constraint", PROJECT / "constraints.txt"]
    subprocess.run([*install, "onnxruntime", "numpy", "pillow"], check=True)
    listed = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
    assert "tensorflow" not in listed and "keras" not in listed
    command = [python, "-m", "snippet_ocr", exported, *shipped[:3]]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    texts = [line.split("\t")[1] for line in done.stdout.splitlines()]
    assert texts == [reading.text for reading in Reader.load(exported).read(shipped[:3])]
