import keras
import numpy as np
import onnx
import pytest
from keras import layers

from snippet_ocr import images
from snippet_ocr.alphabet import Alphabet
from snippet_ocr.decoding import greedy_decode, log_softmax
from snippet_ocr.model_file import OnnxModel
from snippet_ocr.reader import Reader
from tools import export as command
from tools.notebook import load_build_model
from training import PROJECT, export, onnx_graph

ALPHABET = Alphabet("abcdé")


@pytest.fixture(scope="module")
def reader():
    """A reader with the notebook's model, in which no weight has its simple initial value."""
    keras.utils.set_random_seed(3)
    model = load_build_model()(24, 5, ALPHABET.number_of_classes, 0.1)
    generator = np.random.default_rng(0)
    for variable in model.variables:
        if "seed" not in variable.path:
            value = np.array(variable) + generator.normal(size=variable.shape, scale=0.1)
            variable.assign(np.abs(value) + 0.1 if "variance" in variable.path else value)
    return Reader(
        keras.Model(model.inputs[0], model.get_layer("logits").output), ALPHABET, [48, 80], {"seed": 3}
    )


@pytest.fixture(scope="module")
def prepared(shipped):
    return np.stack([images.load_fitted(path, [80], 24) for path in shipped[:200]])


def first_layers():
    """An input of images, and the same images as floats of shape (batch, width, 24, 1)."""
    image = keras.Input((24, None), dtype="uint8")
    x = layers.Permute((2, 1))(layers.Rescaling(-0.02, offset=4.0)(image))
    return image, layers.Reshape((-1, 24, 1))(x)


