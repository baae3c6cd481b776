import contextlib
import io
import json
import zipfile

import h5py
import keras
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from damage import assert_refused, damaged
from examples import ALPHABET
from snippet_ocr import safety
from snippet_ocr.model_file import DESCRIPTION
from snippet_ocr.reader import Reader
from training import onnx_graph


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def crafted(saved, tmp_path):
    """Writes a copy of a saved reader with some members changed, added, or removed (None)."""

    def write(compression=zipfile.ZIP_STORED, **changes):
        path = tmp_path / "crafted.keras"
        members = members_of(saved) | {name.replace("__", "."): content for name, content in changes.items()}
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, content in members.items():
                if content is not None:
                    archive.writestr(name, content)
        return path

    return write


@pytest.fixture
def config(saved):
    return json.loads(members_of(saved)["config.json"])


def layer(config, kind):
    """Returns the configuration of the first layer of a type, or of the layer of a name."""
    return next(one for one in config["config"]["layers"] if kind in (one["class_name"], one["name"]))


def test_unchanged_copy_of_a_reader_is_accepted(crafted):
    assert Reader.load(crafted()).alphabet == ALPHABET


@keras.saving.register_keras_serializable(package="test")
class Foreign(layers.Layer):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("foreign", "name"),
    [(layers.Lambda(lambda x: x), "Lambda"), (Foreign(), "Foreign"), (layers.Hashing(9), "Hashing")],
)
def test_other_type_of_layer_is_refused_by_name(foreign, name, crafted):
    image = keras.Input((24, None), dtype="uint8")
    x = layers.Permute((2, 1))(foreign(image))
    model = keras.Model(image, layers.Dense(ALPHABET.number_of_classes)(layers.Rescaling(1.0)(x)))
    assert_refused(
        crafted(config__json=json.dumps(keras.saving.serialize_keras_object(model))),
        f"'{name}'.*not accepted",
    )


@pytest.mark.parametrize(
    "foreign",
    [
        {"module": "os", "class_name": "system", "config": {}, "registered_name": None},
        {"module": "builtins", "class_name": "function", "config": "eval", "registered_name": "function"},
        {"class_name": "__lambda__", "config": {"value": "4wAAAA=="}},
        {"module": "keras.layers", "class_name": "Dense", "config": {}, "registered_name": "test>Foreign"},
        {"module": "keras.layers", "class_name": ["Dense"], "config": {}},
        {"module": ["keras.layers"], "class_name": "Dense", "config": {}},
        {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/tmp"}},
        {"module": "keras.initializers", "class_name": "get", "config": {}},
    ],
)
def test_foreign_class_inside_a_layer_is_refused(foreign, config, crafted):
    layer(config, "Dense")["config"]["kernel_initializer"] = foreign
    assert_refused(crafted(config__json=json.dumps(config)))


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        ("logits", {"units": 50_000}, "declares .* bytes of weights"),
        ("Dense", {"units": 10**12}, ""),
        ("Dense", {"units": -1}, ""),
        ("Dense", {"lora_rank": 1_500_000}, "the option lora_rank"),
        ("Dense", {"quantization_config": {"class_name": "Int8QuantizationConfig"}}, "quantization_config"),
        ("Dense", {"activation": "glu"}, "activation = 'glu' is not accepted"),
        ("Conv2D", {"filters": 10**7}, ""),
        ("Conv2D", {"kernel_size": [60_000, 60_000]}, "declares .* bytes of weights"),
        ("MaxPooling2D", {"pool_size": [60_000, 1]}, ""),
        ("InputLayer", {"batch_shape": [None, 24, 80]}, "not uint8 of any width"),
        ("InputLayer", {"batch_shape": [10**9, 24, None]}, "not uint8 of any width"),
        ("InputLayer", {"batch_shape": [None, 24, None, 1]}, "not uint8 of any width"),
        ("InputLayer", {"batch_shape": [None, 10**9, None]}, "whole number from 1"),
        ("InputLayer", {"batch_shape": [None, 2**16, None]}, "out of bounds"),
        ("InputLayer", {"batch_shape": [None]}, "not uint8 of any width"),
        ("InputLayer", {"dtype": "string"}, "not uint8 of any width"),
        ("Reshape", {"target_shape": [-1, 10**12]}, ""),
    ],
)
def test_size_out_of_bounds_is_refused_before_keras_allocates(
    kind, change, reason, config, crafted, monkeypatch
):
    monkeypatch.setattr(keras.saving, "load_model", lambda *_, **__: pytest.fail("Keras opened the file"))
    layer(config, kind)["config"].update(change)
    assert_refused(crafted(config__json=json.dumps(config)), reason)


