import functools
import hashlib
import math
import os
import re
import shutil
import unicodedata
from collections import Counter

import numpy as np
import pytest
from PIL import Image

import utils
from snippet_ocr.alphabet import Alphabet

WIDTH, HEIGHT = 100, 25


def draw(path, shade=0, size=(40, 20)):
    image = Image.new("L", size, 255)
    image.paste(shade, (5, 5, 15, 15))
    image.save(path)
    return path


@pytest.fixture
def samples(image_folder):
    return utils.find_images(image_folder)[0]


def test_every_image_format_is_found_in_any_case_and_subfolder(tmp_path):
    (tmp_path / "below").mkdir()
    extensions = ["png", "PNG", "jpg", "Jpg", "JPEG", "bmp", "gif", "webp", "tif", "TIFF"]
    for number, extension in enumerate(extensions):
        folder = tmp_path / "below" if number % 2 else tmp_path
        draw(folder / f"{number}.{extension}", shade=number)
    samples, rejected = utils.find_images(tmp_path)
    assert "".join(sorted(sample.label for sample in samples)) == "0123456789"
    assert all(sample.size == (40, 20) for sample in samples)
    assert rejected == []


def test_unusable_files_are_listed_with_a_reason_and_skipped(tmp_path):
    good = draw(tmp_path / "good.png")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:60])
    (tmp_path / "nothing.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "notes.txt").write_text("good")
    draw(tmp_path / "aaaaaa.png")
    draw(tmp_path / "_1.png")
    (tmp_path / ".png").write_bytes(good.read_bytes())
    Image.new("1", (7000, 7000)).save(tmp_path / "large.png")
    samples, rejected = utils.find_images(tmp_path, time_steps=10)
    assert [sample.path for sample in samples] == [good]
    reasons = {path.name: reason for path, reason in rejected}
    expected = {
        "cut.png": "damaged",
        "nothing.png": "empty (0 bytes)",
        "text.png": "not an image",
        "notes.txt": "is not one of .png",
        "aaaaaa.png": "'aaaaaa' needs 11 time steps, the model has 10",
        "_1.png": "empty label",
        ".png": "empty label",
        "large.png": "too large",
    }
    assert list(reasons) == sorted(expected)
    assert all(expected[name] in reasons[name] for name in expected)
    summary = utils.describe(samples, rejected)
    assert all(f"{' ' * 17}{name} {reason}" in summary.splitlines() for name, reason in reasons.items())


def test_missing_folder_is_an_error_with_its_full_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path}/nowhere.*no such folder"):
        utils.find_images("nowhere")


def test_folder_without_usable_images_is_an_error_with_reasons(tmp_path):
    (tmp_path / "notes.txt").write_text("…")
    with pytest.raises(ValueError, match=rf"(?s)\.png, .*in {tmp_path}.*Found none.*\n  notes\.txt is not"):
        utils.find_images(tmp_path)


def test_summary_counts_sizes_lengths_characters_and_copies(tmp_path):
    draw(tmp_path / "ab.png")
    draw(tmp_path / "ab_1.png", shade=9)
    draw(tmp_path / "b.png", size=(30, 10))
    copies = sorted(
        ("ab.png", "ab_1.png"), key=lambda name: hashlib.sha256((tmp_path / name).read_bytes()).digest()
    )
    assert utils.describe(*utils.find_images(tmp_path)).splitlines() == [
        "images           3",
        "labels from      file names",
        "examples         ab.png → 'ab', ab_1.png → 'ab', b.png → 'b'",
        "label lengths    1 (1), 2 (2)",
        "image sizes      40×20 (2), 30×10 (1)",
        "characters       2 different: a (2), b (3)",
        "collect more of  a (2), b (3), at least 10 each",
        "copy numbers     removed from 1 file names, such as ab_1.png → 'ab'",
        f"copies           2 images in 1 groups, each kept in one split, such as {copies[0]} ('ab') and "
        f"{copies[1]} ('ab')",
        "skipped files    0",
    ]
    draw(tmp_path / "ab_2.png", shade=19)
    summary = utils.describe(*utils.find_images(tmp_path))
    assert "removed from 2 file names, such as ab_1.png → 'ab'" in summary
    assert "copy numbers" not in utils.describe(*utils.find_images(tmp_path, drop_copy_number=False))


