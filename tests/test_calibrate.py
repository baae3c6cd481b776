import json

import onnx
import pytest

from examples import ALPHABET
from snippet_ocr import model_file
from snippet_ocr.reader import Reader
from tools import calibrate
from training import onnx_graph

TRAINED = {"images": "a set", "parameters": {"epochs": 40, "seed": 1, "fold": 0}}
FITTED = {
    "readings": 400,
    "right": 400,
    "target_precision": 0.99,
    "threshold": 0.875,
    "calibration_error": 0.1,
}


@pytest.fixture
def trained(model, tmp_path):
    path = tmp_path / "reader.keras"
    Reader(model, ALPHABET, [80], TRAINED).save(path)
    return path


def run(path, summary, folder=None):
    folder = folder or path.parent
    (folder / "crossval.json").write_text(json.dumps(summary))
    return calibrate.main([str(path), str(folder)])


@pytest.mark.parametrize("name", ["", "reader.keras", "reader.onnx"])
def test_calibration_changes_only_the_threshold_of_both_files(name, trained, model, shipped, capsys):
    exported = trained.with_suffix(".onnx")
    onnx.save(onnx_graph.write(model, model_file.description(trained)), exported)
    before = Reader.load(trained)
    of_a_fold = {"images": "a set", "parameters": {"epochs": 40, "seed": 2, "fold": 3}}
    assert run(trained.parent / name, {"provenance": of_a_fold, "calibration": FITTED}, trained.parent) == 0
    for path in (trained, exported):
        after = Reader.load(path)
        assert after.threshold == 0.875
        assert after.provenance == {**TRAINED, "calibration": {"by": "cross-validation", **FITTED}}
        assert after.metadata() | {"threshold": None, "provenance": TRAINED} == before.metadata()
        assert [one.text for one in after.read(shipped[:5])] == [one.text for one in before.read(shipped[:5])]
    assert capsys.readouterr().out == (
        "threshold 87.50% (from 400 readings)\nOf the readings that reach the threshold, at least 99% are "
        f"correct, with 95% statistical confidence.\ncalibrated: {exported}, {trained}\n"
    )
    assert sorted(path.name for path in trained.parent.iterdir()) == [
        *("crossval.json", "reader.keras", "reader.onnx")
    ]


def test_neither_file_is_changed_if_one_was_trained_differently(trained, model, capsys):
    exported = trained.with_suffix(".onnx")
    other = model_file.description(trained) | {"provenance": {**TRAINED, "images": "others"}}
    onnx.save(onnx_graph.write(model, other), exported)
    before = trained.read_bytes(), exported.read_bytes()
    assert run(trained, {"provenance": TRAINED, "calibration": FITTED}) == 1
    assert f"{exported} has images 'others', not 'a set'" in capsys.readouterr().err
    assert (trained.read_bytes(), exported.read_bytes()) == before


@pytest.mark.parametrize(
    ("provenance", "message"),
    [
        ({**TRAINED, "images": "others"}, "images 'a set', not 'others'"),
        ({"images": "a set", "parameters": {"epochs": 2}}, "epochs 40, not 2"),
        ({}, "KeyError: 'images'"),
    ],
)
def test_reader_trained_differently_is_refused_and_unchanged(trained, capsys, provenance, message):
    before = trained.read_bytes()
    assert run(trained, {"provenance": provenance, "calibration": FITTED}) == 1
    error = capsys.readouterr().err
    assert message in error and str(trained) in error
    assert trained.read_bytes() == before


@pytest.mark.parametrize(("reader", "others", "fits"), [("", "meter", True), ("meter", "", False)])
def test_cross_validation_must_have_the_groups_of_the_reader_or_be_stricter(
    reader, others, fits, model, tmp_path, capsys
):
    path = tmp_path / "reader.keras"
    settings = [{"epochs": 40, "group_by": group_by} for group_by in (reader, others)]
    provenances = [{"images": "a set", "parameters": one} for one in settings]
    Reader(model, ALPHABET, [80], provenances[0]).save(path)
    code = run(path, {"provenance": provenances[1], "calibration": FITTED})
    assert (code == 0) == fits and ("group_by 'meter', not ''" in capsys.readouterr().err) == (not fits)


def test_missing_results_and_missing_readers_are_refused(trained, tmp_path, capsys):
    assert calibrate.main([str(trained), str(tmp_path / "nothing")]) == 1
    assert "nothing/crossval.json" in capsys.readouterr().err
    for missing in (tmp_path / "other.onnx", tmp_path / "reader.txt", tmp_path / "nothing"):
        assert calibrate.main([str(missing), str(tmp_path)]) == 1
        assert f"Found none at {missing}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "summary",
    [
        [],
        None,
        {"provenance": TRAINED},
        {"provenance": TRAINED, "calibration": None},
        {"provenance": "text", "calibration": FITTED},
        {"provenance": {**TRAINED, "parameters": "text"}, "calibration": FITTED},
        {"provenance": TRAINED, "calibration": {**FITTED, "threshold": float("nan")}},
        {"provenance": TRAINED, "calibration": {**FITTED, "threshold": 2}},
    ],
)
def test_damaged_results_are_refused_and_reader_unchanged(trained, capsys, summary):
    before = trained.read_bytes()
    assert run(trained, summary) == 1
    assert "to be the results of a cross-validation" in capsys.readouterr().err
    assert trained.read_bytes() == before
