import csv
import json
import subprocess
import sys

import keras
import pytest

import utils
from snippet_ocr import files
from snippet_ocr.reader import Reading
from training import runs

PARAMETERS = {"epochs": 4, "learning_rate": 0.01}


@pytest.fixture
def samples(image_folder):
    return utils.find_images(image_folder)[0]


def small_model(units=2):
    keras.utils.clear_session()  # as in the notebook: the names of layers are the same each time
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])


def open_run(tmp_path, samples, name="run", numbered=False, parameters=PARAMETERS, model=None):
    splits = {"training": samples[:20], "test": samples[20:]}
    return runs.open_run(tmp_path / "runs", name, numbered, parameters, model or small_model(), splits)


def finish(folder):
    files.write_json(folder / runs.FINISHED, {})


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_new_run_saves_its_identity_and_environment(tmp_path, samples):
    folder, message = open_run(tmp_path, samples)
    assert folder == tmp_path / "runs" / "run"
    assert message == f"new run: {folder}"
    config = json.loads((folder / "config.json").read_text())
    assert config["identity"]["parameter learning_rate"] == 0.01
    assert config["environment"]["keras"] == keras.__version__


def test_numbered_run_starts_with_number_one(tmp_path, samples):
    folder, _ = open_run(tmp_path, samples, numbered=True)
    finish(folder)
    again, _ = open_run(tmp_path, samples, numbered=True)
    assert (folder.name, again.name) == ("run-1", "run-2")


def test_unfinished_run_resumes_whatever_the_order_of_images(tmp_path, samples):
    folder, _ = open_run(tmp_path, samples)
    reordered = samples[19::-1] + samples[20:]
    precise = PARAMETERS | {"target_precision": 0.9}
    assert open_run(tmp_path, reordered, parameters=precise) == (folder, f"resuming {folder}")


def test_finished_run_is_never_changed(tmp_path, samples):
    folder, _ = open_run(tmp_path, samples)
    finish(folder)
    before = contents(folder)
    again, message = open_run(tmp_path, samples)
    assert again.name == "run-2"
    assert message == f"new run: {again} (finished runs, kept: 1)"
    assert contents(folder) == before


def test_changed_run_is_skipped_and_the_change_is_named(tmp_path, samples):
    open_run(tmp_path, samples)
    changes = [
        ({"parameters": PARAMETERS | {"learning_rate": 0.02}}, "learning_rate changed from 0.01 to 0.02"),
        ({"samples": samples[:-1]}, "test images changed from"),
        ({"samples": samples[::-1]}, "training images changed from"),
        ({"samples": [samples[0]._replace(label="other"), *samples[1:]]}, "training images changed from"),
        ({"model": small_model(5)}, "model configuration changed from"),
    ]
    for number, (change, difference) in enumerate(changes, start=2):
        folder, message = open_run(tmp_path, **({"samples": samples} | change))
        assert folder.name == f"run-{number}"
        assert f"skipping run: {difference}" in message


@pytest.mark.parametrize("files_left", [[], ["config.unfinished.json"]])
def test_run_killed_before_its_first_file_starts_again(tmp_path, samples, files_left):
    folder = tmp_path / "runs" / "run"
    folder.mkdir(parents=True)
    for name in files_left:
        (folder / name).write_text("{")
    assert open_run(tmp_path, samples) == (folder, f"new run: {folder}")
    assert open_run(tmp_path, samples) == (folder, f"resuming {folder}")


@pytest.mark.parametrize("config", [None, "{", "[]", '{"identity": 1}'])
def test_folder_without_a_valid_config_is_skipped(tmp_path, samples, config):
    other = tmp_path / "runs" / "run"
    other.mkdir(parents=True)
    (other / "a letter.txt").write_text("mine")
    if config:
        (other / "config.json").write_text(config)
    before = contents(other)
    folder, message = open_run(tmp_path, samples)
    assert folder.name == "run-2"
    assert "skipping run: it has no readable config.json" in message
    assert contents(other) == before


def test_file_in_place_of_the_folder_is_skipped(tmp_path, samples):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "run").write_text("mine")
    folder, message = open_run(tmp_path, samples)
    assert folder.name == "run-2"
    assert "skipping run: it is not a folder" in message


def test_folder_that_another_process_uses_is_skipped(tmp_path, samples):
    script = "import filelock, sys; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print(); input()"
    folder, _ = open_run(tmp_path / "before", samples)
    config = (folder / "config.json").read_bytes()
    used = tmp_path / "runs" / "run"
    used.mkdir(parents=True)
    for unfinished in (False, True):
        if unfinished:
            (used / "config.json").write_bytes(config)
        process = subprocess.Popen(
            [sys.executable, "-uc", script, used / runs.LOCK], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        process.stdout.readline()
        before = contents(used)
        again, message = open_run(tmp_path, samples)
        assert again.name == "run-2"
        if not unfinished:
            assert "skipping run: another process is training there" in message
        assert contents(used) == before
        process.kill()
        process.communicate()
    assert open_run(tmp_path, samples)[0] == used  # a lock ends with its process


def test_environment_names_the_commit_and_uncommitted_changes(tmp_path, monkeypatch):
    def git(*arguments):
        command = ["git", "-c", "user.name=x", "-c", "user.email=x", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    monkeypatch.setattr(runs, "PROJECT", tmp_path)
    assert runs.commit() is None
    git("init")
    (tmp_path / "file").write_text("1")
    git("add", ".")
    git("commit", "-m", "x")
    git("tag", "-a", "v1", "-m", "x")
    assert runs.environment()["commit"] == git("rev-parse", "HEAD")
    (tmp_path / "file").write_text("2")
    assert runs.environment()["commit"] == git("rev-parse", "HEAD") + "-dirty"


def test_moved_folder_of_the_same_images_resumes_its_run(tmp_path, samples):
    first, _ = open_run(tmp_path, samples, parameters=PARAMETERS | {"data_dir": "here"})
    (first / "history.csv").write_text("epoch\n1\n")
    again, message = open_run(tmp_path, samples, parameters=PARAMETERS | {"data_dir": "../elsewhere"})
    assert again == first and message == f"resuming {first}"


def test_readings_are_written_with_their_labels(tmp_path, image_folder, samples):
    readings = [Reading(samples[0].label, 0.9), Reading("other", 0.5)]
    runs.write_readings(tmp_path / "readings.csv", image_folder, samples[:2], readings)
    with (tmp_path / "readings.csv").open(encoding="utf-8", newline="") as file:
        rows = [list(row.values()) for row in csv.DictReader(file)]
    assert rows == [
        [samples[0].path.name, samples[0].label, samples[0].label, "0.9", "1"],
        [samples[1].path.name, samples[1].label, "other", "0.5", "0"],
    ]


@pytest.mark.parametrize("config", ["[]", '{"identity": null}', '{"identity": 5}'])
def test_damaged_config_and_broken_link_are_skipped(tmp_path, samples, config):
    damaged = tmp_path / "runs" / "run"
    damaged.mkdir(parents=True)
    (damaged / "config.json").write_text(config)
    (tmp_path / "runs" / "run-2").symlink_to(tmp_path / "nowhere")
    folder, message = open_run(tmp_path, samples)
    assert folder.name == "run-3"
    assert "skipping run-2: it is not a folder" in message