def test_summary_of_many_sizes_and_skipped_files_is_short(tmp_path):
    for size in range(10, 17):
        draw(tmp_path / f"{size}.png", size=(size, 20))
    for number in range(130):
        (tmp_path / f"{number}.md").touch()
    lines = utils.describe(*utils.find_images(tmp_path)).splitlines()
    assert lines[4].startswith("image sizes") and lines[4].endswith(" and 2 more")
    assert "skipped files    130" in lines
    assert sum(" is not one of " in line for line in lines) == 100
    assert lines[-1].strip() == "and 30 more"


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
        image.resize((image.width // 2, image.height // 2)).save(path.with_stem(f"{path.stem}_1"))
    samples, _ = utils.find_images(image_folder)
    for seed, fold in [(seed, fold) for seed in range(4) for fold in range(min(folds, 1), folds + 1)]:
        splits = utils.split_data(samples, seed, fold=fold, folds=folds)
        labels = [{sample.label for sample in split} for split in splits]
        assert sum(map(len, labels)) == len(set.union(*labels)) == 30


def test_split_without_near_duplicates_ignores_groups(samples):
    assert [sample.group for sample in samples] == [sample.digest for sample in samples]
    ungrouped = [sample._replace(group="") for sample in samples]
    assert digests_of(utils.split_data(ungrouped, 3)) == digests_of(utils.split_data(samples, 3))


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
    summary = utils.describe(samples, rejected)
    head, _, line = summary.partition(
        "contradictions   1 groups of copies have different labels; check them\n"
    )
    line = line.splitlines()[0]
    assert "ab.png ('ab')" in line and "xy.png ('xy')" in line
    assert "kept in one split" not in summary


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
    size, warning = utils.describe_splits(training, validation, test).splitlines()
    assert size == "training 1, validation 1, test 2 images"
    assert warning.startswith("WARNING: some characters are in validation or test images")
    assert "'c' (2), 'd' (1)." in warning
    assert utils.describe_splits(training, training, training) == "training 1, validation 1, test 1 images"


def encoder(samples):
    return functools.partial(
        utils.encode_single_sample,
        alphabet=Alphabet.from_labels(sample.label for sample in samples),
        widths=[WIDTH],
        image_height=HEIGHT,
        max_label_length=7,
    )


def test_dataset_without_seed_has_every_image_once_in_order(samples):
    encode = encoder(samples)
    data = utils.get_data(samples, encode, batch_size=8)
    batches = list(data)
    assert len(data) == len(batches) == 4
    assert [len(label) for _, label in batches] == [8, 8, 8, 6]
    encoded = [encode(sample) for sample in samples]
    image, label = (np.concatenate([inputs[name] for inputs, _ in batches]) for name in ("image", "label"))
    assert (image.dtype, image.shape) == (np.uint8, (30, HEIGHT, WIDTH))
    assert (label.dtype, label.shape) == (np.int32, (30, 7))
    np.testing.assert_array_equal(image, [one["image"] for one in encoded])
    np.testing.assert_array_equal(label, [one["label"] for one in encoded])
    assert all(np.array_equal(inputs["label"], target) for inputs, target in batches)


def mixed(samples):
    """Returns samples whose images are cropped to different widths, and an encoder with three widths."""
    for number, sample in enumerate(samples):
        image = Image.open(sample.path)
        image.crop((0, 0, (60, 110, 200)[number % 7 % 3], 50)).save(sample.path)
    encode = encoder(samples)
    encode.keywords["widths"] = [WIDTH // 3, WIDTH * 2 // 3, WIDTH]
    return samples, encode


@pytest.mark.parametrize("seed", [None, 1])
def test_images_of_a_batch_have_one_width_and_none_is_lost(samples, seed):
    samples, encode = mixed(samples)
    batches = list(utils.get_data(samples, encode, 4, seed).take(2 * 9))
    expected = sorted((one["image"].tobytes(), one["label"].tobytes()) for one in map(encode, samples))
    sizes = Counter(one["image"].shape[1] for one in map(encode, samples))
    epoch = len(utils.batches_of_epoch(list(sizes.elements()), 4))
    assert epoch == sum(math.ceil(count / 4) for count in sizes.values()) == 9
    assert len(sizes) == 3 and len(batches) == (epoch if seed is None else 2 * epoch)
    for start in range(0, len(batches), epoch):
        found = []
        for inputs, label in batches[start : start + epoch]:
            found += [
                (one.tobytes(), two.tobytes())
                for one, two in zip(inputs["image"].numpy(), label.numpy(), strict=True)
            ]
        assert sorted(found) == expected
    widths = [inputs["image"].shape[2] for inputs, _ in batches]
    assert (widths == sorted(widths)) == (seed is None)


def test_images_of_different_widths_are_augmented_and_resumed(samples):
    samples, encode = mixed(samples)
    both = list(utils.get_data(samples, encode, 4, 3, 0, augmentation=1.0).take(18))
    resumed = list(utils.get_data(samples, encode, 4, 3, 1, augmentation=1.0).take(9))
    for (expected, _), (found, _) in zip(both[9:], resumed, strict=True):
        np.testing.assert_array_equal(found["image"], expected["image"])
    assert not any(
        np.array_equal(one["image"], two["image"]) for (one, _), (two, _) in zip(both, resumed, strict=False)
    )


def test_every_epoch_has_the_same_number_of_batches_in_another_order():
    widths = np.random.default_rng(0).choice([40, 80, 120], 1000, p=[0.1, 0.6, 0.3])
    epochs = [utils.batches_of_epoch(widths, 16, 7, epoch) for epoch in range(4)]
    for batches in epochs:
        assert len(batches) == len(epochs[0])
        assert sorted(np.concatenate(batches)) == list(range(1000))
        assert all(len(set(widths[batch])) == 1 for batch in batches)
    orders = [[int(widths[batch[0]]) for batch in batches] for batches in epochs]
    assert len(set(map(tuple, orders))) == 4
    assert all(
        a.tobytes() == b.tobytes()
        for a, b in zip(epochs[2], utils.batches_of_epoch(widths, 16, 7, 2), strict=True)
    )


def epochs_of(samples, number, first_epoch=0, augmentation=0.0, seed=5):
    data = utils.get_data(samples, encoder(samples), 8, seed, first_epoch, augmentation)
    batches = list(data.take(number * math.ceil(len(samples) / 8)))
    size = len(batches) // number
    return [batches[start : start + size] for start in range(0, len(batches), size)]


def labels_of(epoch):
    return np.concatenate([label for _, label in epoch])


def images_of(epoch):
    return np.concatenate([inputs["image"] for inputs, _ in epoch])


def test_dataset_has_every_image_once_per_epoch_in_a_new_order(samples):
    first, second = epochs_of(samples, 2)
    assert not np.array_equal(labels_of(first), labels_of(second))
    assert sorted(map(tuple, labels_of(first))) == sorted(map(tuple, labels_of(second)))
    assert sorted(map(tuple, labels_of(first))) == sorted(
        tuple(encoder(samples)(sample)["label"]) for sample in samples
    )


@pytest.mark.parametrize("augmentation", [0.0, 1.0])
def test_dataset_that_resumes_equals_an_uninterrupted_one(samples, augmentation):
    uninterrupted = epochs_of(samples, 3, augmentation=augmentation)
    resumed = epochs_of(samples, 2, first_epoch=1, augmentation=augmentation)
    for expected, found in zip(uninterrupted[1:], resumed, strict=True):
        np.testing.assert_array_equal(labels_of(expected), labels_of(found))
        np.testing.assert_array_equal(images_of(expected), images_of(found))


def test_dataset_is_augmented_differently_in_each_epoch(samples):
    encode = encoder(samples)
    plain = {tuple(one["label"]): one["image"] for one in map(encode, samples)}
    first, second = (
        dict(zip(map(tuple, labels_of(epoch)), images_of(epoch), strict=True))
        for epoch in epochs_of(samples, 2, augmentation=1.0)
    )
    for label, image in plain.items():
        assert not np.array_equal(first[label], second[label])
        # The centre of the ink stays within the bounds of the shift and some rotation.
        before, after = (
            np.average(np.arange(WIDTH), weights=np.clip(one.mean() - one, one.std(), None).sum(axis=0))
            for one in (image, first[label])
        )
        assert abs(before - after) < 0.12 * WIDTH


def write_labels(folder, text):
    (folder / "labels.csv").write_text(text, encoding="utf-8")


def test_labels_file_overrides_names_and_unlisted_files_are_skipped(tmp_path):
    for number, name in enumerate(["x1.png", "x2.png", "x3.png"]):
        draw(tmp_path / name, shade=number)
    write_labels(tmp_path, "file,text\nx2.png,AB 12/3\nx1.png,é\n")
    samples, rejected = utils.find_images(tmp_path)
    labels = {sample.path.name: sample.label for sample in samples}
    assert labels == {"x1.png": "é", "x2.png": "AB 12/3"}
    assert rejected == [utils.Rejected(tmp_path / "x3.png", "is not listed in labels.csv")]


def test_problems_in_the_labels_file_are_listed_by_line(tmp_path):
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png", shade=9)
    write_labels(tmp_path, "file,text\na.png,1\nmissing.png,2\na.png,3\nb.png,\n,4\n")
    samples, rejected = utils.find_images(tmp_path)
    assert [(sample.path.name, sample.label) for sample in samples] == [("a.png", "1")]
    assert [line.strip() for line in utils.describe(samples, rejected).splitlines()[-5:]] == [
        "labels.csv line 3 names missing.png, which is not in the folder",
        "labels.csv line 4 names a.png again; line 2 is used",
        "labels.csv line 5 has no text for b.png",
        "labels.csv line 6 names no file",
        "b.png is not listed in labels.csv",
    ]


@pytest.mark.parametrize("character", ["\u200b", "\ufeff", "\u200e", "\u00ad"])
def test_label_with_an_invisible_character_is_refused(tmp_path, character):
    for number, text in enumerate((f"1{character}2", "ne\u200cm", "3")):
        draw(tmp_path / f"{text}.png", shade=number)
    samples, ((_, reason),) = utils.find_images(tmp_path)
    assert [sample.label for sample in samples] == ["3", "ne\u200cm"]
    assert f"invisible character, {character!a}" in reason


@pytest.mark.parametrize("name", ["1 (2)", "1 - Copy", "1 - Kopie (2)", "1 copy", "1 copy 3"])
def test_name_of_a_copy_is_a_label_only_in_a_label_file(tmp_path, name):
    draw(tmp_path / f"{name}.png")
    draw(tmp_path / "(2).png", shade=9)
    samples, ((_, reason),) = utils.find_images(tmp_path)
    assert [sample.label for sample in samples] == ["(2)"]
    assert reason.startswith("has a name that a program gives to a copy (")
    write_labels(tmp_path, f"file,text\n{name}.png,{name}\n")
    assert [sample.label for sample in utils.find_images(tmp_path)[0]] == [name]


def test_error_names_the_line_before_the_images_it_leaves_unlisted(tmp_path):
    for number in range(20):
        draw(tmp_path / f"{number}.png")
    write_labels(tmp_path, "file,text\nphotos/1.png,1\n")
    expected = r"can be used\.\n  labels\.csv line 2 names photos/1\.png, .*\n  0\.png is not listed"
    with pytest.raises(ValueError, match=expected):
        utils.find_images(tmp_path)


def test_summary_names_the_labels_source_and_no_copies(tmp_path):
    draw(tmp_path / "x_1.png")
    draw(tmp_path / "y.png", shade=9)
    (tmp_path / "metadata.csv").write_text("file_name,text\nx_1.png,x\n")
    lines = utils.describe(*utils.find_images(tmp_path)).splitlines()
    assert lines[1] == "labels from      metadata.csv (file_name, text)"
    assert lines[-2:] == ["skipped files    1", f"{' ' * 17}y.png is not listed in metadata.csv"]
    assert not any("copy numbers" in line for line in lines)


def test_skipped_files_are_named_relative_to_the_folder(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        draw(tmp_path / name / "1.png")
        (tmp_path / name / "1.png").rename(tmp_path / name / f"{name}.png")
        (tmp_path / name / "notes.md").touch()
    draw(tmp_path / "c.png", shade=9)
    lines = utils.describe(*utils.find_images(tmp_path)).splitlines()
    assert "  a/notes.md is not one of" in lines[-3] and "  b/notes.md is not one of" in lines[-1]
    assert f"{' ' * 17}a/a.png is byte-identical to b/b.png, which has a different label" in lines


def test_camera_names_next_to_a_table_are_not_learnt(tmp_path):
    for number in range(4):
        draw(tmp_path / f"IMG_{number:04}.png", shade=number)
    with pytest.raises(ValueError, match="names that a camera or a program gave.*IMG_0000.png → 'IMG'"):
        utils.find_images(tmp_path)
    rows = "".join(f"IMG_{number:04}.png,04{number}7\n" for number in range(4))
    (tmp_path / "metadata.csv").write_text(f"file_name,text\n{rows}")
    assert [sample.label for sample in utils.find_images(tmp_path)[0]] == ["0407", "0417", "0427", "0437"]


def test_tables_next_to_a_labels_file_are_listed_as_skipped(tmp_path):
    draw(tmp_path / "a.png")
    write_labels(tmp_path, "file,text\na.png,1\n")
    (tmp_path / "old.csv").write_text("whatever")
    samples, rejected = utils.find_images(tmp_path)
    assert [sample.label for sample in samples] == ["1"]
    assert rejected == [(tmp_path / "old.csv", "is not used, because there is a labels.csv")]


def test_labels_file_lists_subfolders_but_nothing_outside(tmp_path):
    (tmp_path / "below").mkdir()
    draw(tmp_path / "below" / unicodedata.normalize("NFD", "é.png"))
    write_labels(tmp_path, f"file,text\nbelow/é.png,1\n../x.png,2\n{'y' * 300}.png,3\n")
    samples, rejected = utils.find_images(tmp_path)
    assert [sample.label for sample in samples] == ["1"]
    assert [reason for _, reason in rejected] == [
        f"line {line} names {name}, which is not in the folder"
        for line, name in [(3, "../x.png"), (4, f"{'y' * 300}.png")]
    ]


def test_identical_images_with_different_labels_are_skipped(tmp_path):
    draw(tmp_path / "good.png", shade=9)
    one = draw(tmp_path / "one.png")
    for name in ("two.png", "one_1.png"):
        shutil.copy(one, tmp_path / name)
    samples, rejected = utils.find_images(tmp_path)
    assert [sample.path.name for sample in samples] == ["good.png"]
    reasons = {path.name: reason for path, reason in rejected}
    assert reasons["two.png"] == "is byte-identical to one.png, which has a different label"
    assert set(reasons) == {"one.png", "one_1.png", "two.png"}


def test_special_files_in_a_folder_are_listed_and_skipped(tmp_path):
    good = draw(tmp_path / "good.png", shade=9)
    draw(tmp_path / "a\nb.png")
    shutil.copy(good, os.fsencode(tmp_path) + b"/caf\xe9.png")
    (tmp_path / ".hidden").mkdir()
    draw(tmp_path / ".hidden" / "hidden.png")
    (tmp_path / "linked").symlink_to(tmp_path)
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    samples, rejected = utils.find_images(tmp_path)
    assert [sample.path for sample in samples] == [good]
    summary = utils.describe(samples, rejected)
    for line in [
        "b.png has a label with a control character: 'a\\nb'",
        "caf\\xe9.png has a name that is not UTF-8",
        "linked is a folder that was not searched, because it is a link",
        "gone.png cannot be read: No such file or directory",
        "pipe.png is not a regular file",
        "skipped files    5",
    ]:
        assert line in summary
    summary.encode()
