"""Cross-validation as users run it, and the figures it computes from the readings."""

import csv
import json
import math
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from conftest import PROJECT, user_environment
from snippet_ocr.reader import Reader
from tools import calibrate, crossval

TINY = {"OCR_EPOCHS": "1", "OCR_MIN_STEPS_PER_EPOCH": "1", "OCR_IMAGE_WIDTH": "80", "OCR_IMAGE_HEIGHT": "20"}


def reading(label, text, confidence, file=""):
    return {"file": file or f"{label}.png", "label": label, "text": text, "confidence": confidence}


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_crossval_reads_each_image_once_and_keeps_finished_folds(project, image_folder):
    shutil.copytree(PROJECT / "tools", project / "tools")
    # Not every shell expands the `~` in DATA=~/meters.
    command = [sys.executable, "-m", "tools.crossval", f"~/{image_folder.name}", "--folds", "2"]

    def run(*options):
        environment = user_environment(True, **TINY, HOME=str(image_folder.parent), OCR_SEED="5")
        done = [*command, *options]
        return subprocess.run(done, cwd=project, env=environment, capture_output=True, text=True)

    first = run()
    assert first.returncode == 0, first.stderr
    folds = sorted((project / "runs").glob("*-fold-*"))
    tested = [{row["file"] for row in rows_of(fold / "test_readings.csv")} for fold in folds]
    configs = [json.loads((fold / "config.json").read_text())["identity"] for fold in folds]
    assert [config["parameter fold"] for config in configs] == [1, 2]
    assert [config["parameter seed"] for config in configs] == [5, 5]
    assert configs[0]["training images"] != configs[1]["training images"]
    assert tested[0] | tested[1] == {path.name for path in image_folder.iterdir()}
    assert not tested[0] & tested[1]

    (folder,) = [path for path in (project / "runs").iterdir() if path not in folds]
    rows = rows_of(folder / "readings.csv")
    assert sorted(row["file"] for row in rows) == sorted(path.name for path in image_folder.iterdir())
    assert list(rows[0]) == ["fold", "file", "label", "text", "confidence", "right", "log_odds"]
    assert all(int(row["right"]) == (row["label"] == row["text"]) for row in rows)
    summary = json.loads((folder / "crossval.json").read_text())
    assert summary["images"] == 30
    assert summary["right"] == sum(int(row["right"]) for row in rows)
    assert f"2-fold cross-validation on some images: {summary['right']} of 30" in first.stdout
    assert [fold["training images"] for fold in summary["folds"]] == [12, 12]
    with Image.open(folder / "wrong_readings_1.png") as image:
        assert image.width == 1000
    assert all(float(row["log_odds"]) == 0 for row in rows if row["right"] == "1")
    suspect = {row["file"] for row in rows if float(row["log_odds"]) >= math.log(crossval.SUSPICION)}
    assert {row["file"] for row in rows_of(folder / "suspect_labels.csv")} == suspect
    assert summary["calibration"]["readings"] == 30
    assert summary["calibration"]["threshold"] is None
    assert f"tools.calibrate RUN {folder}" in first.stdout

    # After a kill in the second fold, the first one is kept.
    shutil.rmtree(folds[1])
    before = (folds[0] / "metrics.json").stat().st_mtime_ns
    second = run()
    assert second.returncode == 0, second.stderr
    assert "fold 1 of 2 is finished" in second.stdout
    assert (folds[0] / "metrics.json").stat().st_mtime_ns == before
    assert len(list((project / "runs").iterdir())) == 3
    for row, again in zip(rows, rows_of(folder / "readings.csv"), strict=True):
        assert [again[name] for name in ("fold", "file", "label")] == [row["fold"], row["file"], row["label"]]
        assert float(again["confidence"]) == pytest.approx(float(row["confidence"]), abs=0.01)

    # The results calibrate a reader of the same images.
    reader = Reader.load(folds[0] / "reader.keras")
    reader.threshold = 0.3
    reader.save(folds[0] / "reader.keras")
    assert calibrate.main([str(folds[0] / "reader.keras"), str(folder)]) == 0
    reader = Reader.load(folds[0] / "reader.keras")
    assert reader.threshold is None


def test_missing_folder_is_an_error_in_a_line(tmp_path, capsys):
    assert crossval.main([str(tmp_path / "none")]) == 1
    assert f"Expected a folder of images at {tmp_path / 'none'}" in capsys.readouterr().err


