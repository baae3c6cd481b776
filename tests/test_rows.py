"""Two rows of text: their labels, the size of their images, and the order in which they are read."""

import csv
import io
import json
from pathlib import Path

import keras
import numpy as np
import openpyxl
import pytest

import utils
from examples import draw
from snippet_ocr import Reader, Reading
from snippet_ocr.alphabet import Alphabet, reorder
from snippet_ocr.output import Layout, finished_files, write_csv, write_json, write_lines
from tools.notebook import load_build_model
from training import ctc_plots, image_size, plots, summary, transfer
from training.export import export
from training.labels import MAX_ROWS, steps_needed

ALPHABET = Alphabet("ab\n")


def samples_of(labels, sizes=((100, 50),)):
    pairs = zip(labels, [*sizes] * len(labels), strict=False)
    return [utils.Sample(Path("x"), label, size, "") for label, size in pairs]


def labels_of(folder, **options):
    samples, rejected = utils.find_images(folder, **options)
    return {sample.path.name: sample.label for sample in samples}, [reason for _, reason in rejected]


@pytest.fixture(scope="module")
def model():
    """An untrained reading model of two rows that reads something."""
    keras.utils.set_random_seed(1)
    training_model = load_build_model()(48, 5, ALPHABET.number_of_classes, 0.1, rows=2)
    head = training_model.get_layer("logits")
    head.bias.assign(np.zeros(head.bias.shape))
    return keras.Model(training_model.inputs[0], head.output)


@pytest.mark.parametrize(("rows", "height"), [(2, 48), (3, 48), (4, 64)])
def test_columns_of_each_row_follow_those_of_the_row_above(rows, height):
    model = load_build_model()(height, 5, 4, 0.1, rows=rows)
    features = [
        layer for layer in model.layers if len(layer.output.shape) == 4 and "activation" in layer.name
    ]
    outputs = [features[-1].output, model.get_layer("columns").output]
    image = np.random.default_rng(0).integers(0, 256, (2, height, 80)).astype("uint8")
    found, columns = keras.Model(model.inputs[0], outputs).predict_on_batch(image)
    assert found.shape == (2, 20, height // 4, 64)  # (batch, width, height, features)
    expected = []
    for row in range(rows):
        for column in range(20):
            band = found[:, column, row * height // 4 // rows : (row + 1) * height // 4 // rows]
            expected.append(band.reshape(2, -1))
    np.testing.assert_array_equal(columns, np.stack(expected, axis=1))


def test_one_row_adds_no_layer():
    layers = load_build_model()(48, 5, 4, 0.1).layers
    assert [type(layer).__name__ for layer in layers].count("Permute") == 1
    assert [type(layer).__name__ for layer in layers].count("Reshape") == 2


def test_reader_of_two_rows_is_saved_exported_and_has_the_steps_of_both(model, tmp_path):
    Reader(model, ALPHABET, [80]).save(tmp_path / "reader.keras")
    reader = Reader.load(tmp_path / "reader.keras")
    assert reader.time_steps == 2 * 80 // 4
    images = list(np.random.default_rng(0).integers(0, 256, (3, 48, 80)).astype("uint8"))
    assert export(reader, tmp_path / "reader.onnx", images) < 1e-4
    texts = [reading.text for reading in reader.read(images)]
    assert [one.text for one in Reader.load(tmp_path / "reader.onnx").read(images)] == texts


def test_rows_are_drawn_next_to_each_other_below_their_steps(model):
    image = np.random.default_rng(0).integers(0, 256, (48, 80)).astype("uint8")
    figure = ctc_plots.reading(Reader(model, ALPHABET, [80]), image, rows=2)
    shown = figure.axes[0].images[0]
    np.testing.assert_array_equal(shown.get_array(), np.hstack([image[:24], image[24:]]))
    assert shown.get_extent()[:2] == [-0.5, 39.5]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.csv", 'file,text\na.png,"AB\n12"\nb.png,"CD \r\n\r\n 34\r\n"\n'),
        ("labels.tsv", 'file\ttext\na.png\t"AB\n12"\nb.png\t"CD\r34"\n'),
        ("labels.jsonl", '{"file": "a.png", "text": "AB\\n12"}\n{"file": "b.png", "text": "CD\\r\\n34"}'),
    ],
)
def test_label_holds_a_line_break(tmp_path, name, content):
    for number, image in enumerate(("a.png", "b.png")):
        draw(tmp_path / image, number)
    (tmp_path / name).write_text(content, newline="")
    assert labels_of(tmp_path) == ({"a.png": "AB\n12", "b.png": "CD\n34"}, [])


