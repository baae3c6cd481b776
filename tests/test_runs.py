import contextlib
import csv
import json
import signal
import subprocess
import sys
import textwrap
import time

import keras
import numpy as np
import pytest

import utils
from conftest import PROJECT
from snippet_ocr import files
from snippet_ocr.alphabet import Alphabet
from tools.notebook import load_build_model
from training import runs
from training.callbacks import Checkpoint, EarlyStopping, open_run
from training.metrics import ClippedLoss, ExactMatch

PARAMETERS = {"epochs": 4, "learning_rate": 0.01}


@pytest.fixture
def samples(image_folder):
    return utils.find_images(image_folder)[0]


def small_model(units=2):
    keras.utils.clear_session()  # as the notebook does: the names of layers start anew
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])


def open_here(tmp_path, samples, name="run", numbered=False, parameters=PARAMETERS, model=None):
    splits = {"training": samples[:20], "test": samples[20:]}
    return open_run(tmp_path / "runs", name, numbered, parameters, model or small_model(), splits)


def finish(folder):
    files.write_json(folder / runs.FINISHED, {})


def test_first_run_is_new_and_tells_what_it_runs_on(tmp_path, samples):
    folder, why = open_here(tmp_path, samples)
    assert folder == tmp_path / "runs" / "run"
    assert why == f"new run: {folder}"
    config = json.loads((folder / "config.json").read_text())
    assert config["identity"]["parameter learning_rate"] == 0.01
    assert config["environment"]["keras"] == keras.__version__


def test_numbered_run_bears_a_number_from_the_first_on(tmp_path, samples):
    folder, _ = open_here(tmp_path, samples, numbered=True)
    finish(folder)
    again, _ = open_here(tmp_path, samples, numbered=True)
    assert (folder.name, again.name) == ("run-1", "run-2")


def test_unfinished_run_goes_on(tmp_path, samples):
    folder, _ = open_here(tmp_path, samples)
    again, why = open_here(tmp_path, samples[19::-1] + samples[20:])
    assert again == folder
    assert why.startswith("goes on with the unfinished run")