@pytest.mark.parametrize("folds", [1, 31])
def test_impossible_number_of_folds_is_an_error_in_a_line(image_folder, capsys, folds):
    assert crossval.main([str(image_folder), "--folds", str(folds)]) == 1
    assert f"Expected from 2 to 30 folds, the number of images. Received: {folds}" in capsys.readouterr().err


def test_suspect_labels_are_ranked_by_their_log_odds():
    rows = [
        {**reading("aaa", "aaa", 0.99), "log_odds": 0.0},
        {**reading("bbb", "bbc", 0.7), "log_odds": 7.0},
        {**reading("ccc", "cc", 0.9), "log_odds": 3.0},
        {**reading("ddd", "dxd", 0.95), "log_odds": 20.0},
    ]
    assert [row["label"] for row in crossval.suspect_labels(rows)] == ["ddd", "bbb"]
    reviewed = {("ddd.png", "ddd"), ("bbb.png", "another label"), ("bbb.png", None)}
    assert [row["label"] for row in crossval.suspect_labels(rows, reviewed)] == ["bbb"]


def test_impossible_setting_is_an_error_before_any_training(image_folder, capsys):
    assert crossval.main([str(image_folder), "--seed", "-1"]) == 1
    assert "seed: expected a whole number from 0" in capsys.readouterr().err


@pytest.mark.parametrize("groups", [1, 4])
def test_too_few_groups_are_an_error_before_any_training(groups, image_folder, monkeypatch, capsys):
    monkeypatch.setenv("OCR_GROUP_BY", "folder")
    for number, path in enumerate(sorted(image_folder.iterdir())):
        (image_folder / f"{number % groups}").mkdir(exist_ok=True)
        path.rename(image_folder / f"{number % groups}" / path.name)
    assert crossval.main([str(image_folder)]) == 1
    assert "Expected at least 5 groups of images" in capsys.readouterr().err


def test_crossval_refuses_a_base_reader(image_folder, monkeypatch, capsys):
    monkeypatch.setenv("OCR_BASE_READER", "reader.keras")
    assert crossval.main([str(image_folder)]) == 1
    assert "Expected no OCR_BASE_READER of your own" in capsys.readouterr().err


def test_summary_has_folds_lengths_characters_and_confusions(tmp_path):
    run_dirs = []
    for fold in (1, 2):
        run_dir = tmp_path / f"fold-{fold}"
        run_dir.mkdir()
        run = {"epochs": 3, "best_epoch": 2, "seconds": 10.0 * fold, "seed": 1, "machine": ""}
        scores = {"training": {"images": 20}, "test": {"unseen": {"images": 3 - fold, "right": fold - 1}}}
        (run_dir / "metrics.json").write_text(json.dumps({"scores": scores, "run": run}))
        run_dirs.append(run_dir)
    rows = [
        {"fold": 1, **reading("ab", "ab", 0.9), "right": 1},
        {"fold": 1, **reading("abb", "ab", 0.8), "right": 0},
        {"fold": 2, **reading("ba", "ca", 0.7), "right": 0},
    ]
    summary = crossval._summary(rows, run_dirs)
    assert (summary["images"], summary["right"], summary["seconds"]) == (3, 1, 30.0)
    assert summary["unseen"] == {"images": 3, "right": 1}
    assert summary["character_error_rate"] == pytest.approx(2 / 7)
    assert [(fold["images"], fold["right"]) for fold in summary["folds"]] == [(2, 1), (1, 0)]
    assert {length: row["images"] for length, row in summary["lengths"].items()} == {2: 2, 3: 1}
    assert sorted(summary["confusions"]) == [["b", "", 1], ["b", "c", 1]]
    assert [row["label"] for row in summary["wrong"]] == ["abb", "ba"]
    text = crossval.describe({"images folder": "set", **summary})
    assert "2-fold cross-validation on set: 1 of 3 texts" in text
    assert summary["characters"] == {"a": {"seen": 3, "misread": 0}, "b": {"seen": 4, "misread": 2}}
    assert "misread characters: b 2 of 4" in text
    assert "confusions: b→∅ 1, b→c 1" in text


def test_many_wrong_readings_are_drawn_on_several_pages(tmp_path, shipped):
    rows = [reading("2", "3", 0.5, path.name) for path in shipped[:3]]
    crossval.draw(rows, shipped[0].parent, tmp_path / "wrong", page_size=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["wrong_1.png", "wrong_2.png"]
