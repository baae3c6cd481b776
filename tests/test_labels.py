import json
import re
from pathlib import Path

import pytest
from label_files import find, labels_in, write

from training.labels import (
    FILE_NAMES,
    label_from_name,
    main,
    steps_needed,
)
from training.tables import file_key


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
def test_labels_file_of_a_spreadsheet_is_read(folder, line_end, byte_order_mark):
    (folder / "a b.png").touch()
    rows = ["text,note,file", '"12,5 ""m""",,a b.png']
    write(folder, "labels.csv", byte_order_mark + line_end.join(rows))
    assert labels_in(folder) == {"a b.png": '12,5 "m"'}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiter_is_taken_from_the_first_line(folder, delimiter):
    write(folder, "labels.csv", f"file{delimiter}text\na.png{delimiter}0045\n")
    assert labels_in(folder) == {"a.png": "0045"}


def test_spaces_around_cells_are_removed(folder):
    write(folder, "labels.csv", "file, text\na.png, 12 \n")
    assert labels_in(folder) == {"a.png": "12"}


def test_labels_are_in_composed_unicode_form(folder):
    write(folder, "labels.csv", "file,text\na.png,e\u0301")
    assert list(labels_in(folder).values()) == ["é"]


def test_file_key_ignores_unicode_form_and_detours():
    assert file_key("/data", "e\u0301.png") == file_key("/data", "below/../é.png") == "/data/é.png"


def test_folder_without_a_label_file_uses_file_names(folder):
    write(folder, "README.txt", "About images such as a.png")
    write(folder, "images.tar.gz", "the archive of the images")
    assert find(folder) == (FILE_NAMES, "", {}, [], {}, {})


