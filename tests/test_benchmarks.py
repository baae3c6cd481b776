"""The benchmarks measure what they say: their parts that need no training."""

import csv
import json

import nbformat
import pytest

import metrics
import utils
from benchmarks import learning_curve, recipe, study, suspect_labels
from tools.notebook import NOTEBOOK


@pytest.mark.parametrize("case", [*recipe.ABLATION, *recipe.CANDIDATES])
def test_every_change_of_the_recipe_fits_the_notebook(case):
    sources = [
        cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"
    ]
    _, changes = (recipe.ABLATION | recipe.CANDIDATES)[case]
    for before, after in recipe.SPLIT + changes:
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
