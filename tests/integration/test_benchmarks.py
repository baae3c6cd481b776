"""The benchmarks measure what they say: their parts that need no training."""

import csv
import json
import math

import keras
import nbformat
import numpy as np
import onnx
import onnxruntime
import pytest

import utils
from benchmarks import (
    baselines,
    bench,
    clock,
    cost,
    fast_plate_ocr_baseline,
    learning_curve,
    reading,
    recipe,
    robustness,
    speed,
    study,
    suspect_labels,
)
from tools.notebook import load_build_model
from training import PROJECT, metrics
from training.parameters import NOTEBOOK

CHANGES = {
    **{case: recipe.SPLIT + changes for case, (_, changes) in (recipe.ABLATION | recipe.CANDIDATES).items()},
    **{criterion: changes for criterion, changes in robustness.CRITERIA.items() if changes},
    "cost": cost.CHANGES,
    "clock": speed.clocked("curve.csv", 10),
}


@pytest.mark.parametrize("case", CHANGES)
def test_every_change_of_a_benchmark_fits_the_notebook(case):
    sources = [
        cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"
    ]
    for before, after in CHANGES[case]:
        assert sum(source.count(before) for source in sources) == 1
        compile("\n".join(sources).replace(before, after), case, "exec")


def finished_run(folder, matches):
    with (folder / "history.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "val_exact_match", "val_loss", "seconds"])
        for epoch, match in enumerate(matches, start=1):
            writer.writerow([epoch, match, 1 - match, 2.0])
    scores = {"training": {"images": 8}, "validation": {"images": 2}}
    (folder / "metrics.json").write_text(json.dumps({"scores": scores, "run": {"best_epoch": len(matches)}}))
    return folder


def test_figures_of_a_run_tell_when_it_took_off_and_how_long_each_milestone_took(tmp_path):
    found = study.figures(finished_run(tmp_path, [0, 0, 0.4, 0.9, 0.97]))
    assert found["take-off epoch"] == 3
    assert found["epochs to"] == {"50%": 4, "90%": 4, "95%": 5, "99%": None}
    assert found["seconds to"] == {"50%": 8.0, "90%": 8.0, "95%": 10.0, "99%": None}
    assert (found["epochs"], found["seconds"], found["validation exact match"]) == (5, 10.0, 0.97)


def test_run_that_never_takes_off_has_no_take_off_epoch(tmp_path):
    assert study.figures(finished_run(tmp_path, [0, 0]))["take-off epoch"] is None


def test_finished_training_is_recorded_and_never_repeated(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "RESULTS", tmp_path)
    monkeypatch.setattr(study, "PROJECT", tmp_path)
    trainings = []

    def train(parameters, changes):
        folder = tmp_path / "runs" / parameters["run_name"]
        folder.mkdir(parents=True)
        trainings.append(parameters["epochs"])
        return finished_run(folder, [0.5])

    monkeypatch.setattr(study, "run_notebook", train)
    for epochs in (1, 2, 1):
        row = study.measure(
            "try", {"case": "a"}, "some images", {"epochs": epochs, "data_dir": str(tmp_path)}
        )
        assert row["parameters"] == {"epochs": epochs}
    assert trainings == [1, 2]
    assert len(study.read("try")) == 2


def test_table_of_the_recipe_puts_the_seeds_of_a_case_side_by_side(tmp_path):
    rows = []
    for seed, matches in ((1, [0.4, 0.96]), (2, [0.96, 0.995])):
        rows.append({"case": "a case", "seed": seed, **study.figures(finished_run(tmp_path, matches))})
    assert recipe.table(rows).splitlines()[2] == (
        "| a case | 1 / 1 | 2 (4) / 1 (2) | 2 (4) / 1 (2) | – / 2 (4) | 0.04 / 0.005 | 96.0% / 99.5% | 2.0 |"
    )


def test_linked_images_are_found_with_the_labels_given(tmp_path, image_folder):
    paths = sorted(image_folder.iterdir())[:3]
    folder = tmp_path / "links"
    folder.mkdir()
    names = study.link_images(folder, paths, ["one", "two", "three"])
    samples, rejected = utils.find_images(folder)
    assert [(sample.path.name, sample.label) for sample in samples] == list(
        zip(names, ["one", "two", "three"], strict=True)
    )
    assert not rejected


def test_learning_curve_is_drawn_with_its_intervals_even_at_100_per_cent():
    rows = [
        {"images given": images, "test": metrics.score(["a"] * 10, ["a"] * right + ["b"] * (10 - right))}
        for images, right in ((50, 0), (100, 7), (200, 10))
    ]
    (axis,) = learning_curve.draw(rows).axes
    line = axis.containers[0].lines[0]
    assert line.get_ydata() == pytest.approx([0, 0.7, 1])
    assert axis.get_ylabel() == "exact match on 10 others"


def test_corrupted_labels_differ_in_one_character_and_are_as_many_as_asked_for(image_folder):
    samples, _ = utils.find_images(image_folder)
    labels, wrong = suspect_labels.corrupt(samples, 0.1, seed=0)
    assert len(wrong) == 3
    for sample in samples:
        differences = sum(a != b for a, b in zip(sample.label, labels[sample.path], strict=True))
        assert differences == (sample.path in wrong)
    assert suspect_labels.corrupt(samples, 0.1, seed=0) == (labels, wrong)


def curve_of(system, seed, curve):
    return {"system": system, "seed": seed, "images": "some 1", "training": 6, "unseen": 2, "curve": curve}


def test_seconds_to_a_milestone_are_those_of_the_first_epoch_that_reaches_it():
    curve = [[10.0, 0.0], [20.0, 0.95], [30.0, 0.9], [40.0, 0.99]]
    assert [speed.seconds_to(curve, milestone) for milestone in (0.9, 0.95, 0.99)] == [20, 20, 40]
    assert speed.seconds_to(curve, 0.995) == float("inf")


def test_table_of_speed_gives_medians_over_the_seeds_and_ratios_to_this_notebook():
    rows = [
        curve_of(speed.NOTEBOOK, seed, [[10, 0.5], [10 * seed, 0.96], [30, 0.99]]) for seed in (2, 3, 4)
    ] + [curve_of(speed.PLATES, 1, [[60, 0.5], [90, 0.97]])]
    first, second = speed.table(rows).splitlines()[2:]
    assert first == "| this notebook | 3 | 10.0 | 30 (1.0) | 30 (1.0) | 30 (1.0) | 99.0% / 99.0% / 99.0% |"
    assert second == (
        "| fast-plate-ocr 1.1.0 | 1 | 45.0 | 90 (3.0) | 90 (3.0) | not in 90 (>3.0), by 0 of 1 | 97.0% |"
    )


def test_table_of_speed_says_how_many_trainings_reached_what_their_median_did_not():
    rows = [curve_of(speed.NOTEBOOK, 1, [[10, 1.0]])]
    rows += [curve_of(speed.PLATES, seed, [[50, 0.5], [100, match]]) for seed, match in ((1, 0.9), (2, 0.5))]
    assert "not in 100 (>10.0), by 1 of 2" in speed.table(rows)
    rows += [curve_of(speed.PLATES, 3, [[30, 0.5], [40, 0.9]])]
    assert "| 100 (10.0), by 2 of 3 | not in 40 (>4.0), by 0 of 3 |" in speed.table(rows)


@pytest.mark.parametrize("count", [842, 1040, 300])
def test_unseen_images_are_full_batches_and_a_quarter_of_all(count, tmp_path):
    samples = [utils.Sample(tmp_path / str(n), "ab", (1, 1), str(n)) for n in range(count)]
    _, unseen, _ = utils.split_data(samples, 1, **speed.shares(count))
    assert len(unseen) % speed.BATCH == 0
    assert len(unseen) == pytest.approx(count / 4, abs=speed.BATCH / 2)


def test_rival_is_given_a_slot_for_each_character_of_the_longest_text():
    config = fast_plate_ocr_baseline.plate_config(["abc", "bd", "a"])
    assert (config["max_plate_slots"], config["alphabet"], config["pad_char"]) == (3, "abcd_", "_")


def test_section_of_speed_names_the_machine_and_the_day_of_the_measurement_not_of_the_writing():
    where = {"python": "3", "tensorflow": "2", "keras": "3", "machine": "a quick one"}
    rows = [
        {**curve_of(speed.NOTEBOOK, 1, [[10, 1.0]]), **where, "date": date, "images": "my meters 0a1b"}
        for date in ("2020-02-02", "2020-02-01")
    ]
    milliseconds = {"data (beside the training)": 0.1, "convolutions": 2.0, "whole step": 5.0}
    cost_row = {
        "milliseconds": milliseconds,
        "operations of reading": {"convolutions": 1e8},
        "operations per second of a matrix product": 1e11,
        "milliseconds at that rate": 3.0,
        "seconds to the first step": 12.0,
        "images": 1000,
        "peak memory in GB": 1.2,
    }
    text = bench.section(rows, cost_row)
    assert text.startswith("2020-02-01 to 2020-02-02; a quick one; python 3, tensorflow 2, keras 3.")
    assert "Images: my meters, 6 for training and 2 unseen" in text
    assert "| convolutions | 2.00 | 0.300 |" in text
    assert "50 times as fast" in text


def test_results_have_a_place_for_the_section_of_speed():
    before, after = bench.split_at_marks(PROJECT / "benchmarks" / "RESULTS.md")
    assert before.rstrip().endswith("## Speed")
    assert after


def test_speed_is_drawn_with_a_line_for_each_training_and_one_name_for_each_system():
    rows = [curve_of(speed.NOTEBOOK, seed, [[10, 0.5], [20, 1.0]]) for seed in (1, 2)]
    rows.append(curve_of(speed.PLATES, 1, [[10, 0.0], [50, 0.9]]))
    figure = speed.draw(rows)
    (axis,), (legend,) = figure.axes, figure.legends
    assert [list(line.get_xdata()) for line in axis.lines] == [[10, 20], [10, 20], [10, 50]]
    assert [text.get_text() for text in legend.get_texts()] == [speed.NOTEBOOK, speed.PLATES]


@pytest.mark.parametrize("name", baselines.BASELINES)
def test_baseline_trains_on_the_split_it_is_given_and_leaves_its_curve(name, tmp_path, image_folder):
    samples, _ = utils.find_images(image_folder)
    speed.write_split(tmp_path, {"training": samples[:4], "unseen": samples[4:6]})
    images, texts = baselines.read_images(tmp_path / "unseen.csv")
    assert images.shape == (2, 200, 50, 1) and 0 <= images.min() < images.max() <= 1
    assert texts == [sample.label for sample in samples[4:6]]
    curve = tmp_path / "curve.csv"
    arguments = [name, str(tmp_path), str(curve), "--seed", "1", "--limit", "0", "--enough", "1"]
    assert baselines.main(arguments) == 0  # a limit of 0 seconds: one epoch
    ((seconds, match),) = clock.read_curve(curve)
    assert seconds > 0 and match == 0


def test_clock_ends_a_training_that_has_reached_enough(tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    watch = clock.Clock(tmp_path / "curve.csv", "loss", limit=1000, enough=0.0)
    model.fit(np.ones((4, 1)), np.ones((4, 1)), epochs=5, callbacks=[watch], verbose=0)
    assert len(clock.read_curve(tmp_path / "curve.csv")) == 1


def test_operations_are_counted_as_two_for_each_multiplication_of_each_layer():
    model = load_build_model()(64, 16, 5, 11, 4, 0.1)
    # Width and height are halved by each of the two poolings; the step of 4 pixels leaves 16 steps.
    convolutions = 2 * (64 * 16 * 9 * 1 * 32 + 32 * 8 * 9 * 32 * 64) + 2 * 16 * (4 * 64) * 64
    grus = sum(
        2 * 2 * 3 * 16 * units * (inputs + units) for inputs, units in ((64, 128), (256, 128), (256, 64))
    )
    assert cost.operations(model) == {"convolutions": convolutions, "GRUs": grus + 2 * 16 * 128 * 11}


def test_beginnings_of_the_model_end_where_their_names_say():
    model = load_build_model()(64, 16, 5, 11, 4, 0.1)
    parts = cost.beginnings(model)
    assert [part.output.shape[1:] for part in parts.values()] == [(16, 64), (16, 11), (16, 11)]
    assert not any(isinstance(layer, keras.layers.Bidirectional) for layer in parts["convolutions"].layers)
    image, label = np.random.default_rng(0).random((2, 64, 16, 1), dtype="float32"), np.ones((2, 5), "int32")
    steps = {name: cost.step_of(part, own_loss=part is model) for name, part in parts.items()}
    times = cost.milliseconds_per_image(steps, [({"image": image, "label": label}, label)])
    assert list(times) == list(parts)
    assert min(times.values()) > 0


def test_rewriting_a_section_leaves_the_rest_of_the_file(tmp_path):
    file = tmp_path / "RESULTS.md"
    file.write_text(f"before\n{bench.BEGIN}\nold\n{bench.END}\nafter\n")
    bench.rewrite(file, "new")
    bench.rewrite(file, "newer")
    assert file.read_text() == f"before\n{bench.BEGIN}\n\nnewer\n\n{bench.END}\nafter\n"
    file.write_text("no marks")
    with pytest.raises(ValueError, match="Expected"):
        bench.rewrite(file, "new")


def test_complementary_error_function_is_mended_for_every_runtime(tmp_path):
    helper = onnx.helper
    shape = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [5]) for name in ("x", "y")]
    nodes = [helper.make_node("Erfc", ["x"], ["z"]), helper.make_node("Neg", ["z"], ["y"])]
    graph = helper.make_graph(nodes, "graph", shape[:1], shape[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "model.onnx")
    reading.mend_erfc(tmp_path / "model.onnx")
    x = np.linspace(-2, 2, 5, dtype="float32")
    (y,) = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(None, {"x": x})
    np.testing.assert_allclose(y, [-math.erfc(value) for value in x], rtol=1e-5)
