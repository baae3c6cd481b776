import functools
import math
import os
import re
import shutil

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


def encoder(samples):
    return functools.partial(
        utils.encode_single_sample,
        alphabet=Alphabet.from_labels(sample.label for sample in samples),
        image_width=WIDTH,
        image_height=HEIGHT,
        max_label_length=7,
    )


def test_every_supported_ending_is_found_in_any_letter_case_and_in_subfolders(tmp_path):
    (tmp_path / "below").mkdir()
    names = [
        "a.png",
        "b.PNG",
        "c.jpg",
        "d.JPEG",
        "e.bmp",
        "below/f.Jpg",
        "g.gif",
        "h.webp",
        "i.tif",
        "j.TIFF",
    ]
    for shade, name in enumerate(names):
        draw(tmp_path / name, shade)
    samples, rejected = utils.find_images(tmp_path)
    assert "".join(sorted(sample.label for sample in samples)) == "abcdefghij"
    assert all(sample.size == (40, 20) for sample in samples)
    assert rejected == []


def test_what_cannot_be_used_is_listed_with_its_reason_and_the_rest_is_used(tmp_path):
    good = draw(tmp_path / "good.png")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:60])
    (tmp_path / "nothing.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "labels.txt").write_text("good")
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
        "labels.txt": "is not one of .png",
        "aaaaaa.png": "'aaaaaa' needs 11 time steps, the model has 10",
        "_1.png": "empty label",
        ".png": "empty label",
        "large.png": "too large",
    }
    assert set(reasons) == set(expected)
    assert all(expected[name] in reasons[name] for name in expected)
    summary = utils.describe(samples, rejected)
    assert all(f"{name} {reason}" in summary for name, reason in reasons.items())


def test_folder_that_is_not_there_is_named_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path}/nowhere.*no such folder"):
        utils.find_images("nowhere")


def test_folder_without_a_usable_image_tells_what_was_found(tmp_path):
    (tmp_path / "notes.txt").write_text("…")
    with pytest.raises(ValueError, match=rf"(?s)\.png, .*in {tmp_path}.*Found 1 file.*notes\.txt"):
        utils.find_images(tmp_path)


def test_summary_counts_sizes_lengths_characters_and_shortened_names(tmp_path):
    draw(tmp_path / "ab.png")
    draw(tmp_path / "ab_1.png", shade=9)
    draw(tmp_path / "b.png", size=(30, 10))
    summary = utils.describe(*utils.find_images(tmp_path))
    assert "images: 3" in summary
    assert "sizes: 40×20 (2), 30×10 (1)" in summary
    assert "label lengths: 1 (1), 2 (2)" in summary
    assert "2 different: a (2), b (3)" in summary
    assert "fewer than 10 times: a b" in summary
    assert "copy number: 1, for example ab_1.png is read as 'ab'" in summary


def test_summary_of_very_many_useless_files_stays_short(tmp_path):
    draw(tmp_path / "good.png")
    for number in range(130):
        (tmp_path / f"{number}.txt").touch()
    lines = utils.describe(*utils.find_images(tmp_path)).splitlines()
    assert "left out: 130" in lines
    assert sum(" is not one of " in line for line in lines) == 100
    assert lines[-1] == "  and 30 more"


def test_splits_are_disjoint_complete_and_of_the_shares_asked_for(samples):
    splits = utils.split_data(samples, seed=1, validation_share=0.2, test_share=0.1)
    assert [len(split) for split in splits] == [21, 6, 3]
    assert sorted(sample.path for split in splits for sample in split) == [sample.path for sample in samples]


def test_split_does_not_depend_on_the_names_of_the_files(samples):
    names = [f"{number:02}.png" for number in range(len(samples), 0, -1)]
    renamed = [
        sample._replace(path=sample.path.with_name(name)) for sample, name in zip(samples, names, strict=True)
    ]
    for split, again in zip(utils.split_data(samples, 5), utils.split_data(renamed, 5), strict=True):
        assert [sample.digest for sample in split] == [sample.digest for sample in again]


def test_split_depends_on_the_seed_and_not_on_the_order_of_files(samples):
    assert utils.split_data(samples, 1) == utils.split_data(samples[::-1], 1)
    assert utils.split_data(samples, 1) != utils.split_data(samples, 2)


def test_split_depends_on_the_images_and_not_on_where_they_are(samples, tmp_path):
    moved = [
        sample._replace(path=tmp_path / f"{-number}") for number, sample in enumerate(samples, start=100)
    ]
    before, after = (utils.split_data(some, seed=3) for some in (samples, moved))
    assert [[sample.digest for sample in split] for split in before] == [
        [sample.digest for sample in split] for split in after
    ]