def test_line_breaks_of_excel_and_of_text_files_are_read(tmp_path):
    book = openpyxl.Workbook()
    for row in (["file", "text"], ["a.png", "AB\n12"]):
        book.active.append(row)
    book.save(tmp_path / "labels.xlsx")
    draw(tmp_path / "a.png")
    assert labels_of(tmp_path)[0] == {"a.png": "AB\n12"}
    (tmp_path / "labels.xlsx").unlink()
    (tmp_path / "a.gt.txt").write_text("AB\n12\n")
    assert labels_of(tmp_path)[0] == {"a.png": "AB\n12"}


def test_label_of_too_many_lines_is_rejected(tmp_path):
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png", shade=9)
    rows = [{"file": "a.png", "text": "\n".join("abcde")}, {"file": "b.png", "text": "\n".join("abcd")}]
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found, reasons = labels_of(tmp_path)
    assert found == {"b.png": "a\nb\nc\nd"}
    assert reasons == [f"has a label of 5 lines; crop the image to at most {MAX_ROWS} rows of text"]


@pytest.mark.parametrize(
    ("label", "steps"), [("", 0), ("aab", 4), ("ab\n12", 3), ("a\n1122", 7), ("aab\n1", 5), ("ab\n\n", 3)]
)
def test_steps_are_those_of_the_longest_row_and_the_line_break(label, steps):
    assert steps_needed(label) == steps


def test_rows_follow_the_line_breaks_or_the_setting():
    def choose(labels, rows=0, sizes=((100, 50),)):
        return image_size.choose_rows(samples_of(labels, sizes), rows)

    assert choose(["ab", "cd"]) == (1, "rows of text in an image: 1 (no label has a line break)")
    assert choose(["ab", "c\nd"]) == (2, "rows of text in an image: 2 (1 of 2 labels have line breaks)")
    assert choose(["a\nb\nc", "c\nd"])[0] == 3
    assert "WARNING" not in choose(["ab"] * 19 + ["a\nb"])[1]
    found = choose(["ab"] * 20 + ["a\nb"])[1]
    assert "(1 of 21 labels have line breaks, such as that of x. WARNING: " in found
    assert "WARNING" not in choose(["ab"] * 20 + ["a\nb"], 2)[1]
    assert choose(["abcd"], 2) == (2, "rows of text in an image: 2 (set by rows)")
    assert choose(["ab\ncd", "ab"], 3)[0] == 3
    with pytest.raises(ValueError, match=r"at most 1 lines \(rows\).*Found 2 in the label of x: 'c\\nd'"):
        choose(["ab", "c\nd"], 1)


def test_narrow_images_without_line_breaks_get_advice():
    for size, advised in (((60, 50), True), ((200, 50), False)):
        rows, message = image_size.choose_rows(samples_of(["ABC123", "AB1234", "1"], [size]))
        assert rows == 1
        assert ("set rows to 2" in message) == advised
    assert "set rows" not in image_size.choose_rows(samples_of(["1", ""], [(10, 50)]))[1]


