from types import SimpleNamespace

import pytest

import utils
from benchmarks import (
    bench,
    clock,
    cost,
    fast_plate_ocr_baseline,
    speed,
)
from training import PROJECT


def curve_row(system, seed, curve):
    return {"system": system, "seed": seed, "images": "some 1", "training": 6, "unseen": 2, "curve": curve}


def test_milestone_is_reached_in_the_first_epoch_above_it():
    curve = [[10.0, 0.0], [20.0, 0.95], [30.0, 0.9], [40.0, 0.99]]
    assert [speed.seconds_to(curve, milestone) for milestone in (0.9, 0.95, 0.99)] == [20, 20, 40]
    assert speed.seconds_to(curve, 0.995) == float("inf")


def test_speed_table_has_medians_and_ratios():
    rows = [
        curve_row(speed.NOTEBOOK, seed, [[10, 0.5], [10 * seed, 0.96], [30, 0.99]]) for seed in (2, 3, 4)
    ] + [curve_row(speed.PLATES, 1, [[60, 0.5], [90, 0.97]])]
    first, second = speed.table(rows).splitlines()[2:]
    assert first == "| this notebook | 3 | 10.0 | 30 (1.0) | 30 (1.0) | 30 (1.0) | 99.0% / 99.0% / 99.0% |"
    assert second == (
        "| fast-plate-ocr 1.1.0 | 1 | 45.0 | 90 (3.0) | 90 (3.0) | not in 90 (>3.0), by 0 of 1 | 97.0% |"
    )


def test_speed_table_counts_trainings_below_a_milestone():
    rows = [curve_row(speed.NOTEBOOK, 1, [[10, 1.0]])]
    rows += [curve_row(speed.PLATES, seed, [[50, 0.5], [100, match]]) for seed, match in ((1, 0.9), (2, 0.5))]
    assert "not in 100 (>10.0), by 1 of 2" in speed.table(rows)
    rows += [curve_row(speed.PLATES, 3, [[30, 0.5], [40, 0.9]])]
    assert "| 100 (10.0), by 2 of 3 | not in 40 (>4.0), by 0 of 3 |" in speed.table(rows)


def test_speed_figure_has_a_line_per_training():
    rows = [curve_row(speed.NOTEBOOK, seed, [[10, 0.5], [20, 1.0]]) for seed in (1, 2)]
    rows.append(curve_row(speed.PLATES, 1, [[10, 0.0], [50, 0.9]]))
    figure = speed.draw(rows)
    (axis,), (legend,) = figure.axes, figure.legends
    assert [list(line.get_xdata()) for line in axis.lines] == [[10, 20], [10, 20], [10, 50]]
    assert [text.get_text() for text in legend.get_texts()] == [speed.NOTEBOOK, speed.PLATES]


@pytest.mark.parametrize("count", [842, 1040, 300])
def test_unseen_images_are_full_batches_and_a_quarter(count, tmp_path):
    samples = [utils.Sample(tmp_path / str(n), "ab", (1, 1), str(n)) for n in range(count)]
    _, unseen, _ = utils.split_data(samples, 1, **speed.split_shares(count))
    assert len(unseen) % speed.BATCH_SIZE == 0
    assert len(unseen) == pytest.approx(count / 4, abs=speed.BATCH_SIZE / 2)


def test_fast_plate_ocr_gets_a_slot_per_character():
    config = fast_plate_ocr_baseline.plate_config(["abc", "bd", "a"])
    assert (config["max_plate_slots"], config["alphabet"], config["pad_char"]) == (3, "abcd_", "_")


def test_speed_section_names_machine_and_date_of_measuring():
    where = {"python": "3", "tensorflow": "2", "keras": "3", "machine": "a quick one"}
    rows = [
        {**curve_row(speed.NOTEBOOK, 1, [[10, 1.0]]), **where, "date": date, "images": "my meters 0a1b"}
        for date in ("2020-02-02", "2020-02-01")
    ]
    cost_row = {
        "milliseconds": {cost.DATA: 0.1, "convolutions": 2.0, "whole step": 5.0},
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


def test_results_have_a_place_for_the_speed_section():
    before, after = bench.split_at_marks(PROJECT / "benchmarks" / "RESULTS.md")
    assert before.rstrip().endswith("## Speed")
    assert after


def test_replacing_a_section_keeps_the_rest_of_the_file(tmp_path):
    file = tmp_path / "RESULTS.md"
    file.write_text(f"before\n{bench.BEGIN}\nold\n{bench.END}\nafter\n")
    bench.replace_section(file, "new")
    bench.replace_section(file, "newer")
    assert file.read_text() == f"before\n{bench.BEGIN}\n\nnewer\n\n{bench.END}\nafter\n"
    file.write_text("no marks")
    with pytest.raises(ValueError, match="Expected the lines"):
        bench.replace_section(file, "new")


def test_clock_stops_a_training_at_its_target(tmp_path):
    watch = clock.Clock(tmp_path / "curve.csv", "match", limit=1000, target=0.9)
    watch.set_model(SimpleNamespace(stop_training=False))
    watch.on_train_begin()
    for epoch, match in enumerate((0.5, 0.9)):
        assert not watch.model.stop_training
        watch.on_epoch_end(epoch, {"match": match})
    assert watch.model.stop_training
    assert [match for _, match in clock.read_curve(tmp_path / "curve.csv")] == [0.5, 0.9]
