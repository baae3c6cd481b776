import json

import pytest

from examples import ALPHABET
from snippet_ocr.reader import Reader
from tools import calibrate

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


def run(path, summary):
    (path.parent / "crossval.json").write_text(json.dumps(summary))
    return calibrate.main([str(path), str(path.parent)])


def test_calibration_changes_only_the_threshold(trained, shipped, capsys):
    before = Reader.load(trained)
    of_a_fold = {"images": "a set", "parameters": {"epochs": 40, "seed": 2, "fold": 3}}
    assert run(trained, {"provenance": of_a_fold, "calibration": FITTED}) == 0
    after = Reader.load(trained)
    assert after.threshold == 0.875
    assert after.provenance == {**TRAINED, "calibration": {"by": "cross-validation", **FITTED}}
    assert [one.text for one in after.read(shipped[:5])] == [one.text for one in before.read(shipped[:5])]
    assert "threshold 87.50%" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("provenance", "message"),
    [
        ({**TRAINED, "images": "others"}, "images 'a set', not 'others'"),
        ({"images": "a set", "parameters": {"epochs": 2}}, "epochs 40, not 2"),
        ({}, "KeyError: 'parameters'"),
    ],
)
def test_reader_trained_differently_is_refused_and_unchanged(trained, capsys, provenance, message):
    before = trained.read_bytes()
    assert run(trained, {"provenance": provenance, "calibration": FITTED}) == 1
    error = capsys.readouterr().err
    assert message in error and str(trained) in error
    assert trained.read_bytes() == before


def test_missing_results_and_onnx_files_are_refused(trained, tmp_path, capsys):
    assert calibrate.main([str(trained), str(tmp_path / "nothing")]) == 1
    assert "nothing/crossval.json" in capsys.readouterr().err
    assert calibrate.main([str(tmp_path / "reader.onnx"), str(tmp_path)]) == 1
    assert "Expected a .keras file" in capsys.readouterr().err


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