def test_split_is_not_alphabetical(samples):
    training, _, _ = utils.split_data(samples, 0)
    labels = [sample.label for sample in training]
    assert labels != sorted(labels)


def test_byte_identical_images_stay_on_one_side(image_folder):
    for path in list(image_folder.iterdir()):
        shutil.copy(path, path.with_name(f"{path.stem}_1.png"))
    samples, _ = utils.find_images(image_folder)
    for seed in range(20):
        splits = utils.split_data(samples, seed)
        digests = [{sample.digest for sample in split} for split in splits]
        assert sum(map(len, digests)) == len(set.union(*digests)) == 30


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_images_for_three_splits_are_refused(samples, count):
    nothing = {1: "validation and training", 2: "training"}[count]
    expected = f"3 at the least. Found {count} among {count} files, which leaves nothing for {nothing}."
    with pytest.raises(ValueError, match=re.escape(expected)):
        utils.split_data(samples[:count], 0)


def test_three_images_make_three_splits(samples):
    assert [len(split) for split in utils.split_data(samples[:3], 0)] == [1, 1, 1]


def test_folds_test_every_image_once_and_training_never_sees_its_test(samples):
    tested = []
    for fold in range(1, 5):
        training, validation, test = utils.split_data(samples, 1, validation_share=0.2, fold=fold, folds=4)
        assert sorted(training + validation + test) == sorted(samples)
        assert len(validation) == round(0.2 * len(samples))
        assert abs(len(test) - len(samples) / 4) < 1
        tested += test
    assert sorted(tested) == sorted(samples)


def test_byte_identical_images_stay_in_one_fold(image_folder):
    for path in sorted(image_folder.iterdir()):
        shutil.copy(path, path.with_stem(f"{path.stem}_1"))
    samples, _ = utils.find_images(image_folder)
    for fold in (1, 2, 3):
        splits = utils.split_data(samples, 0, fold=fold, folds=3)
        digests = [{sample.digest for sample in split} for split in splits]
        assert sum(map(len, digests)) == len(set.union(*digests)) == 30


def test_more_folds_than_images_are_refused(samples):
    with pytest.raises(ValueError, match=r"10 at the least\. Found 4 among 4 files.*nothing for test"):
        utils.split_data(samples[:4], 0, fold=10, folds=10)


def test_characters_that_no_training_image_shows_are_told(samples):
    labelled = [
        [samples[0]._replace(label=label) for label in labels] for labels in (["aab"], ["bcc"], ["ca", "d"])
    ]
    assert utils.describe_splits(*labelled).splitlines()[0] == "training 1, validation 1, test 2 images"
    assert "'c' (2), 'd' (1)." in utils.describe_splits(*labelled)
    assert "WARNING" not in utils.describe_splits(labelled[0], labelled[0], labelled[0])


def test_set_without_a_seed_gives_every_image_once_in_order(samples):
    encode = encoder(samples)
    data = utils.get_data(samples, encode, batch_size=8)
    batches = list(data)
    assert len(data) == len(batches) == 4
    assert [len(label) for _, label in batches] == [8, 8, 8, 6]
    for name, dtype, shape in [("image", np.float32, (WIDTH, HEIGHT, 1)), ("label", np.int32, (7,))]:
        found = np.concatenate([inputs[name] for inputs, _ in batches])
        assert (found.dtype, found.shape) == (dtype, (30, *shape))
        np.testing.assert_array_equal(found, np.stack([encode(sample)[name] for sample in samples]))
    assert all(np.array_equal(inputs["label"], label) for inputs, label in batches)


def epochs_of(samples, number, first_epoch=0, augmentation=0.0, seed=5):
    data = utils.get_data(samples, encoder(samples), 8, seed, first_epoch, augmentation)
    batches = list(data.take(number * math.ceil(len(samples) / 8)))
    size = len(batches) // number
    return [batches[start : start + size] for start in range(0, len(batches), size)]


def labels_of(epoch):
    return np.concatenate([label for _, label in epoch])


def images_of(epoch):
    return np.concatenate([inputs["image"] for inputs, _ in epoch])


def test_every_epoch_has_every_image_once_in_an_order_of_its_own(samples):
    first, second = epochs_of(samples, 2)
    assert not np.array_equal(labels_of(first), labels_of(second))
    assert sorted(map(tuple, labels_of(first))) == sorted(map(tuple, labels_of(second)))


