import pytest

from training.labels import file_key, label_from_name, read_labels_file, steps_needed


def labels_in(folder):
    labels, problems = read_labels_file(folder)
    assert problems == []
    return {key: label for key, (label, _) in labels.items()}


@pytest.mark.parametrize(
    ("name", "label", "label_with_copy_number"),
    [
        ("2b827.png", "2b827", "2b827"),
        ("2b827_1.png", "2b827", "2b827_1"),
        ("AB-1234.PNG", "AB-1234", "AB-1234"),
        ("AB-1234_12.jpg", "AB-1234", "AB-1234_12"),
        ("1.23.bmp", "1.23", "1.23"),
        ("a_b.png", "a_b", "a_b"),
        ("_7.png", "", "_7"),
        ("e\u0301.png", "é", "é"),
    ],
)
def test_label_is_the_name_without_extension_and_copy_number(name, label, label_with_copy_number):
    assert label_from_name(name) == label
    assert label_from_name(name, drop_copy_number=False) == label_with_copy_number


@pytest.mark.parametrize(
    ("label", "steps"), [("", 0), ("a", 1), ("ab", 2), ("aa", 3), ("5335", 5), ("nnnnn", 9)]
)
def test_repeated_characters_need_a_step_between_them(label, steps):
    assert steps_needed(label) == steps


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("byte_order_mark", ["", "\ufeff"])
def test_labels_file_of_a_spreadsheet_is_read(tmp_path, line_end, byte_order_mark):
    rows = ["text,note,file", '"12,5 ""m""",,a b.png']
    content = byte_order_mark + line_end.join(rows)
    (tmp_path / "labels.csv").write_text(content, encoding="utf-8", newline="")
    assert labels_in(tmp_path) == {file_key(tmp_path, "a b.png"): '12,5 "m"'}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiter_is_taken_from_the_first_line(tmp_path, delimiter):
    (tmp_path / "labels.csv").write_text(f"file{delimiter}text\na.png{delimiter}0045\n")
    assert labels_in(tmp_path) == {file_key(tmp_path, "a.png"): "0045"}


def test_spaces_around_cells_are_removed(tmp_path):
    (tmp_path / "labels.csv").write_text("file, text\na.png, 12 \n")
    assert labels_in(tmp_path) == {file_key(tmp_path, "a.png"): "12"}


def test_labels_are_in_composed_unicode_form(tmp_path):
    (tmp_path / "labels.csv").write_text("file,text\na.png,e\u0301", encoding="utf-8")
    assert list(labels_in(tmp_path).values()) == ["é"]


def test_file_key_ignores_unicode_form_and_detours():
    assert file_key("/data", "e\u0301.png") == file_key("/data", "below/../é.png") == "/data/é.png"


def test_folder_without_a_labels_file_returns_none(tmp_path):
    assert read_labels_file(tmp_path) == (None, [])


def test_wrong_encoding_is_an_error_that_names_the_line(tmp_path):
    (tmp_path / "labels.csv").write_bytes("file,text\na.png,1\nb.png,é\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"labels\.csv in UTF-8\. Line 3 is not"):
        read_labels_file(tmp_path)


@pytest.mark.parametrize("text", ["", "name;label\na.png;1\n", "file text\na.png 1\n", "a.png,1\n"])
def test_missing_columns_are_an_error(tmp_path, text):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ValueError, match=r"the line file,text at the beginning of .*labels\.csv\. Found: "):
        read_labels_file(tmp_path)


def test_broken_table_is_an_error_that_names_the_line(tmp_path):
    (tmp_path / "labels.csv").write_text('file,text\na.png,"12\n' + "x" * 200_000)
    with pytest.raises(ValueError, match=r"labels\.csv, line \d+, cannot be read: field larger"):
        read_labels_file(tmp_path)
