import re
import shutil

import pytest
from PIL import Image

import utils
from examples import draw
from training import summary


def digests_of(splits):
    return [[sample.digest for sample in split] for split in splits]


def test_splits_are_disjoint_complete_and_of_the_set_sizes(samples):
    splits = utils.split_data(samples, seed=1, validation_share=0.2, test_share=0.1)
    assert [len(split) for split in splits] == [21, 6, 3]
    assert sorted(sample.path for split in splits for sample in split) == [sample.path for sample in samples]


def test_split_ignores_file_names_folders_and_order(samples, tmp_path):
    moved = [
        sample._replace(path=tmp_path / f"{number:02}.png")
        for number, sample in zip(range(len(samples), 0, -1), samples, strict=True)
    ]
    for changed in (samples[::-1], moved):
        assert digests_of(utils.split_data(changed, 5)) == digests_of(utils.split_data(samples, 5))


def test_split_depends_on_the_seed(samples):
    assert utils.split_data(samples, 1) != utils.split_data(samples, 2)


def test_split_is_not_alphabetical(samples):
    training, _, _ = utils.split_data(samples, 0)
    labels = [sample.label for sample in training]
    assert labels != sorted(labels)


@pytest.mark.parametrize("folds", [0, 3])
def test_byte_identical_images_are_in_the_same_split(image_folder, folds):
    for path in sorted(image_folder.iterdir()):
        shutil.copy(path, path.with_stem(f"{path.stem}_1"))
    samples, _ = utils.find_images(image_folder)
    for seed, fold in [(seed, fold) for seed in range(8) for fold in range(min(folds, 1), folds + 1)]:
        splits = utils.split_data(samples, seed, fold=fold, folds=folds)
        digests = [set(split) for split in digests_of(splits)]
        assert sum(map(len, digests)) == len(set.union(*digests)) == 30


@pytest.mark.parametrize("folds", [0, 3])
def test_near_duplicates_of_a_label_are_in_the_same_split(image_folder, folds):
    for path in sorted(image_folder.iterdir()):
        image = Image.open(path)
        image.resize((image.width * 3 // 2, image.height * 3 // 2)).save(path.with_stem(f"{path.stem}_1"))
    samples, _ = utils.find_images(image_folder)
    for seed, fold in [(seed, fold) for seed in range(4) for fold in range(min(folds, 1), folds + 1)]:
        splits = utils.split_data(samples, seed, fold=fold, folds=folds)
        labels = [{sample.label for sample in split} for split in splits]
        assert sum(map(len, labels)) == len(set.union(*labels)) == 30


def test_split_without_near_duplicates_ignores_copies(samples):
    assert [sample.copy_of for sample in samples] == [sample.digest for sample in samples]
    unmarked = [sample._replace(copy_of="") for sample in samples]
    assert digests_of(utils.split_data(unmarked, 3)) == digests_of(utils.split_data(samples, 3))


def test_copies_that_exceed_a_split_are_in_training(samples):
    copies = [samples[0]._replace(path=samples[0].path / str(number)) for number in range(31)]
    for seed in range(9):
        splits = utils.split_data(copies + samples[1:10], seed)
        assert [len(split) for split in splits] == [32, 4, 4]


def test_copies_that_exceed_a_fold_are_never_in_validation(samples):
    copies = [samples[0]._replace(path=samples[0].path / str(number)) for number in range(31)]
    for seed, fold in [(seed, fold) for seed in range(9) for fold in (1, 2, 3)]:
        _, validation, test = utils.split_data(copies + samples[1:10], seed, fold=fold, folds=3)
        assert len(validation) == 4
        assert len({*copies} & {*test}) in (0, 31)


def test_summary_lists_near_duplicates_with_other_labels(tmp_path):
    draw(tmp_path / "ab.png")
    draw(tmp_path / "xy.png", shade=9)
    draw(tmp_path / "b.png", size=(30, 10))
    samples, rejected = utils.find_images(tmp_path)
    assert len(samples) == 3 and not rejected
    text = summary.describe(samples, rejected)
    head, _, line = text.partition("contradictions   1 groups of copies have different labels; check them\n")
    line = line.splitlines()[0]
    assert "ab.png ('ab')" in line and "xy.png ('xy')" in line
    assert "kept in one split" not in text


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_images_are_an_error(samples, count):
    empty = {1: "validation and training", 2: "training"}[count]
    message = (
        "at least 3 different images for training, validation and test. "
        f"Found {count} in {count} files; no image remains for {empty}."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        utils.split_data(samples[:count], 0)


def test_three_images_make_three_splits(samples):
    assert [len(split) for split in utils.split_data(samples[:3], 0)] == [1, 1, 1]


def test_folds_test_every_image_exactly_once(samples):
    tested = []
    for fold in range(1, 5):
        training, validation, test = utils.split_data(samples, 1, validation_share=0.2, fold=fold, folds=4)
        assert sorted(training + validation + test) == sorted(samples)
        assert len(validation) == round(0.2 * len(samples))
        assert abs(len(test) - len(samples) / 4) < 1
        tested += test
    assert sorted(tested) == sorted(samples)


def test_more_folds_than_images_are_an_error(samples):
    with pytest.raises(ValueError, match=r"at least 10 .*Found 4 in 4 files; no image remains for test"):
        utils.split_data(samples[:4], 0, fold=10, folds=10)


def test_summary_of_splits_warns_of_characters_not_in_training(samples):
    training, validation, test = (
        [samples[0]._replace(label=label) for label in labels] for labels in (["aab"], ["bcc"], ["ca", "d"])
    )
    size, warning = summary.describe_splits(training, validation, test).splitlines()
    assert size == "training 1, validation 1, test 2 images"
    assert warning.startswith("WARNING: some characters are in validation or test images")
    assert "'c' (2), 'd' (1)." in warning
    assert summary.describe_splits(training, training, training) == "training 1, validation 1, test 1 images"
