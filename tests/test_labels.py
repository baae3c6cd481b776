import pytest

from training.labels import key_of, label_from_name, read_labels_file, steps_needed


def labels_in(folder):
    labels, problems = read_labels_file(folder)
    return {key: label for key, (label, _) in labels.items()}, problems


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
def test_label_is_the_name_without_ending_and_copy_number(name, label, label_with_copy_number):
    assert label_from_name(name) == label
    assert label_from_name(name, drop_copy_number=False) == label_with_copy_number


@pytest.mark.parametrize(
    ("label", "steps"), [("", 0), ("a", 1), ("ab", 2), ("aa", 3), ("5335", 5), ("nnnnn", 9)]
)
def test_equal_neighbours_need_a_step_between_them(label, steps):
    assert steps_needed(label) == steps


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_labels_file_of_a_spreadsheet_is_read(tmp_path, line_end, mark):
    (tmp_path / "a b.png").touch()
    rows = ["text,note,file", '"12,5 ""m""",,a b.png']
    (tmp_path / "labels.csv").write_text(mark + line_end.join(rows), encoding="utf-8", newline="")
    assert labels_in(tmp_path) == ({key_of(tmp_path, "a b.png"): '12,5 "m"'}, [])


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_columns_are_separated_as_the_first_line_says(tmp_path, delimiter):
    (tmp_path / "a.png").touch()
    (tmp_path / "labels.csv").write_text(f"file{delimiter}text\na.png{delimiter}0045\n")
    assert labels_in(tmp_path) == ({key_of(tmp_path, "a.png"): "0045"}, [])


def test_labels_are_in_unicode_s_composed_form(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "labels.csv").write_text("file,text\na.png,e\u0301", encoding="utf-8")
    assert list(labels_in(tmp_path)[0].values()) == ["é"]


def test_folder_without_a_labels_file_has_none(tmp_path):
    assert read_labels_file(tmp_path) == (None, [])


def test_labels_file_in_another_encoding_names_the_line(tmp_path):
    (tmp_path / "labels.csv").write_bytes("file,text\na.png,1\nb.png,é\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"labels\.csv in UTF-8\. Line 3 is not"):
        read_labels_file(tmp_path)


@pytest.mark.parametrize("text", ["", "name;label\na.png;1\n", "file text\na.png 1\n", "a.png,1\n"])
def test_labels_file_without_its_columns_is_refused(tmp_path, text):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ValueError, match="to begin with the line file,text"):
        read_labels_file(tmp_path)


def test_spaces_around_cells_are_no_part_of_them(tmp_path):
    (tmp_path / "labels.csv").write_text("file, text\na.png, 12 \n")
    assert labels_in(tmp_path) == ({key_of(tmp_path, "a.png"): "12"}, [])


def test_table_that_cannot_be_parsed_names_its_line(tmp_path):
    (tmp_path / "labels.csv").write_text('file,text\na.png,"12\n' + "x" * 200_000)
    with pytest.raises(ValueError, match=r"labels\.csv\. Line \d+: field larger"):
        read_labels_file(tmp_path)


def test_composed_and_decomposed_names_and_detours_are_the_same_file():
    assert key_of("/data", "e\u0301.png") == key_of("/data", "é.png") == key_of("/data", "below/../é.png")