@pytest.fixture(scope="module")
def exported(reader, prepared, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "reader.onnx"
    export.export(reader, path, prepared)
    return path


def test_onnx_gives_the_same_log_probabilities_as_keras(reader, prepared, exported):
    expected = log_softmax(reader.model.predict_on_batch(prepared))
    model = OnnxModel(exported)
    for count in (1, 7, 200):
        found = model.predict_on_batch(prepared[:count])
        assert found == pytest.approx(expected[:count], abs=export.TOLERANCE)
    assert len({tuple(text) for text in greedy_decode(expected)}) > 20


def test_onnx_has_one_gru_node_per_layer_and_folds_normalisation(exported):
    kinds = [node.op_type for node in onnx.load(exported).graph.node]
    assert kinds.count("GRU") == 3
    assert not {"Loop", "Scan", "BatchNormalization"} & set(kinds)
    assert kinds.count("Mul") == 2  # the sign and the square of the pixels


def test_onnx_takes_the_bytes_of_images(exported):
    (image,) = onnx.load(exported).graph.input
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert OnnxModel(exported).input_shape == ("batch", 24, "width")


@pytest.mark.parametrize("width", [16, 37, 200])
def test_onnx_equals_keras_at_any_width(width, reader, exported):
    noise = np.random.default_rng(0).integers(0, 256, (3, 24, width)).astype("uint8")
    expected = log_softmax(reader.model.predict_on_batch(noise))
    assert expected.shape[1] == width // 4
    assert OnnxModel(exported).predict_on_batch(noise) == pytest.approx(expected, abs=export.TOLERANCE)


@pytest.mark.parametrize("grey", [1, 128, 252])
def test_onnx_standardises_faint_images_like_keras(grey, reader, exported):
    faint = np.random.default_rng(0).integers(grey - 1, grey + 3, (20, 24, 80)).astype("uint8")
    expected = log_softmax(reader.model.predict_on_batch(faint))
    assert OnnxModel(exported).predict_on_batch(faint) == pytest.approx(expected, abs=export.TOLERANCE)


@pytest.mark.parametrize("gamma", [[1.0, 2.0, 0.5, 3.0], [1.0, -1.0, 2.0, -0.5]])
def test_normalisation_after_pooling_is_exported_exactly(gamma, prepared, tmp_path):
    image, x = first_layers()
    x = layers.MaxPooling2D(2)(layers.Conv2D(4, 3, padding="same")(x))
    normalisation = layers.BatchNormalization()
    x = layers.Reshape((-1, 48))(normalisation(x))
    model = keras.Model(image, layers.Dense(6)(x))
    normalisation.gamma.assign(gamma)
    reader = Reader(model, ALPHABET, [80])
    assert export.export(reader, tmp_path / "reader.onnx", prepared[:20]) < export.TOLERANCE


@pytest.mark.parametrize("between", [layers.Dropout(0.1), layers.MaxPooling2D(1)])
def test_normalisation_is_not_folded_if_another_layer_needs_the_convolution(between, prepared, tmp_path):
    image, x = first_layers()
    convolved = layers.Conv2D(4, 3, padding="same")(x)
    normalisation = layers.BatchNormalization()
    x = layers.Add()([convolved, normalisation(between(convolved))])
    x = layers.Reshape((-1, 96))(x)
    model = keras.Model(image, layers.Dense(6)(x))
    normalisation.gamma.assign([1.0, -1.0, 2.0, 0.5])
    reader = Reader(model, ALPHABET, [80])
    path = tmp_path / "reader.onnx"
    assert export.export(reader, path, prepared[:20]) < export.TOLERANCE
    assert "Loop" not in {node.op_type for node in onnx.load(path).graph.node}


def test_exported_reader_loads_and_reads_like_the_original(reader, exported, shipped):
    loaded = Reader.load(exported)
    assert (loaded.alphabet, loaded.provenance) == (ALPHABET, {"seed": 3})
    sizes = ("widths", "image_height", "time_steps")
    assert [getattr(loaded, name) for name in sizes] == [getattr(reader, name) for name in sizes]
    for expected, found in zip(reader.read(shipped[:50]), loaded.read(shipped[:50]), strict=True):
        assert found.text == expected.text
        assert found.confidence == pytest.approx(expected.confidence, rel=1e-3)


def without_sign(graph, layer, x):
    """Writes no node, so that dark pixels are negative."""
    return graph.values[id(x)]


def no_exporter(*arguments, **options):
    raise RuntimeError("no exporter")


def test_layer_that_is_written_wrongly_is_exported_by_keras(reader, prepared, tmp_path, monkeypatch):
    monkeypatch.setitem(onnx_graph.WRITERS, "Rescaling", without_sign)
    path = tmp_path / "reader.onnx"
    assert export.export(reader, path, prepared[:20]) < export.TOLERANCE
    assert {node.op_type for node in onnx.load(path).graph.node} >= {"Loop"}


def test_export_that_reads_differently_leaves_no_file(reader, prepared, tmp_path, monkeypatch):
    monkeypatch.setitem(onnx_graph.WRITERS, "Rescaling", without_sign)
    monkeypatch.setattr(keras.Model, "export", no_exporter)
    with pytest.raises(ValueError, match=r"probabilities differ by up to.*Keras's own.*no exporter"):
        export.export(reader, tmp_path / "reader.onnx", prepared[:20])
    assert not list(tmp_path.iterdir())


def test_reader_that_cannot_be_exported_is_saved_and_read(reader, shipped, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_graph, "write", no_exporter)
    (tmp_path / "reader.onnx").write_text("of an earlier model")
    loaded, arguments, message = export.save(reader, tmp_path, shipped[:3])
    assert [path.name for path in tmp_path.iterdir()] == ["reader.keras"]
    assert message.startswith("no reader.onnx, read with reader.keras: ")
    assert arguments == str(tmp_path / "reader.keras")
    assert loaded.read(shipped[:1])[0].text == reader.read(shipped[:1])[0].text


class Doubled(layers.Layer):
    """A layer that Keras does not know when it loads a file."""

    def call(self, x):
        return 2 * x


def test_layer_of_the_notebook_itself_exports_and_reads(reader, shipped, tmp_path, monkeypatch):
    model = keras.Model(reader.model.inputs, Doubled()(reader.model.output))
    doubled = Reader(model, ALPHABET, [80])
    loaded, arguments, _ = export.save(doubled, tmp_path, shipped[:3])
    assert arguments == str(tmp_path / "reader.onnx")
    expected, found = (one.read(shipped[:1])[0] for one in (doubled, loaded))
    assert (found.text, found.confidence) == (expected.text, pytest.approx(expected.confidence, rel=1e-3))
    monkeypatch.setattr(onnx_graph, "write", no_exporter)
    loaded, _, message = export.save(doubled, tmp_path, shipped[:3])
    assert loaded is doubled
    assert "reader.keras cannot be loaded" in message


def test_file_with_a_loop_is_saved_for_trusted_reading(reader, shipped, tmp_path, monkeypatch):
    monkeypatch.setitem(onnx_graph.WRITERS, "Rescaling", without_sign)
    loaded, arguments, message = export.save(reader, tmp_path, shipped[:3])
    assert arguments == f"--trust {tmp_path / 'reader.onnx'}"
    assert "reader.onnx needs --trust: " in message
    assert "'Loop'" in message
    assert len(loaded.read(shipped[:2])) == 2


def test_command_never_overwrites_a_file(reader, tmp_path, capsys):
    reader.save(tmp_path / "reader.keras")
    (tmp_path / "reader.onnx").write_text("mine")
    assert command.main([str(tmp_path / "reader.keras")]) == 1
    assert f"Delete {tmp_path / 'reader.onnx'}" in capsys.readouterr().err
    assert (tmp_path / "reader.onnx").read_text() == "mine"


def test_command_refuses_a_name_that_no_reader_opens(reader, tmp_path, capsys):
    reader.save(tmp_path / "reader.keras")
    assert command.main([str(tmp_path / "reader.keras"), "--out", str(tmp_path / "reader.bin")]) == 1
    assert "Expected a new file that ends in .onnx" in capsys.readouterr().err


def test_exported_reader_is_not_exported_again(exported, prepared, tmp_path):
    with pytest.raises(ValueError, match=r"Expected a \.keras file"):
        export.export(Reader.load(exported), tmp_path / "reader.onnx", prepared)


def test_unreadable_images_are_skipped_in_the_comparison(reader, shipped, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"nothing")
    assert command.prepare([tmp_path / "broken.png", *shipped[:3]], reader)[2].shape == (24, 80)
    with pytest.raises(ValueError, match="None of 1 can be read"):
        command.prepare([tmp_path / "broken.png"], reader)


def test_command_reports_a_missing_folder(reader, tmp_path, capsys):
    reader.save(tmp_path / "reader.keras")
    out = tmp_path / "missing" / "reader.onnx"
    assert command.main([str(tmp_path / "reader.keras"), "--out", str(out)]) == 1
    assert str(out) in capsys.readouterr().err


def test_command_exports_next_to_the_reader(reader, tmp_path, capsys):
    reader.save(tmp_path / "reader.keras")
    assert command.main([str(tmp_path / "reader.keras")]) == 0
    assert "compared 200 images of" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reader.keras", "reader.onnx"]


def test_comparison_uses_the_images_of_the_training(model, tmp_path):
    def folder_of(provenance):
        return command.training_folder(Reader(model, ALPHABET, [80], provenance))

    captchas = PROJECT / "captcha_images"
    assert folder_of({"parameters": {"data_dir": str(tmp_path)}}) == tmp_path
    assert folder_of({"parameters": {"data_dir": "captcha_images"}}) == captchas
    assert folder_of({"parameters": {"data_dir": str(tmp_path / "gone")}}) == captchas
    assert folder_of({}) == folder_of({"parameters": None}) == captchas


@pytest.mark.parametrize("name", ["", "/", "missing.keras"])
def test_export_without_a_reader_is_refused(name, capsys):
    assert command.main([name]) == 1
    assert "Expected a saved reader at" in capsys.readouterr().err
