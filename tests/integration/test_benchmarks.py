"""The benchmarks' changes fit the notebook, and their figures and tables are right."""

import csv
import importlib
import json
import math
from types import SimpleNamespace

import keras
import nbformat
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from keras import layers
from PIL import Image

import utils
from benchmarks import (
    baselines,
    candidates,
    clock,
    cost,
    learning_curve,
    many_images,
    memory,
    read_with,
    reading,
    recipe,
    robustness,
    scale,
    speed,
    study,
    suspect_labels,
    two_rows,
)
from CTCLayer import CTCLayer
from snippet_ocr import cli
from tools.notebook import load_build_model
from training import metrics, parameters, runs

CHANGES = {
    **{case: recipe.SPLIT + changes for case, (_, changes) in (recipe.ABLATION | recipe.CANDIDATES).items()},
    **{case: changes for case, (_, changes) in candidates.CASES.items() if changes},
    **{criterion: changes for criterion, changes in robustness.CRITERIA.items() if changes},
    "cost": cost.CHANGES,
    "clock": speed.clock_changes("curve.csv", 10),
}
COMMANDS = (
    *(
        "baselines",
        "bench",
        "candidates",
        "cost",
        "fast_plate_ocr_baseline",
        "labelling",
        "label_order",
        "label_page",
        "learning_curve",
        "many_images",
    ),
    *("kinds", "kraken_baseline", "reading", "recipe", "robustness", "scale", "suspect_labels", "two_rows"),
)


def tiny_model(height, max_label_length, number_of_classes, dropout):
    """Builds a training model that takes the arguments of the notebook's and trains at once."""
    image = keras.Input((height, None), dtype="uint8", name="image")
    label = keras.Input((max_label_length,), dtype="int32", name="label")
    x = layers.Permute((2, 1))(layers.Rescaling(1 / 255)(image))
    x = layers.Reshape((-1, 4 * height))(x)
    x = layers.Dropout(dropout)(x)
    logits = layers.Dense(number_of_classes, name="logits")(x)
    return keras.Model([image, label], CTCLayer(name="ctc")(label, logits))