def test_size_of_a_larger_output_is_refused(config, crafted):
    pooling = layer(config, "MaxPooling2D")
    pooling |= {"class_name": "UpSampling2D", "registered_name": None, "build_config": None}
    options = ("name", "trainable", "dtype")
    pooling["config"] = {name: pooling["config"][name] for name in options} | {"size": [3000, 1]}
    assert_refused(crafted(config__json=json.dumps(config)), "output out of bounds")


def test_build_config_for_another_shape_is_refused(config, crafted):
    layer(config, "Dense")["build_config"]["input_shape"] = [None, 20, 10**9]
    assert_refused(crafted(config__json=json.dumps(config)))


def test_weights_of_a_refused_reader_are_not_created_later(config, crafted, saved):
    layer(config, "Dense")["config"]["units"] = 10**10
    assert_refused(crafted(config__json=json.dumps(config)))
    with keras.StatelessScope():
        pass  # at its end, Keras creates all weights that are still to be created
    assert Reader.load(saved).alphabet == ALPHABET


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"[" * 100_000,
        b'{"config": {"layers": []}}',
        b'{"config": {"layers": {}}}',
        b"\xff",
    ],
)
def test_invalid_configuration_is_refused(content, crafted):
    assert_refused(crafted(config__json=content))


@pytest.mark.parametrize(
    "widths", [None, 80, [], [80, 40], [80, 80], [0], [-8], [8.0], [True], ["80"], [10**6], {"80": 1}]
)
def test_widths_that_are_not_an_ascending_list_are_refused(widths, model, crafted, tmp_path):
    description = Reader(model, ALPHABET, [80]).metadata() | {"widths": widths}
    onnx.save(onnx_graph.write(model, description), tmp_path / "crafted.onnx")
    for path in (crafted(reader__json=json.dumps(description)), tmp_path / "crafted.onnx"):
        assert_refused(path, "widths|whole number from 1")


def test_outputs_are_bounded_for_an_image_of_each_width(model, crafted, monkeypatch):
    description = Reader(model, ALPHABET, [80, 20_000]).metadata()
    path = crafted(reader__json=json.dumps(description))
    assert Reader.load(path).widths == [80, 20_000]
    monkeypatch.setattr(safety, "MAX_VALUES", 2 * 20_000 * 24 * 32 - 1)  # of the first convolution
    assert_refused(path, "output out of bounds: \\(None, 40000, 24, 32\\)")


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"[1]", b'"text"', b"\xff", b'{"alphabet": 7}'])
def test_invalid_metadata_is_refused(content, crafted):
    assert_refused(crafted(reader__json=content))


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "assets/x", "model.weights.h5/.."])
def test_additional_member_is_refused_and_not_unpacked(name, saved, tmp_path):
    path = tmp_path / "inner" / "crafted.keras"
    path.parent.mkdir()
    path.write_bytes(saved.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, "x")
    assert_refused(path, "expected the members")
    assert [one.name for one in tmp_path.rglob("*")] == ["inner", "crafted.keras"]


def test_file_with_another_suffix_is_refused_unopened(saved, tmp_path):
    # Keras opens a file that ends in .h5 as HDF5, with its code; for zipfile the same file is an archive.
    path = tmp_path / "reader.h5"
    layers_with_code = keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: x)])
    layers_with_code.save(path)
    path.write_bytes(path.read_bytes() + saved.read_bytes())
    assert zipfile.is_zipfile(path)
    assert_refused(path, r"does not end in \.keras or \.onnx")


def test_duplicate_member_is_refused(saved, tmp_path):
    path = tmp_path / "crafted.keras"
    path.write_bytes(saved.read_bytes())
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("config.json", "{}")
    assert_refused(path, "expected the members")


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_archive_is_refused_without_unpacking(compression, crafted):
    bomb = crafted(compression, metadata__json=b" " * 50_000_000)
    assert bomb.stat().st_size < 3_000_000
    assert_refused(bomb, "without compression")


def test_truncated_archive_is_refused(saved, tmp_path):
    content, path = saved.read_bytes(), tmp_path / "cut.keras"
    for length in [0, 1, 100, *np.linspace(200, len(content) - 1, 30, dtype=int)]:
        path.write_bytes(content[:length])
        assert_refused(path)


def weights(write, base=None):
    """Returns the bytes of an HDF5 file after `write`, which starts from the bytes `base` or from none."""
    file = io.BytesIO(base or b"")
    with h5py.File(file, "a" if base else "w") as h5:
        write(h5)
    return file.getvalue()


