"""Images without text: their labels, their splits and their readings."""

import io
import json

import numpy as np
import pytest
from PIL import Image

import utils
from examples import draw
from snippet_ocr import Reading
from snippet_ocr.output import Layout, finished_files, write_csv, write_json, write_lines
from training import labels, summary

ROWS = [{"file": "0.png", "text": "1"}, {"file": "1.png", "text": "2"}]
READINGS = [("a.png", Reading("", 0.98)), ("b.png", Reading("12", 0.5)), ("c.png", Reading("", 0.4))]


def folder_of(folder, texts, name="labels.csv"):
    """Draws an image for each text, with a table of labels; returns the folder."""
    for number in range(len(texts)):
        draw(folder / f"{number}.png", shade=number)
    (folder / name).write_text("\n".join(["file,text", *(f"{n}.png,{text}" for n, text in enumerate(texts))]))
    return folder


def labels_of(folder, **options):
    samples, rejected = utils.find_images(folder, **options)
    return [sample.label for sample in samples], [reason for _, reason in rejected]


def test_empty_text_is_a_label_only_if_it_is_allowed(tmp_path):
    folder_of(tmp_path, ["12", "", "34", '""'])
    found, reasons = labels_of(tmp_path)
    assert found == ["12", "34"]
    assert "line 3 has no text for 1.png; if the image shows none, set allow_empty" in reasons
    assert labels_of(tmp_path, allow_empty=True) == (["12", "", "34", ""], [])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.csv", "file,text\n0.png,1\n1.png,2\n2.png\n"),
        ("labels.json", json.dumps([*ROWS, {"file": "2.png"}])),
        ("labels.jsonl", "\n".join(map(json.dumps, [*ROWS, {"file": "2.png", "text": None}]))),
    ],
)
def test_missing_text_is_never_an_empty_label(tmp_path, name, content):
    folder_of(tmp_path, ["1", "2", ""], name)
    (tmp_path / "labels.csv").unlink(missing_ok=True)
    (tmp_path / name).write_text(content)
    found, reasons = labels_of(tmp_path, allow_empty=True)
    assert found == ["1", "2"]
    assert any("has no text for 2.png" in reason for reason in reasons)


def test_file_name_without_text_is_no_empty_label(tmp_path):
    draw(tmp_path / "ab.png")
    draw(tmp_path / "_1.png", shade=5)
    found, (reason,) = labels_of(tmp_path, allow_empty=True)
    assert found == ["ab"]
    assert reason == "has an empty label: its name contains no text"


def test_unfinished_table_is_an_error_even_if_empty_texts_are_allowed(tmp_path):
    folder_of(tmp_path, ["12", "34", "", "", ""])
    message = (
        r"at least half .*Found 3 of 5 without one in labels\.csv\. If .* unfinished, .* allow_empty to false"
    )
    with pytest.raises(ValueError, match=message):
        utils.find_images(tmp_path, allow_empty=True)
    folder_of(tmp_path, ["12", "34", "", ""])
    assert len(labels_of(tmp_path, allow_empty=True)[0]) == 4


def test_empty_labels_do_not_hide_equal_texts(tmp_path):
    folder_of(tmp_path, ["12", "12", "12", ""])
    with pytest.raises(ValueError, match="Found 1 in the 3 labels"):
        utils.find_images(tmp_path, allow_empty=True)


def test_summary_counts_images_without_text(tmp_path):
    found = utils.find_images(folder_of(tmp_path, ["12", "34", ""]), allow_empty=True)
    assert "no text          1 images, because" in summary.describe(*found)
    found = utils.find_images(tmp_path)
    assert "no text  " not in summary.describe(*found)


def test_images_without_text_that_look_alike_are_divided_among_the_splits(tmp_path):
    folder_of(tmp_path, [*map(str, range(20)), *[""] * 20])
    for number in range(40):
        pixels = np.random.default_rng(number).integers(196, 204, (20, 40))
        if number < 20:
            pixels[5:15, number : number + 8] = 0
        Image.fromarray(pixels.astype("uint8")).save(tmp_path / f"{number}.png")
    samples, _ = utils.find_images(tmp_path, allow_empty=True)
    splits = utils.split_data(samples, 0, 0.25, 0.25)
    assert all(0 < sum(not sample.label for sample in split) < 20 for split in splits)


def test_table_from_file_names_has_no_empty_texts(tmp_path):
    draw(tmp_path / "ab.png")
    draw(tmp_path / "_1.png")
    assert labels.main([str(tmp_path)]) == 0
    assert (tmp_path / "labels.csv").read_text().split() == ["file,text", "ab.png,ab"]


def test_empty_texts_are_written_in_every_format(tmp_path):
    lines, table, objects = io.StringIO(), io.StringIO(newline=""), io.StringIO()
    write_lines(READINGS, Layout(), lines)
    assert lines.getvalue().split("\n") == ["a.png\t\t0.98", "b.png\t12\t0.5", "c.png\t\t0.4", ""]
    write_json(READINGS, Layout(), objects)
    assert [row["text"] for row in map(json.loads, objects.getvalue().splitlines())] == ["", "12", ""]
    write_csv(READINGS, Layout(min_confidence=0.9), table)
    assert table.getvalue().split("\r\n")[1:] == [
        "a.png,,0.98,",
        "b.png,12,0.5,needs review",
        "c.png,,0.4,needs review",
        "",
    ]
    path = tmp_path / "readings.csv"
    path.write_text(table.getvalue() + "d.png,", newline="")
    assert finished_files(path, Layout(min_confidence=0.9)) == {"a.png", "b.png", "c.png"}