@pytest.mark.parametrize("augmentation", [0.0, 1.0])
def test_training_that_goes_on_sees_what_it_would_have_seen(samples, augmentation):
    whole = epochs_of(samples, 3, augmentation=augmentation)
    rest = epochs_of(samples, 2, first_epoch=1, augmentation=augmentation)
    for expected, found in zip(whole[1:], rest, strict=True):
        np.testing.assert_array_equal(labels_of(expected), labels_of(found))
        np.testing.assert_array_equal(images_of(expected), images_of(found))


def test_augmentation_is_new_in_every_epoch_and_mild(samples):
    encode = encoder(samples)
    plain = {tuple(encode(sample)["label"]): encode(sample)["image"] for sample in samples}
    first, second = (
        dict(zip(map(tuple, labels_of(epoch)), images_of(epoch), strict=True))
        for epoch in epochs_of(samples, 2, augmentation=1.0)
    )
    for label, image in plain.items():
        assert not np.array_equal(first[label], second[label])
        # The ink keeps its place to within the bounds of the shift and some turning.
        middle = [
            np.average(np.arange(WIDTH), weights=np.clip(i, 1, None)[:, :, 0].sum(1))
            for i in (image, first[label])
        ]
        assert abs(middle[0] - middle[1]) < 0.12 * WIDTH


def write_labels(folder, text, **options):
    (folder / "labels.csv").write_bytes(text.encode(**options))


def test_labels_file_wins_over_names_and_files_it_does_not_list_are_left_out(tmp_path):
    for number, name in enumerate(["x1.png", "x2.png", "x3.png"]):
        draw(tmp_path / name, shade=number)
    write_labels(tmp_path, "file,text\nx2.png,AB 12/3\nx1.png,é\n")
    samples, rejected = utils.find_images(tmp_path)
    assert [(sample.path.name, sample.label) for sample in samples] == [
        ("x1.png", "é"),
        ("x2.png", "AB 12/3"),
    ]
    assert rejected == [utils.Rejected(tmp_path / "x3.png", "is not listed in labels.csv")]


def test_errors_of_the_labels_file_are_reported_by_line_and_cost_no_other(tmp_path):
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png", shade=9)
    write_labels(tmp_path, "file,text\na.png,1\nmissing.png,2\na.png,3\nb.png,\n,4\n")
    samples, rejected = utils.find_images(tmp_path)
    assert [(sample.path.name, sample.label) for sample in samples] == [("a.png", "1")]
    summary = utils.describe(samples, rejected)
    for line in [
        "labels.csv line 3 names missing.png, which is not in the folder",
        "labels.csv line 4 names a.png again, after line 2; the first is used",
        "labels.csv line 5 has no text for b.png",
        "labels.csv line 6 names no file",
        "b.png is not listed in labels.csv",
    ]:
        assert line in summary


def test_same_picture_under_two_labels_is_reported_and_left_out(tmp_path):
    draw(tmp_path / "good.png", shade=9)
    one = draw(tmp_path / "one.png")
    for name in ("two.png", "one_1.png"):
        shutil.copy(one, tmp_path / name)
    samples, rejected = utils.find_images(tmp_path)
    assert [sample.path.name for sample in samples] == ["good.png"]
    reasons = {path.name: reason for path, reason in rejected}
    assert reasons["two.png"] == "is the very picture of one.png, which has another label"
    assert set(reasons) == {"one.png", "one_1.png", "two.png"}


def test_odd_entries_of_a_folder_are_listed_and_cost_no_other(tmp_path):
    good = draw(tmp_path / "good.png", shade=9)
    draw(tmp_path / "a\nb.png")
    shutil.copy(good, os.fsencode(tmp_path) + b"/caf\xe9.png")
    (tmp_path / "linked").symlink_to(tmp_path)
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    samples, rejected = utils.find_images(tmp_path)
    assert [sample.path for sample in samples] == [good]
    summary = utils.describe(samples, rejected)
    for line in [
        "b.png has a label with a control character: 'a\\nb'",
        "caf\\xe9.png has a name that is not UTF-8",
        "linked is a folder that is not entered",
        "gone.png cannot be read: No such file or directory",
        "pipe.png is not a regular file",
    ]:
        assert line in summary
    summary.encode()


def test_labels_file_reaches_into_subfolders_and_reports_what_is_not_below(tmp_path):
    (tmp_path / "below").mkdir()
    draw(tmp_path / "below" / "e\u0301.png")
    write_labels(tmp_path, "file,text\nbelow/é.png,1\n../x.png,2\n" + "y" * 300 + ".png,3\n")
    samples, rejected = utils.find_images(tmp_path)
    assert [sample.label for sample in samples] == ["1"]
    assert [reason[:30] for _, reason in rejected] == [
        "line 3 names ../x.png, which i",
        "line 4 names " + "y" * 17,
    ]
