import hashlib
import os
import shutil
import unicodedata

import pytest
from PIL import Image

import utils
from examples import draw
from training import summary


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
    text = summary.describe(samples, rejected)
    assert all(f"{' ' * 17}{name} {reason}" in text.splitlines() for name, reason in reasons.items())


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
    assert summary.describe(*utils.find_images(tmp_path)).splitlines() == [
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
    text = summary.describe(*utils.find_images(tmp_path))
    assert "removed from 2 file names, such as ab_1.png → 'ab'" in text
    assert "copy numbers" not in summary.describe(*utils.find_images(tmp_path, drop_copy_number=False))


def test_summary_of_many_sizes_and_skipped_files_is_short(tmp_path):
    for size in range(10, 17):
        draw(tmp_path / f"{size}.png", size=(size, 20))
    for number in range(130):
        (tmp_path / f"{number}.md").touch()
    lines = summary.describe(*utils.find_images(tmp_path)).splitlines()
    assert lines[4].startswith("image sizes") and lines[4].endswith(" and 2 more")
    assert "skipped files    130" in lines
    assert sum(" is not one of " in line for line in lines) == 100
    assert lines[-1].strip() == "and 30 more"


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
    assert [line.strip() for line in summary.describe(samples, rejected).splitlines()[-5:]] == [
        "labels.csv line 3 names missing.png, which is not in the folder",
        "labels.csv line 4 names a.png again; line 2 is used",
        "labels.csv line 5 has no text for b.png; if the image shows none, set allow_empty",
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
    lines = summary.describe(*utils.find_images(tmp_path)).splitlines()
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
    lines = summary.describe(*utils.find_images(tmp_path)).splitlines()
    assert "  a/notes.md is not one of" in lines[-3] and "  b/notes.md is not one of" in lines[-1]
    assert f"{' ' * 17}a/a.png is byte-identical to b/b.png, which has a different label" in lines


def test_camera_names_next_to_a_table_are_not_learned(tmp_path):
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
    text = summary.describe(samples, rejected)
    for line in [
        "b.png has a label with a control character: 'a\\nb'",
        "caf\\xe9.png has a name that is not UTF-8",
        "linked is a folder that was not searched, because it is a link",
        "gone.png cannot be read: No such file or directory",
        "pipe.png is not a regular file",
        "skipped files    5",
    ]:
        assert line in text
    text.encode()