@pytest.fixture
def eager():
    """Runs TensorFlow without tracing graphs, which takes most of the time of a short training."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def quick(monkeypatch, eager):
    """Makes `cost` and `scale` take few steps of a tiny model."""
    for module in (cost, scale):
        monkeypatch.setattr(module, "load_build_model", lambda: tiny_model)
        monkeypatch.setattr(module, "STEPS", 1)
    monkeypatch.setattr(cost, "ROUNDS", 1)
    monkeypatch.setattr(scale, "EPOCHS", 1)


@pytest.fixture(scope="module")
def real_model():
    return load_build_model()(16, 5, 11, 0.1)


# The notebook and the commands


@pytest.mark.parametrize("case", CHANGES)
def test_change_fits_the_notebook_exactly_once(case):
    cells = nbformat.read(parameters.NOTEBOOK, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    for before, after in CHANGES[case]:
        assert code.count(before) == 1
        code = code.replace(before, after)
    compile(code, case, "exec")


@pytest.mark.parametrize("name", COMMANDS)
def test_command_describes_itself(name, capsys):
    with pytest.raises(SystemExit) as exit:
        importlib.import_module(f"benchmarks.{name}").main(["--help"])
    assert exit.value.code == 0
    assert f"python -m benchmarks.{name}" in capsys.readouterr().out


def test_many_images_are_read_with_a_valid_command():
    options = cli.parse(many_images.read_command("reader.onnx", "folder", "out.csv")[3:] + ["--resume"])
    assert (options.model, options.images, str(options.out)) == ("reader.onnx", ["folder"], "out.csv")


# Studies


def finished_run(folder, matches):
    """Writes what a run leaves in its folder, one epoch of two seconds for each exact match."""
    with (folder / "history.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "val_exact_match", "val_loss", "seconds"])
        for epoch, match in enumerate(matches, start=1):
            writer.writerow([epoch, match, 1 - match, 2.0])
    scores = {"training": {"images": 8}, "validation": {"images": 2}}
    (folder / "metrics.json").write_text(json.dumps({"scores": scores, "run": {"best_epoch": len(matches)}}))
    return folder


def test_figures_include_take_off_and_milestones(tmp_path):
    found = study.training_figures(finished_run(tmp_path, [0, 0, 0.4, 0.9, 0.97]))
    assert found["take-off epoch"] == 3
    assert found["epochs to"] == {"50%": 4, "90%": 4, "95%": 5, "99%": None}
    assert found["seconds to"] == {"50%": 8.0, "90%": 8.0, "95%": 10.0, "99%": None}
    assert (found["epochs"], found["seconds"], found["validation exact match"]) == (5, 10.0, 0.97)


def test_run_that_stays_on_the_plateau_has_no_take_off(tmp_path):
    assert study.training_figures(finished_run(tmp_path, [0, 0]))["take-off epoch"] is None


def test_training_that_is_recorded_is_not_repeated(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "RESULTS", tmp_path)
    monkeypatch.setattr(study, "PROJECT", tmp_path)
    trainings = []

    def train(settings, changes):
        folder = tmp_path / "runs" / settings["run_name"]
        folder.mkdir(parents=True)
        trainings.append(settings["epochs"])
        return finished_run(folder, [0.5])

    monkeypatch.setattr(study, "run_notebook", train)
    for epochs in (1, 2, 1):
        settings = {"epochs": epochs, "data_dir": str(tmp_path)}
        row = study.measure("try", {"case": "a"}, "some images", settings)
        assert row["parameters"] == {"epochs": epochs}
    assert trainings == [1, 2]
    assert len(study.recorded_rows("try")) == 2


def test_recorded_rows_can_be_formatted_as_tables():
    rows = {name: study.recorded_rows(name) for name in ("recipe", "robustness", "speed")}
    assert all(rows.values())
    assert len(recipe.table(rows["recipe"]).splitlines()) > 20
    for row in rows["robustness"]:
        assert study.rows_table(robustness.COLUMNS["kinds" if "kind" in row else "seeds"], [row])
    assert len(speed.table(rows["speed"]).splitlines()) == 2 + len(speed.SYSTEMS)
    assert all(reading.table(row) for row in study.recorded_rows("reading"))


def test_recipe_table_puts_the_seeds_of_a_case_in_one_line(tmp_path):
    rows = []
    for seed, matches in ((1, [0.4, 0.96]), (2, [0.96, 0.995])):
        figures = study.training_figures(finished_run(tmp_path, matches))
        rows.append({"case": "a case", "seed": seed, **figures})
    assert recipe.table(rows).splitlines()[2] == (
        "| a case | 1 / 1 | 2 (4) / 1 (2) | 2 (4) / 1 (2) | – / 2 (4) | 0.04 / 0.005 | 96.0% / 99.5% | 2.0 |"
    )


def test_linked_images_are_found_with_their_labels(tmp_path, image_folder):
    paths = sorted(image_folder.iterdir())[:3]
    folder = tmp_path / "links"
    folder.mkdir()
    names = study.link_images(folder, paths, ["one", "two", "three"])
    samples, rejected = utils.find_images(folder)
    found = [(sample.path.name, sample.label) for sample in samples]
    assert found == list(zip(names, ["one", "two", "three"], strict=True))
    assert not rejected


def test_learning_curve_shows_the_median_of_the_seeds():
    rows = [
        {
            "set": "meters",
            "base": base,
            "images given": images,
            "seconds": 9,
            "test": metrics.score(["a"] * 10, ["a"] * right + ["b"] * (10 - right)),
        }
        for base, counts in {"": {50: (0, 1, 4), 100: (7, 9, 8)}, "auto": {50: (9, 9, 10)}}.items()
        for images, rights in counts.items()
        for right in rights
    ]
    (axis,) = learning_curve.draw(rows).axes
    assert [list(line.get_ydata()) for line in axis.lines] == [[0.1, 0.8], [0.9]]
    assert learning_curve.table(rows).splitlines()[2:] == [
        "| meters | 50 | from scratch | 0 / 1 / 4 of 10 | 10.0% | 9 |",
        "| meters | 100 | from scratch | 7 / 9 / 8 of 10 | 80.0% | 9 |",
        "| meters | 50 | from the base reader | 9 / 9 / 10 of 10 | 90.0% | 9 |",
    ]


def test_corrupted_labels_differ_in_one_character(image_folder):
    samples, _ = utils.find_images(image_folder)
    labels, wrong = suspect_labels.corrupt(samples, 0.1, seed=0)
    assert len(wrong) == 3
    for sample in samples:
        differences = sum(a != b for a, b in zip(sample.label, labels[sample.path], strict=True))
        assert differences == (sample.path in wrong)
    assert suspect_labels.corrupt(samples, 0.1, seed=0) == (labels, wrong)


# Speed


@pytest.fixture
def split_folder(tmp_path, image_folder):
    samples, _ = utils.find_images(image_folder)
    speed.write_split(tmp_path, {"training": samples[:4], "unseen": samples[4:6]})
    images, texts = baselines.read_images(tmp_path / "unseen.csv")
    assert images.shape == (2, 200, 50, 1) and 0 <= images.min() < images.max() <= 1
    assert texts == [sample.label for sample in samples[4:6]]
    return tmp_path


def test_baseline_trains_on_a_split_and_writes_its_curve(split_folder, eager):
    curve = split_folder / "curve.csv"
    arguments = [str(split_folder), str(curve), "--seed", "1", "--limit", "0", "--target", "1"]
    assert baselines.main(["captcha_ocr", *arguments]) == 0  # a limit of 0 seconds: one epoch
    ((seconds, match),) = clock.read_curve(curve)
    assert seconds > 0 and match == 0


def test_ancestor_trains_with_a_falling_learning_rate(split_folder, monkeypatch):
    fits = []
    monkeypatch.setattr(keras.Model, "fit", lambda model, *args, **options: fits.append((model, options)))
    baselines.train(baselines.BASELINES["ancestor"], split_folder, keras.callbacks.Callback(), seed=1)
    ((model, options),) = fits
    schedule, _ = options["callbacks"]
    assert schedule.schedule(50, 0.0) < schedule.schedule(10, 0.0)
    recurrent = [
        layer.forward_layer.units for layer in model.layers if isinstance(layer, layers.Bidirectional)
    ]
    assert (recurrent, options["epochs"]) == ([128, 128, 64], 200)


def test_time_of_the_first_step_is_kept(tmp_path, monkeypatch):
    times = iter([5.0, 6.0])
    monkeypatch.setattr(clock.time, "time", lambda: next(times))
    first_step = clock.FirstStep(tmp_path / "first_step")
    for batch in range(2):
        first_step.on_train_batch_end(batch)
    assert (tmp_path / "first_step").read_text() == "5.0"


# Cost and scale


def test_operations_are_two_per_multiplication(real_model):
    # Width and height are halved by each of the two poolings; the step of 4 pixels leaves 16 steps.
    convolutions = 64 * 16 * 9 * 1 * 32 + 32 * 8 * 9 * 32 * (32 + 64) + 16 * 4 * 9 * 64 * 64
    columns = 16 * (4 * 64) * 128
    grus = sum(
        2 * 2 * 3 * 16 * units * (inputs + units) for inputs, units in ((128, 128), (256, 128), (256, 64))
    )
    expected = {"convolutions": 2 * (convolutions + columns), "GRUs": grus + 2 * 16 * 128 * 11}
    assert cost.count_operations(real_model, 64) == expected


def test_partial_models_end_where_their_names_say(real_model):
    parts = cost.partial_models(real_model)
    assert [part.output.shape[1:] for part in parts.values()] == [(None, 128), (None, 11), (None, 11)]
    assert not any(isinstance(layer, layers.Bidirectional) for layer in parts["convolutions"].layers)


def test_cost_is_measured_for_each_part_of_a_step(image_folder, quick):
    figures = cost.measure_steps(image_folder)
    times = figures["milliseconds"]
    assert list(times) == [cost.DATA, "convolutions", "GRUs", "CTC", "whole step"]
    assert times[cost.DATA] > 0 and times["whole step"] > 0
    parts = ("convolutions", "GRUs", "CTC")
    assert sum(times[part] for part in parts) == pytest.approx(times["whole step"])
    row = {**figures, "images": 30, "seconds to the first step": 1.0, "peak memory in GB": 0.5}
    assert len(cost.table(row).splitlines()) == 2 + len(times) + 1 + 2


def test_scale_measures_every_figure_of_its_table(image_folder, quick):
    figures = scale.measure_here(image_folder)
    figures["seconds to the first step"] = figures.pop("time of the first step")
    assert set(figures) == set(scale.FORMATS)
    assert all(value > 0 for value in figures.values())
    table = scale.table([{"images": 30, "rounds": [figures]}, {"images": 1000, "rounds": [figures]}])
    assert table.startswith("| images | 30 | 1,000 |")


def test_peak_memory_is_at_least_the_current_memory():
    assert memory.process_memory() >= memory.process_memory(memory.CURRENT) > 1e6


# Reading


def test_predict_loop_reads_what_the_reader_reads(saved, image_folder):
    paths = sorted(image_folder.iterdir())[:3]
    assert read_with.predict_loop(saved)(paths) == read_with.reader(saved)(paths)


def test_splits_are_those_of_the_training(image_folder):
    samples, _ = utils.find_images(image_folder)
    settings = {**parameters.defaults(), "data_dir": str(image_folder)}
    provenance = {"parameters": settings, "images": runs.fingerprint(samples)}
    reader = SimpleNamespace(provenance=provenance)
    splits = reading.splits_of(reader)
    assert list(splits.values()) == list(utils.split_data(samples, seed=42))
    samples[0].path.unlink()
    with pytest.raises(ValueError, match="the images there differ"):
        reading.splits_of(reader)


def test_erfc_is_replaced_for_every_onnx_runtime(tmp_path):
    helper = onnx.helper
    shape = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [5]) for name in ("x", "y")]
    nodes = [helper.make_node("Erfc", ["x"], ["z"]), helper.make_node("Neg", ["z"], ["y"])]
    graph = helper.make_graph(nodes, "graph", shape[:1], shape[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "model.onnx")
    reading.replace_erfc(tmp_path / "model.onnx")
    x = np.linspace(-2, 2, 5, dtype="float32")
    (y,) = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(None, {"x": x})
    np.testing.assert_allclose(y, [-math.erfc(value) for value in x], rtol=1e-5)


def test_plates_and_pairs_have_two_rows_in_their_order(tmp_path):
    plates = list(two_rows.drawn_plates(5, 0))
    assert all(text.count("\n") == 1 for _, text in plates)
    assert all(image.height > 40 and np.asarray(image).std() > 10 for image, _ in plates)
    again = [(np.asarray(image).tolist(), text) for image, text in two_rows.drawn_plates(5, 0)]
    assert again == [(np.asarray(image).tolist(), text) for image, text in plates]
    grey = {"a": 10, "b": 100, "c": 200}
    for text, shade in grey.items():
        Image.new("L", (40 if text == "a" else 80, 20), shade).save(tmp_path / f"{text}.png")
    samples = [utils.Sample(tmp_path / f"{text}.png", text, (40, 20), "") for text in grey]
    pairs = list(two_rows.stacked_pairs(samples, 0))
    assert sorted(text[0] for _, text in pairs) == sorted(text[2] for _, text in pairs) == [*grey]
    for image, text in pairs:
        pixels = np.asarray(image)
        assert (pixels[2, 2], pixels[-2, 2]) == (grey[text[0]], grey[text[2]])
    saved = two_rows.save(tmp_path / "new", plates)
    assert [sample.label for sample in saved] == [text for _, text in plates]
