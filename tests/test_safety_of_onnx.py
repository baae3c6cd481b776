import onnx
import pytest
from onnx import TensorProto, helper

from damage import assert_refused
from examples import ALPHABET
from snippet_ocr import safety
from snippet_ocr.reader import Reader
from tools.export import build_onnx


@pytest.fixture
def exported(model):
    """A reader as an ONNX model, to be changed by the test."""
    return build_onnx(model, Reader(model, ALPHABET, [80]).metadata())


def node(kind, **attributes):
    return helper.make_node(kind, ["image"], ["log_probabilities"], **attributes)


GRAPH = helper.make_graph([], "inner", [], [])


@pytest.mark.parametrize(
    ("added", "reason"),
    [
        (node("Loop", body=GRAPH), "'Loop'.*not accepted"),
        (node("If", then_branch=GRAPH, else_branch=GRAPH), "'If'.*not accepted"),
        (node("ReadFile", domain="com.microsoft.extensions"), "'ReadFile'.*not accepted"),
        (node("Relu", domain="ai.onnx.contrib"), "'Relu' of 'ai.onnx.contrib'"),
        (node("Relu", body=GRAPH), "attribute 'body' of Relu"),
        (node("Conv", pads=[10**9] * 4), "attribute 'pads' of Conv"),
        (node("Reshape", axis=GRAPH), "attribute 'axis' of Reshape"),
    ],
)
def test_other_onnx_operation_is_refused_by_name(added, reason, exported, tmp_path):
    exported.graph.node.append(added)
    onnx.save(exported, tmp_path / "crafted.onnx")
    assert_refused(tmp_path / "crafted.onnx", reason)


def test_onnx_weights_in_another_file_are_refused(exported, tmp_path):
    (tmp_path / "secret").write_bytes(b"\0" * 10**6)
    tensor = exported.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret")
    (tmp_path / "crafted.onnx").write_bytes(exported.SerializeToString())
    assert_refused(tmp_path / "crafted.onnx", "not in the file")


def test_onnx_weights_of_an_undeclared_size_are_refused(exported, tmp_path):
    exported.graph.initializer[0].dims[:] = [10**6, 10**6]
    (tmp_path / "crafted.onnx").write_bytes(exported.SerializeToString())
    assert_refused(tmp_path / "crafted.onnx", "not as declared")


def test_onnx_image_shape_out_of_bounds_is_refused(exported, tmp_path):
    exported.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 10**9
    (tmp_path / "crafted.onnx").write_bytes(exported.SerializeToString())
    assert_refused(tmp_path / "crafted.onnx", "whole number from 1 to 65,536")


@pytest.mark.parametrize("sizes", [[0, 24], [0, 24, 80], [8, 24, 0], [0, 24, 0, 1], [0, 0, 0], []])
def test_onnx_images_without_free_width_and_fixed_height_are_refused(sizes, exported, tmp_path):
    shape = exported.graph.input[0].type.tensor_type.shape
    del shape.dim[:]
    for size in sizes:
        shape.dim.add(dim_value=size) if size else shape.dim.add(dim_param="free")
    (tmp_path / "crafted.onnx").write_bytes(exported.SerializeToString())
    assert_refused(tmp_path / "crafted.onnx", "out of bounds|whole number from 1")


def test_onnx_images_that_are_not_uint8_are_refused(exported, tmp_path):
    exported.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    (tmp_path / "crafted.onnx").write_bytes(exported.SerializeToString())
    assert_refused(tmp_path / "crafted.onnx", "its images are not uint8")


def test_onnx_of_symbolic_image_height_is_refused_by_name(exported, tmp_path):
    exported.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "height"
    (tmp_path / "crafted.onnx").write_bytes(exported.SerializeToString())
    with pytest.raises(ValueError, match="crafted.onnx is not one"):
        Reader.load(tmp_path / "crafted.onnx")


def test_onnx_function_is_refused(exported, tmp_path):
    exported.functions.add(name="Relu", domain="")
    (tmp_path / "crafted.onnx").write_bytes(exported.SerializeToString())
    assert_refused(tmp_path / "crafted.onnx", "functions")


def test_truncated_or_invalid_onnx_is_refused(exported, tmp_path):
    content = exported.SerializeToString()
    for wrong in [b"", b"text", content[:1000], content[: len(content) // 2], content[:-1], b"\x0a" * 1000]:
        (tmp_path / "crafted.onnx").write_bytes(wrong)
        with pytest.raises(ValueError, match=r"crafted\.onnx is not one: "):  # some only by onnxruntime
            Reader.load(tmp_path / "crafted.onnx")


def test_onnx_file_above_the_maximum_size_is_refused(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(safety, "MAX_ONNX_BYTES", 1000)
    (tmp_path / "crafted.onnx").write_bytes(exported.SerializeToString())
    assert_refused(tmp_path / "crafted.onnx", "at most 1,000 are allowed")


def test_onnx_without_metadata_is_refused(exported, tmp_path):
    del exported.metadata_props[:]
    onnx.save(exported, tmp_path / "crafted.onnx")
    assert_refused(tmp_path / "crafted.onnx", "reader.json is missing")