def replaced_bias(saved, **how):
    """Returns a reader's weights file in which the bias of the dense layer is stored in another way."""

    def write(h5):
        (name,) = [
            f"layers/{one}/vars/1"
            for one in h5["layers"]
            if one.startswith("dense") and "1" in h5["layers"][one]["vars"]
        ]
        del h5[name]
        if "link" in how:
            h5[name] = how["link"]
        else:
            h5.create_dataset(name, **how)

    return weights(write, members_of(saved)["model.weights.h5"])


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"link": h5py.ExternalLink("/etc/passwd", "/")}, "plain array"),
        ({"link": h5py.SoftLink("/layers")}, "plain array"),
        ({"shape": (8,), "dtype": "f4", "external": [("/etc/passwd", 0, 32)]}, "plain array"),
        ({"shape": (8,), "dtype": h5py.string_dtype()}, "plain array"),
        ({"shape": (8,), "dtype": "f4", "compression": "gzip"}, "plain array"),  # a filter
        ({"shape": (10**12,), "dtype": "f4"}, "plain array"),
        ({"data": h5py.Empty("f4")}, ""),
    ],
)
def test_linked_compressed_or_undeclared_weights_are_refused(how, reason, saved, crafted):
    assert_refused(crafted(model__weights__h5=replaced_bias(saved, **how)), reason)


def test_virtual_weights_are_refused(saved, crafted):
    layout = h5py.VirtualLayout((8,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (8,))
    content = weights(
        lambda h5: h5.create_virtual_dataset("layers/x", layout), members_of(saved)["model.weights.h5"]
    )
    assert_refused(crafted(model__weights__h5=content), "plain array")


def test_weights_of_another_shape_are_refused(saved, crafted):
    content = replaced_bias(saved, shape=(9,), dtype="f4")
    with pytest.raises(ValueError, match=r"crafted\.keras is not one: Keras .* cannot load it"):
        Reader.load(crafted(model__weights__h5=content))


def test_damaged_weights_are_refused(saved, crafted):
    whole = members_of(saved)["model.weights.h5"]
    for content in [b"", b"text", whole[: len(whole) // 2]]:
        assert_refused(crafted(model__weights__h5=content))


@pytest.fixture(scope="module")
def readers(model, saved, tmp_path_factory):
    """The path of a folder with a reader in both formats."""
    folder = tmp_path_factory.mktemp("readers")
    (folder / "whole.keras").write_bytes(saved.read_bytes())
    onnx.save(onnx_graph.write(model, Reader(model, ALPHABET, [80]).metadata()), folder / "whole.onnx")
    return folder


@settings(max_examples=100, deadline=None, derandomize=True)
@given(form=st.sampled_from([".keras", ".onnx"]), rng=st.randoms(use_true_random=False))
def test_damaged_reader_raises_no_other_error(readers, form, rng):
    path = readers / f"damaged{form}"
    path.write_bytes(damaged((readers / f"whole{form}").read_bytes(), rng))
    with contextlib.suppress(ValueError):
        {".keras": safety.read_keras, ".onnx": safety.read_onnx}[form](path)


def test_check_returns_the_metadata_of_the_archive(saved):
    assert safety.read_keras(saved)["alphabet"] == ALPHABET.characters
    assert DESCRIPTION in safety.MEMBERS


@pytest.mark.parametrize("changes", [{"format": 1}, {"format": 3}, {"format": None}, {"format": [2]}])
def test_reader_of_another_format_is_refused_with_the_version(changes, model, crafted, tmp_path):
    description = Reader(model, ALPHABET, [80]).metadata() | changes
    onnx.save(onnx_graph.write(model, description), tmp_path / "crafted.onnx")
    for path in (crafted(reader__json=json.dumps(description)), tmp_path / "crafted.onnx"):
        assert_refused(path, r"this version reads format 2\. Version 1\.0 wrote format 1: .*train again")


def test_format_is_checked_before_the_layers(config, crafted):
    layer(config, "InputLayer")["config"] |= {"batch_shape": [None, 80, 24, 1], "dtype": "float32"}
    old = crafted(config__json=json.dumps(config), reader__json='{"format": 1}')
    assert_refused(old, "it has format 1, but this version reads format 2")


def test_trusted_archive_is_opened_without_checks(saved, tmp_path):
    path = tmp_path / "mine.keras"
    model = Reader.load(saved).model
    doubled = layers.Lambda(lambda x: x * 2)(model.output)
    Reader(keras.Model(model.inputs, doubled), ALPHABET, [80]).save(path)
    assert_refused(path, "'Lambda'.*trusted=True or --trust")
    assert Reader.load(path, trusted=True).alphabet == ALPHABET


@pytest.mark.parametrize("character", ["\x1b", "\r", "\x9b", "\ud800", "\u2028"])
def test_alphabet_with_control_characters_is_refused(character, model, crafted):
    description = Reader(model, ALPHABET, [80]).metadata() | {"alphabet": "abcde" + character}
    assert_refused(crafted(reader__json=json.dumps(description)), "no valid alphabet")
