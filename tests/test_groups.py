"""Images of a group, such as the photos of one meter, stay in one split."""

import itertools
import re
from pathlib import Path

import numpy as np
import openpyxl
import pytest

import utils
from examples import draw
from training import groups, summary


def sample(name, label="1", copy_of="", group=""):
    return utils.Sample(Path("/data", name), label, (9, 9), name, copy_of=copy_of, group=group)


def groups_in(folder, group_by):
    samples, _ = utils.find_images(folder, group_by=group_by)
    return {one.path.relative_to(folder).as_posix(): one.group for one in samples}


def write_labels(folder, *rows):
    """Draws an image for each row of `labels.csv`; returns the folder."""
    for number, row in enumerate(rows):
        draw(folder / row.split(",")[0], shade=number)
    (folder / "labels.csv").write_text("\n".join(["file,text,Meter", *rows]))
    return folder


def test_groups_are_texts_folders_prefixes_or_a_column(tmp_path):
    (tmp_path / "below").mkdir()
    write_labels(tmp_path, "m1_a.png,04,7", "m1-b.png,05, 7 ", "_x.png,04,8", "below/m2_a.png,05,8")
    names = ["m1_a.png", "m1-b.png", "_x.png", "below/m2_a.png"]
    for group_by, expected in (
        ("", ["", "", "", ""]),
        ("text", ["04", "05", "04", "05"]),
        ("folder", [".", ".", ".", "below"]),
        ("prefix", ["m1", "m1", "_x", "m2"]),
        ("meter", ["7", "7", "8", "8"]),
        ("METER", ["7", "7", "8", "8"]),
    ):
        assert groups_in(tmp_path, group_by) == dict(zip(names, expected, strict=True)), group_by


def test_column_of_an_excel_table_groups(tmp_path):
    book = openpyxl.Workbook()
    for row in (["file", "text", "Writer"], ["a.png", "x", 3], ["b.png", "y", 3], ["c.png", "z", 0]):
        book.active.append(row)
    book.save(tmp_path / "labels.xlsx")
    for shade, name in enumerate("abc"):
        draw(tmp_path / f"{name}.png", shade)
    assert groups_in(tmp_path, "writer") == {"a.png": "3", "b.png": "3", "c.png": "0"}


def test_missing_column_is_an_error_that_lists_the_columns(tmp_path):
    write_labels(tmp_path, "a.png,1,7", "b.png,2,7")
    message = f"column of the label file in {tmp_path} (file, text, meter). Received: 'metre'"
    with pytest.raises(ValueError, match=re.escape(message)):
        utils.find_images(tmp_path, group_by="metre")
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(ValueError, match=r"text, folder, prefix or a column .* \(there is none\)"):
        utils.find_images(tmp_path, group_by="meter")


def test_empty_cell_of_the_column_is_an_error_that_names_the_image(tmp_path):
    write_labels(tmp_path, "a.png,1,7", "b.png,2,", "c.png,3", "d.png,4,8")
    with pytest.raises(ValueError, match=r"column meter for each .* none for 2 images, such as b\.png"):
        utils.find_images(tmp_path, group_by="meter")


def components(samples):
    """The sets of samples that stay together, by growing each set until nothing changes."""
    found = []
    for one in samples:
        same = {one}
        while True:
            more = {
                other
                for other, known in itertools.product(samples, same)
                if (other.group and other.group == known.group)
                or ((other.copy_of or other.digest), other.label)
                == ((known.copy_of or known.digest), known.label)
            }
            if more <= same:
                break
            same |= more
        found.append(frozenset(same))
    return set(found)


@pytest.mark.parametrize("seed", range(5))
def test_copies_and_groups_that_are_connected_stay_together(seed):
    generator = np.random.default_rng(seed)
    samples = [
        sample(
            f"{number}",
            label=str(generator.integers(3)),
            copy_of=f"copy {generator.integers(12)}",
            group=str(generator.choice(["", "", *"abcdefgh"])),
        )
        for number in range(25)
    ]
    found = groups.find_inseparable(samples)
    assert {frozenset(same) for same in found} == components(samples)
    assert sum(map(len, found)) == 25
    assert 1 < len(found) < 25


@pytest.mark.parametrize("folds", [0, 3])
def test_no_group_is_in_two_splits(folds):
    samples = [sample(f"{number}", str(number), group=f"meter {number**2 % 17}") for number in range(200)]
    for seed, fold in [(seed, fold) for seed in range(9) for fold in range(min(folds, 1), folds + 1)]:
        splits = utils.split_data(samples, seed, fold=fold, folds=folds)
        found = [{one.group for one in split} for split in splits]
        assert sum(map(len, splits)) == 200
        assert sum(map(len, found)) == len(set.union(*found)) == 9


def test_folds_of_groups_test_every_image_once():
    samples = [sample(f"{number}", str(number), group=str(number % 7)) for number in range(70)]
    tested = [utils.split_data(samples, 1, fold=fold, folds=3)[2] for fold in (1, 2, 3)]
    assert sorted(itertools.chain(*tested)) == sorted(samples)


@pytest.mark.parametrize("sizes", [(90, 5, 5), (1, 1, 98), (40, 40, 20)])
def test_three_groups_make_three_splits(sizes):
    names = [name for name, size in zip("abc", sizes, strict=True) for _ in range(size)]
    samples = [sample(f"{number}", str(number), group=name) for number, name in enumerate(names)]
    for seed in range(5):
        splits = utils.split_data(samples, seed)
        assert sorted(map(len, splits)) == sorted(sizes)
        assert len(splits[0]) == max(sizes) or max(sizes) < 50


def test_too_few_groups_are_an_error():
    samples = [sample(f"{number}", str(number), group=str(number % 2)) for number in range(50)]
    with pytest.raises(ValueError, match=r"at least 3 groups of images .*Found 2 in 50 files"):
        utils.split_data(samples, 0)


def test_summary_of_splits_counts_groups_and_warns_if_each_image_is_one():
    pair = [sample("1", group="a"), sample("2", group="a")]
    other = [sample("3", group="b")]
    assert summary.describe_splits(pair, other, other).splitlines()[1:] == [
        "groups: training 1, validation 1, test 1; none is in two splits"
    ]
    warning = summary.describe_splits(pair[:1], other, [sample("4", group="c")]).splitlines()[2]
    assert warning == "WARNING: each image is a group of its own, so group_by changes nothing."