@pytest.mark.parametrize(
    ("size", "label", "expected"),
    [
        ((200, 102), "12345\n67890", (200, 104)),  # a row has 51 pixels: the nearest multiple of 4
        ((1200, 128), "12345" * 8, (640, 72)),  # the maximum width, with about the same proportions
        ((1600, 800), "12345" * 3 + "\n1", (256, 128)),  # a row has at most 64 pixels
        ((48, 24), "12\n34", (96, 48)),
        ((30, 120), "abcdefghij\n1", (44, 120)),  # ten characters and a line break in the longest row
    ],
)
def test_size_of_two_rows_follows_a_row_within_bounds(size, label, expected):
    (width,), height, _ = image_size.choose_size(samples_of([label] * 5, [size]), rows=2)
    assert (width, height) == expected
    assert 2 * (width // image_size.STEP_WIDTH) >= len(label)


def test_sizes_of_different_images_with_two_rows_have_steps_for_each_label():
    generator = np.random.default_rng(0)
    labels = ["ab" * int(length) + "\n12" for length in generator.integers(1, 9, 200)]
    sizes = [(int(width), 90) for width in generator.integers(60, 300, 200)]
    widths, height, _ = image_size.choose_size(samples_of(labels, sizes), rows=2)
    assert len(widths) > 1 and height == 88
    assert widths[-1] >= 4 * max(map(steps_needed, labels))


def test_height_that_is_set_must_be_a_multiple_for_the_rows():
    samples = samples_of(["ab\ncd"] * 3)
    assert image_size.choose_size(samples, 80, 48, rows=2)[:2] == ([80], 48)
    assert image_size.choose_size(samples, 0, 48, rows=2)[:2] == ([96], 48)
    with pytest.raises(ValueError, match=r"multiple of 8 for 2 rows, or 0\. Received: 50"):
        image_size.choose_size(samples, 0, 50, rows=2)


def test_base_reader_of_one_row_starts_a_training_of_two():
    one, two = (
        load_build_model()(32 * rows, 5, ALPHABET.number_of_classes, 0.1, rows=rows) for rows in (1, 2)
    )
    base = Reader(keras.Model(one.inputs[0], one.get_layer("logits").output), ALPHABET, [80])
    transfer.copy_weights(base, two, ALPHABET)
    for expected, found in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_each_row_of_a_right_to_left_text_is_reordered():
    text = "אבג\nדה 12"
    assert reorder(text).split("\n") == [reorder(row) for row in text.split("\n")]
    alphabet = Alphabet.from_labels([text], logical=True)
    assert alphabet.decode(alphabet.encode(text)) == text


def test_text_of_two_rows_stays_on_its_line_and_in_its_field(tmp_path):
    readings = [("a.png", Reading("AB\n12", 0.98)), ("b.png", Reading("C", 0.5))]
    lines, table, objects = io.StringIO(), io.StringIO(newline=""), io.StringIO()
    write_lines(readings, Layout(), lines)
    assert lines.getvalue() == "a.png\tAB\\n12\t0.98\nb.png\tC\t0.5\n"
    write_json(readings, Layout(), objects)
    assert [row["text"] for row in map(json.loads, objects.getvalue().splitlines())] == ["AB\n12", "C"]
    write_csv(readings, Layout(), table)
    assert list(csv.reader(io.StringIO(table.getvalue(), newline="")))[1] == ["a.png", "AB\n12", "0.98"]
    for end in range(table.getvalue().index("b.png"), len(table.getvalue())):
        path = tmp_path / f"{end}.csv"
        path.write_text(table.getvalue()[:end], newline="")
        assert finished_files(path, Layout()) == {"a.png"}


def test_line_break_is_shown_as_a_symbol(tmp_path):
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png", shade=9)
    (tmp_path / "labels.csv").write_text('file,text\na.png,"A\n1"\nb.png,"B\n1"\n')
    lines = summary.describe(*utils.find_images(tmp_path)).splitlines()
    assert r"characters       4 different: \n (2), 1 (2), A (1), B (1)" in lines
    assert (plots.show_text("A\n1"), plots.show_text("")) == ("A↵1", "∅")
    assert all(len(line) > 10 for line in lines)