TASK = {"id": 1, "data": {"ocr": "/data/upload/1/1a2b3c4d-a.png"}}
TEXTAREA = {"type": "textarea", "from_name": "t", "value": {"text": ["0412"]}}
DONE = {**TASK, "annotations": [{"was_cancelled": False, "result": [TEXTAREA]}]}
EXAMPLES = {
    "labels.csv, aliases in any case": ("labels.csv", "Image_Path,Plate_Text\na.png,0412\n"),
    "Labels.csv, semicolons": ("Labels.csv", "filename;words\na.png;0412\n"),
    "any table.tsv": ("any table.tsv", "NAME\tTranscription\na.png\t0412\n"),
    "Hugging Face, CSV": ("metadata.csv", "file_name,text\na.png,0412\n"),
    "Hugging Face, JSON lines": ("metadata.jsonl", '{"file_name": "a.png", "text": "0412"}\n\n'),
    "PaddleOCR": ("rec_gt_train.txt", "./a.png\t0412\n"),
    "deep-text-recognition-benchmark": ("gt.txt", "a.png\t0412\r\n"),
    "labels.txt with a header": ("labels.txt", "file\ttext\na.png\t0412\n"),
    "ICDAR": ("gt.txt", '\ufeffa.png, "0412"\n'),
    "tesstrain, kraken, Calamari": ("a.gt.txt", "0412\n"),
    "Label Studio, CSV": ("project-1.csv", "image,id,text\n/data/upload/1/1a2b3c4d-a.png,1,0412\n"),
    "Label Studio, JSON": ("project-1.json", json.dumps([DONE])),
    "Label Studio, one text": (
        "project-1.json",
        json.dumps([DONE]).replace('["0412"]', '"0412"'),
    ),
    "Label Studio, JSON-MIN": (
        "min.json",
        json.dumps([{"image": "/data/local-files/?d=x/a.png", "id": 1, "transcription": ["0412"]}]),
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_common_label_file_is_read_as_it_comes(folder, name, encoding):
    file, text = EXAMPLES[name]
    write(folder, file, text.removeprefix("\ufeff"), encoding)
    assert labels_in(folder) == {"a.png": "0412"}
    assert find(folder).source.startswith("*.gt.txt" if file == "a.gt.txt" else file.replace("_train", "*"))


def test_numbers_in_json_keep_their_zeros(folder):
    write(folder, "metadata.jsonl", '{"file_name": "a.png", "text": 12.50}')
    assert labels_in(folder) == {"a.png": "12.50"}


def test_escaped_quotes_of_icdar_are_read(folder):
    write(folder, "gt.txt", r'a.png, "3\" x, 4"')
    assert labels_in(folder) == {"a.png": '3" x, 4'}


@pytest.mark.parametrize(
    "file",
    [
        "below/c.png",
        r"below\c.png",
        "below/c",
        "./below/c.png",
        r"C:\Users\me\below\c.png",
        "/home/me/below/c.png",
        "https://host/data/below/c.png",
        "/data/local-files/?d=me/below/c.png",
        "s3://bucket/data/below/c.png",
    ],
)
def test_paths_of_other_machines_and_windows_are_found(folder, file):
    write(folder, "labels.csv", f"file,text\n{file},1\n")
    assert labels_in(folder) == {"below/c.png": "1"}


def test_paths_relative_to_the_table_are_found(folder):
    write(folder, "below/metadata.csv", "file_name,text\nc.png,1\n")
    assert labels_in(folder) == {"below/c.png": "1"}


def test_table_next_to_the_folder_of_all_images_is_read(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "images" / name).touch()
    write(tmp_path, "labels.csv", "file,text\na.png,1\nb,2\n")
    assert labels_in(tmp_path) == {"images/a.png": "1", "images/b.png": "2"}
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "c.png").touch()
    assert len(find(tmp_path).problems) == 2  # of two folders, it is not known which


def test_path_relative_to_the_folder_above_is_found(folder):
    write(folder, "labels.csv", f"file,text\n{folder.name}/a.png,1\nother/b.png,2\n")
    assert find(folder).texts == {folder / "a.png": "1"}


def test_name_without_extension_of_two_images_is_not_guessed(folder):
    (folder / "a.jpg").touch()
    write(folder, "labels.csv", "file,text\na,1\n")
    assert find(folder).problems == [(folder / "labels.csv", "line 2 names a, which may be a.jpg or a.png")]


def test_two_lost_folders_with_one_file_name_are_an_error(folder):
    write(folder, "labels.csv", "file,text\n/x/1/a.png,1\n/x/2/a.png,2\n")
    with pytest.raises(ValueError, match=r"line 3 names /x/2/a\.png, line 2 /x/1/a\.png: both"):
        find(folder)


def test_text_file_belongs_to_the_image_next_to_it(folder):
    write(folder, "below/a.gt.txt", "1")
    write(folder, "below/c.gt.txt", "2")
    found = find(folder)
    assert found.texts == {folder / "below" / "c.png": "2"}
    assert found.problems == [(folder / "below/a.gt.txt", "line 1 names a, which is not in the folder")]


def test_path_that_fits_table_and_folder_is_not_guessed(folder):
    (folder / "c.png").touch()
    write(folder, "below/metadata.csv", "file_name,text\nc.png,1\n")
    ((_, problem),) = find(folder).problems
    assert problem == "line 2 names c.png, which may be c.png or below/c.png"


def test_tables_of_one_name_in_subfolders_are_combined(folder):
    (folder / "train").mkdir()
    (folder / "train" / "d.png").touch()
    write(folder, "below/metadata.csv", "file_name,text\nc.png,1\n")
    write(folder, "train/metadata.csv", "file_name,text\nd.png,2\n")
    assert labels_in(folder) == {"below/c.png": "1", "train/d.png": "2"}


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16-le"])
def test_wrong_encoding_is_an_error_with_the_menu_item(folder, encoding):
    write(folder, "labels.csv", "file,text\na.png,1\nb.png,é\n", encoding)
    expected = r"labels\.csv\. Line [13] is not UTF-8.*CSV UTF-8 \(Comma delimited\)"
    with pytest.raises(ValueError, match=expected):
        find(folder)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.csv", ""),
        ("labels.csv", "name;class\na.png;1\n"),
        ("labels.csv", "file text\na.png 1\n"),
        ("labels.csv", "a.png,1\n"),
        ("labels.csv", "file,text,Text\na.png,1,2\n"),
        ("labels.csv", "file,label,words\na.png,1,2\n"),
        ("metadata.jsonl", "{"),
        ("labels.json", '{"a.png": "1"}'),
        ("Label.txt", 'a.png\t[{"transcription": "1", "points": []}]'),
        ("project.json", json.dumps([{**TASK, "annotations": 5}])),
        ("gt.txt", "a.png 1\n"),
        ("labels.txt", "# my labels\na.png\t1\n"),
        ("labels.xml", "<labels/>"),
        ("list.txt", "a\tb\tc\n"),
        ("old.xls", "1"),
    ],
)
def test_label_file_that_is_not_understood_is_an_error(folder, name, text):
    write(folder, name, text)
    expected = rf"(?s)(?=.*{re.escape(name)})Expected .*would then be learned: a\.png → 'a', b\.png → 'b'"
    with pytest.raises(ValueError, match=expected):
        find(folder)