def test_finished_run_is_never_touched(tmp_path, samples):
    folder, _ = open_here(tmp_path, samples)
    finish(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    again, why = open_here(tmp_path, samples)
    assert again.name == "run-2"
    assert "leaves run alone: it is finished" in why
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_run_of_other_parameters_images_or_model_is_left_alone_and_the_difference_is_told(tmp_path, samples):
    open_here(tmp_path, samples)
    changes = [
        (
            {"parameters": PARAMETERS | {"learning_rate": 0.02}},
            "parameter learning_rate changed from 0.01 to 0.02",
        ),
        ({"samples": samples[:-1]}, "test images changed from"),
        ({"samples": samples[::-1]}, "training images changed from"),
        ({"samples": [samples[0]._replace(label="other"), *samples[1:]]}, "training images changed from"),
        ({"model": small_model(5)}, "model configuration changed from"),
    ]
    for number, (change, difference) in enumerate(changes, start=2):
        folder, why = open_here(tmp_path, **({"samples": samples} | change))
        assert folder.name == f"run-{number}"
        assert difference in why


@pytest.mark.parametrize("left", [[], ["config.unfinished.json"]])
def test_run_that_was_killed_before_its_first_file_begins_in_its_folder(tmp_path, samples, left):
    folder = tmp_path / "runs" / "run"
    folder.mkdir(parents=True)
    for name in left:
        (folder / name).write_text("{")
    assert open_here(tmp_path, samples) == (folder, f"new run: {folder}")
    assert open_here(tmp_path, samples)[1].startswith("goes on")


def test_folder_that_is_no_run_is_left_alone(tmp_path, samples):
    (tmp_path / "runs" / "run").mkdir(parents=True)
    (tmp_path / "runs" / "run" / "a letter.txt").write_text("mine")
    folder, why = open_here(tmp_path, samples)
    assert folder.name == "run-2"
    assert "no readable config.json" in why


def test_two_processes_never_write_into_one_folder(tmp_path, samples):
    script = "import filelock, sys; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print(); input()"
    folder, _ = open_here(tmp_path / "before", samples)
    config = (folder / "config.json").read_bytes()
    other = tmp_path / "runs" / "run"
    other.mkdir(parents=True)
    for unfinished in (False, True):
        if unfinished:
            (other / "config.json").write_bytes(config)
        process = subprocess.Popen(
            [sys.executable, "-uc", script, other / runs.LOCK],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        process.stdout.readline()
        before = {path.name: path.read_bytes() for path in other.iterdir()}
        again, why = open_here(tmp_path, samples)
        assert again.name == "run-2"
        if not unfinished:
            assert "leaves run alone: another process is training there" in why
        assert {path.name: path.read_bytes() for path in other.iterdir()} == before
        process.kill()
        process.communicate()
    assert open_here(tmp_path, samples)[0] == other  # a lock ends with its process


def test_run_folder_that_is_a_file_is_left_alone(tmp_path, samples):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "run").write_text("mine")
    folder, why = open_here(tmp_path, samples)
    assert folder.name == "run-2"
    assert "leaves run alone: it is no folder" in why


def test_config_tells_the_commit_and_whether_files_were_changed_since(tmp_path, monkeypatch):
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


def training(folder, samples, epochs, stop_after=None):
    """Trains the notebook's model as the notebook does, on a few images."""
    keras.utils.set_random_seed(1)
    alphabet = Alphabet.from_labels(sample.label for sample in samples)

    def encode(sample, load):
        return utils.encode_single_sample(sample, alphabet, 64, 16, 5, load)

    model = load_build_model()(64, 16, 5, alphabet.number_of_classes, 4, 0.2)
    optimizer = keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9)
    model.compile(optimizer, metrics=[ExactMatch(), ClippedLoss()])
    averaging = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    stopping = EarlyStopping(patience=3)
    saved = Checkpoint(folder, averaging, stopping)
    begun_at = saved.epochs_done

    class Kill(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch + 1 == stop_after:
                raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        model.fit(
            utils.get_data(samples, encode, 8, seed=1, first_epoch=begun_at, augmentation=1.0),
            steps_per_epoch=-(-len(samples) // 8),
            validation_data=utils.get_data(samples[:8], encode, 8),
            initial_epoch=begun_at,
            epochs=saved.last_epoch(epochs),
            callbacks=[averaging, stopping, saved, Kill()],
            shuffle=False,
            verbose=0,
        )
    return begun_at, model, stopping, saved


def test_training_that_goes_on_ends_where_one_without_a_break_ends(tmp_path, samples):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    _, expected, expected_stopping, expected_saved = training(whole, samples, epochs=4)
    training(parts, samples, epochs=4, stop_after=2)
    begun_at, found, stopping, saved = training(parts, samples, epochs=4)
    assert begun_at == 2
    assert (stopping.best, stopping.best_epoch) == (expected_stopping.best, expected_stopping.best_epoch)
    without_seconds = [
        [{name: value for name, value in row.items() if name != "seconds"} for row in one.history]
        for one in (saved, expected_saved)
    ]
    assert without_seconds[0] == without_seconds[1]
    for weight, expected_weight in zip(found.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected_weight)


def test_history_holds_a_row_for_every_epoch_in_csv_too(tmp_path, samples):
    training(tmp_path, samples, epochs=3, stop_after=1)
    *_, saved = training(tmp_path, samples, epochs=3)
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    for row, expected in zip(rows, saved.history, strict=True):
        assert {name: float(value) for name, value in row.items()} == pytest.approx(expected)
    assert {"loss", "val_loss", "val_exact_match", "learning_rate", "seconds"} < set(rows[0])


def test_training_that_was_over_brings_back_its_best_weights_and_trains_no_more(tmp_path, samples):
    _, first, stopping, _ = training(tmp_path, samples, epochs=2)
    begun_at, again, again_stopping, saved = training(tmp_path, samples, epochs=2)
    assert (begun_at, saved.epochs_done) == (2, 2)
    assert again_stopping.best_epoch == stopping.best_epoch
    for weight, expected in zip(again.get_weights(), first.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_training_that_stopped_early_stays_stopped(tmp_path, samples):
    *_, stopping, saved = training(tmp_path, samples, epochs=2)
    stopping.stopped_epoch = 1
    saved.averaging._ema_weights_in_model = False
    saved._save(saved.history)
    *_, again = training(tmp_path, samples, epochs=9)
    assert again.epochs_done == 2


def test_kill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path):
    script = textwrap.dedent(
        """
        import sys, keras, numpy as np
        from training.callbacks import EarlyStopping
        from training.callbacks import Checkpoint
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1_000_000)])
        model.compile(keras.optimizers.Adam(use_ema=True), loss="mse")
        averaging, stopping = keras.callbacks.SwapEMAWeights(swap_on_epoch=True), EarlyStopping(99)
        class Log(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                logs |= {"val_loss": 1.0, "val_clipped_loss": 1.0, "val_exact_match": 0.0}
                print(epoch, flush=True)
        saved = Checkpoint(sys.argv[1], averaging, stopping)
        x, y = np.ones((1, 1)), np.ones((1, 1_000_000))
        model.fit(x, y, epochs=1000, callbacks=[averaging, Log(), stopping, saved], verbose=0)
        """
    )
    command = [sys.executable, "-c", script, tmp_path]
    process = subprocess.Popen(
        command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    unfinished = tmp_path / "checkpoint.unfinished.npz"
    for line in process.stdout:
        if int(line) >= 2:
            break
    deadline = time.monotonic() + 60
    while not unfinished.exists() and time.monotonic() < deadline:
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with np.load(tmp_path / "checkpoint.npz") as saved:
        history = json.loads(str(saved["history"]))
        shapes = {saved[name].shape for name in saved.files if name.startswith("variable")}
    assert len(history) >= 2
    assert (1, 1_000_000) in shapes


def test_second_host_gets_the_checkpoint_of_the_first_and_leaves_the_runs_alone(
    tmp_path, samples, monkeypatch
):
    compared = []
    monkeypatch.setattr(runs.devices, "require_same", compared.append)
    monkeypatch.setattr(runs.devices, "host", lambda: 1)
    monkeypatch.setattr(runs.devices, "broadcast", lambda content: content or b"of the first")
    parameters = PARAMETERS | {"data_dir": "here"}
    folder, why = open_here(tmp_path, samples, parameters=parameters)
    assert "the first host keeps" in why and str(folder) in why
    assert (folder / runs.CHECKPOINT).read_bytes() == b"of the first"
    assert not (tmp_path / "runs").exists()
    (facts,) = compared
    assert {"parameter epochs", "training images", "first weights", "keras", "commit"} <= facts.keys()
    assert not {"parameter data_dir", "machine"} & facts.keys()
