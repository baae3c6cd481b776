import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from damage import assert_refused
from examples import ALPHABET
from snippet_ocr import model_file, safety
from snippet_ocr.reader import Reader
from training import onnx_graph


@pytest.fixture
def exported(model):
    """A reader as an ONNX model, to be changed by the test."""
    return onnx_graph.write(model, Reader(model, ALPHABET, [80]).metadata())


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
        (node("Transpose", perms=[helper.make_tensor("x", 1, [], [0.0])]), "attribute 'perms' of Transpose"),
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
    monkeypatch.setattr(safety, "MAX_BYTES", 1000)
    (tmp_path / "crafted.onnx").write_bytes(exported.SerializeToString())
    assert_refused(tmp_path / "crafted.onnx", "at most 1,000 are allowed")


def test_onnx_without_metadata_is_refused(exported, tmp_path):
    del exported.metadata_props[:]
    onnx.save(exported, tmp_path / "crafted.onnx")
    assert_refused(tmp_path / "crafted.onnx", "reader.json is missing")


@pytest.fixture
def limited(monkeypatch):
    """Limits the memory of untrusted models to less than a large constant."""
    monkeypatch.setattr(model_file, "MEMORY_PER_CORE", 50_000_000)
    model_file._limit_memory.cache_clear()
    yield
    model_file._limit_memory.cache_clear()


def resident():
    """The memory of this process, in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def crafted(exported, path, *nodes, **constants):
    """Saves a reader whose output is multiplied by the maximum of `large`, which the nodes compute."""
    exported.graph.node[-1].output[0] = "probabilities"
    exported.graph.node.extend([*nodes, helper.make_node("ReduceMax", ["large"], ["factor"], keepdims=0)])
    exported.graph.node.append(helper.make_node("Mul", ["probabilities", "factor"], ["log_probabilities"]))
    for name, array in constants.items():
        exported.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save(exported, path)
    return path


OUTER_SUM = helper.make_node("Add", ["row", "column"], ["large"])
EXPANSION = helper.make_node("Expand", ["one", "shape"], ["large"])
ROW, COLUMN = np.zeros((1, 15_000), "float32"), np.zeros((15_000, 1), "float32")
SHAPE = np.array([15_000, 15_000])


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([OUTER_SUM], {"row": ROW, "column": COLUMN}),
        ([EXPANSION], {"one": np.zeros(1, "float32"), "shape": SHAPE}),
    ],
)
def test_onnx_constants_that_grow_to_gigabytes_are_not_computed(
    nodes, constants, exported, shipped, tmp_path, limited
):
    before = resident()
    reader = Reader.load(crafted(exported, tmp_path / "crafted.onnx", *nodes, **constants))
    assert resident() - before < 300_000_000  # the constants have 900 MB
    ((_, reading),) = reader.read_each(shipped[:1])
    assert isinstance(reading, ValueError)
    assert "Available memory" in str(reading)


def test_onnx_within_the_limit_of_memory_is_read(exported, shipped, tmp_path):
    small = {"row": ROW[:, :9] + 1, "column": COLUMN[:9]}
    reader = Reader.load(crafted(exported, tmp_path / "crafted.onnx", OUTER_SUM, **small))
    assert len(reader.read(shipped[:2])) == 2


def test_trusted_onnx_may_have_other_operations(exported, shipped, tmp_path):
    path = crafted(
        exported, tmp_path / "crafted.onnx", helper.make_node("Cos", ["zero"], ["large"]), zero=ROW
    )
    assert_refused(path, "'Cos'.*trusted=True or --trust")
    assert len(Reader.load(path, trusted=True).read(shipped[:2])) == 2