SECOND = {"result": [{"type": "textarea", "value": {"text": ["2"]}}]}


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        (
            "labels.csv",
            "file,text\na.png,12,5\n",
            "line 2 has 3 cells, the header 2; put such texts in quotes",
        ),
        ("gt.txt", "a.png\t1\n\t\nb.png\n", "line 3 has no text for b.png"),
        ("gt.txt", 'a.png, "1"\n\nb.png 2\n', "line 3 has no text for b.png 2"),
        ("project.csv", 'image,text\na.png,"[""1"", ""2""]"\n', "line 2 has a list of texts .*"),
        ("labels.json", '[{"file": "a.png", "text": ["1", "2"]}]', "item 1 has no text but .*"),
        (
            "project.json",
            json.dumps([{**DONE, "annotations": [*DONE["annotations"], SECOND]}]),
            "item 1 has 1 images, 2 annotations, 0 boxes and 2 texts, not one .*",
        ),
        ("project.json", json.dumps([{**TASK, "annotations": []}]), "item 1 has no text for /data/upload.*"),
    ],
)
def test_line_that_cannot_be_used_is_skipped_with_a_reason(folder, name, text, problem):
    write(folder, name, text)
    ((path, found),) = find(folder).problems
    assert path == folder / name and re.fullmatch(problem, found)


@pytest.mark.parametrize("text", ["#N/A", "#REF!", "########", '="04187"', "1.23457E+11", "4,19E+03"])
def test_what_a_spreadsheet_writes_instead_of_a_text_is_skipped(folder, text):
    write(folder, "labels.csv", 'file;text\na.png;"' + text.replace('"', '""') + '"\nb.png;#12\n')
    found = find(folder)
    assert found.texts == {folder / "b.png": "#12"}
    assert re.match("line 2 has .*instead of a text; format the column as Text", found.problems[0][1])


@pytest.mark.parametrize("name", ["labels.txt", "labels.csv.txt", "list.txt"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_text_file_with_a_header_is_read_like_csv(folder, name, separator):
    write(folder, name, f'"File"{separator}"Text"\na.png{separator}"4,5;6"\n')
    assert labels_in(folder) == {"a.png": "4,5;6"}


def test_text_files_of_other_tools_next_to_images_are_an_error(folder):
    write(folder, "a.txt", "04187\n")
    with pytest.raises(
        ValueError, match=r"text files next to images .*: 1, such as a\.txt\..* NAME\.gt\.txt"
    ):
        find(folder)
    write(folder, "labels.csv", "file,text\na.png,1\n")
    assert labels_in(folder) == {"a.png": "1"}


@pytest.mark.parametrize("header", ["file,text,x1,y1,x2,y2", "file,text,xmin,ymin,xmax,ymax"])
def test_table_with_corners_of_boxes_is_an_error(folder, header):
    write(folder, "labels.csv", f"{header}\na.png,1,2,3,4,5\n")
    with pytest.raises(ValueError, match="Found boxes in .* keep only the columns file, text"):
        find(folder)


def test_broken_table_is_an_error_that_names_the_line(folder):
    write(folder, "labels.csv", 'file,text\na.png,"12\n' + "x" * 200_000)
    with pytest.raises(ValueError, match=r"labels\.csv\. Line \d+ cannot be read: field larger"):
        find(folder)


def test_labels_file_that_is_a_link_is_an_error(folder):
    write(folder, "secret.ini", "file,text")
    (folder / "labels.csv").symlink_to(folder / "secret.ini")
    with pytest.raises(ValueError, match=r"label file at .*labels\.csv\. Found a link"):
        find(folder)


def test_label_file_without_permission_is_an_error(folder, monkeypatch):
    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    write(folder, "gt.txt", "a.png\t1\n")
    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ValueError, match=r"label file at .*gt\.txt\. .*Permission denied"):
        find(folder)


def test_two_sources_are_an_error_with_examples_of_each(folder):
    write(folder, "metadata.csv", "file_name,text\na.png,1\n")
    write(folder, "gt.txt", "a.png\t2\n")
    with pytest.raises(
        ValueError, match=r"Found 2: gt\.txt \(a\.png → '2'\); metadata\.csv \(a\.png → '1'\)"
    ):
        find(folder)
    write(folder, "labels.csv", "file,text\na.png,3\n")
    assert labels_in(folder) == {"a.png": "3"}
    unused = "is not used, because there is a labels.csv"
    tables = {folder / "gt.txt": unused, folder / "metadata.csv": unused, folder / "labels.csv": None}
    assert find(folder).tables == tables


def test_command_writes_a_table_from_file_names(folder, capsys):
    for name in ("IMG_0001.png", "_1.png", ".hidden.png"):
        (folder / name).touch()
    assert main([str(folder)]) == 0
    assert labels_in(folder) == {"IMG_0001.png": "IMG", "a.png": "a", "b.png": "b", "below/c.png": "c"}
    assert main([str(folder), "--keep-copy-number"]) == 2
    assert "It was not changed" in capsys.readouterr().err
    (folder / "labels.csv").unlink()
    assert main([str(folder), "--keep-copy-number"]) == 0
    assert labels_in(folder)["IMG_0001.png"] == "IMG_0001"
