"""labels.csv and the journal, while someone labels: nothing is lost, and nothing else is changed."""

import os
import shutil

import pytest
from labelling import FILES, TEXTS, decision, draw_images

from conftest import full_disk
from tools.labelling.journal import FOLDER, Journal
from tools.labelling.labels_file import LabelsFile, check_text
from tools.labelling.session import Session
from training.labels import find_labels

TABLE = 'id;File;Text;note\r\n7; 0.png;"old; text";" a ""b"""\r\n\r\n8;elsewhere.png;x;\r\n9;1.png;;last'


def label_all(folder, **options):
    """Decides about three images, a decision at a time, and yields what was confirmed."""
    session = Session(folder, train=False, **options)
    for one in (
        decision("0.png", "new"),
        decision("1.png", "4711"),
        decision("2.png", decision="unreadable"),
    ):
        assert session.decide([one]) == {}
        yield one


def write_table(folder, text=TABLE, encoding="utf-8"):
    (folder / "labels.csv").write_bytes(text.encode(encoding))


def read_table(folder, encoding="utf-8"):
    return (folder / "labels.csv").read_bytes().decode(encoding)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_rows_that_do_not_change_keep_their_bytes(tmp_path, encoding):
    draw_images(tmp_path)
    write_table(tmp_path, encoding=encoding)
    labels = LabelsFile(tmp_path)
    assert labels.texts == {tmp_path / "0.png": "old; text"}
    labels.change(tmp_path / "1.png", 'with "quotes"; é')
    labels.change(tmp_path / "2.png", "12")
    labels.save()
    expected = TABLE.replace("9;1.png;;last", '9;1.png;"with ""quotes""; é";last\r\n;2.png;12;\r\n')
    assert read_table(tmp_path, encoding) == expected
    assert LabelsFile(tmp_path).texts[tmp_path / "1.png"] == 'with "quotes"; é'


def test_new_labels_are_those_of_a_training(tmp_path):
    draw_images(tmp_path)
    list(label_all(tmp_path))
    found = find_labels(tmp_path, sorted(tmp_path.glob("*")))
    assert found.source == "labels.csv (file, text)" and found.problems == []
    assert {path.name: text for path, text in found.texts.items()} == {"0.png": "new", "1.png": "4711"}


def test_changes_of_another_program_are_kept(tmp_path):
    draw_images(tmp_path)
    session = Session(tmp_path, train=False)
    session.decide([decision("0.png", "1")])
    (tmp_path / "labels.csv").write_text("file,text,note\n0.png,2,edited\n3.png,3,new\n")
    session.decide([decision("1.png", "4")])
    assert read_table(tmp_path) == "file,text,note\n0.png,2,edited\n3.png,3,new\n1.png,4,\n"


@pytest.mark.parametrize(
    "name, table, found",
    [
        ("metadata.csv", "file_name,text\n0.png,1\n", "Found metadata.csv"),
        ("labels.csv", "file,text\n0.png,1\n0.png,2\n", "Found 0.png twice"),
        ("labels.csv", "a,b\n0.png,1\n", "one column with the file"),
    ],
)
def test_tables_that_a_label_could_override_or_miss_are_refused(tmp_path, name, table, found):
    draw_images(tmp_path)
    (tmp_path / name).write_text(table)
    with pytest.raises(ValueError, match=found):
        LabelsFile(tmp_path)
    assert (tmp_path / name).read_text() == table


def test_table_that_names_an_image_twice_keeps_all_its_rows_while_someone_labels(tmp_path):
    session = Session(draw_images(tmp_path), train=False)
    session.decide([decision("0.png", "1")])
    table = "file,text\n0.png,1\n0.png,2\n3.png,3\n4.png,4\n"
    write_table(tmp_path, table)
    for _ in range(2):  # the page sends a decision again until it is saved
        with pytest.raises(OSError, match="Found 0.png twice"):
            session.decide([decision("1.png", "5")])
        assert read_table(tmp_path) == table
    write_table(tmp_path, table.replace("0.png,2\n", ""))
    assert session.decide([decision("1.png", "5")]) == {}
    assert read_table(tmp_path) == "file,text\n0.png,1\n3.png,3\n4.png,4\n1.png,5\n"


@pytest.mark.parametrize(
    ("table", "expected"),
    [  # another format, another order of the columns, other cells
        ("file;text;note\n0.png;new;a\n1.png;edited;b\n", "file;text;note\n0.png;old;a\n1.png;edited;b\n"),
        ("note,text,file\na,new,0.png\nb,old,1.png\n", "note,text,file\na,old,0.png\nb,old,1.png\n"),
        ("file,text,note\n0.png,new,edited\n", "file,text,note\n0.png,old,edited\n"),
    ],
)
def test_undo_keeps_what_another_program_has_changed(tmp_path, table, expected):
    draw_images(tmp_path)
    write_table(tmp_path, "file,text,note\n0.png,old,a\n1.png,old,b\n")
    session = Session(tmp_path, train=False)
    session.decide([decision(file, "new", action="") for file in FILES[:2]])
    write_table(tmp_path, table)
    session.undo("a")
    assert read_table(tmp_path) == expected


def test_names_that_a_table_cannot_hold_are_left_out_and_others_are_labelled(tmp_path):
    names = ["Za\u0308hler 1.png", 'b,"c".png', "#1.png", "folder/0.png"]
    (tmp_path / "folder").mkdir()
    draw_images(tmp_path, dict.fromkeys([*names, " space.png"], "1"))
    session = Session(tmp_path, train=False)
    assert {path.name: reason for path, reason in session.unusable.items()} == {
        " space.png": "has a name that labels.csv cannot hold"
    }
    session.decide([decision(name, name[0]) for name in names])
    after = Session(tmp_path, train=False)
    assert [after.label(name) for name in names] == [name[0] for name in names]


def test_rows_of_text_are_kept_and_written_as_a_training_reads_them(tmp_path):
    draw_images(tmp_path)
    write_table(tmp_path, 'file,text\n0.png,"12\n34"\n')
    session = Session(tmp_path, train=False)
    session.decide([decision("0.png", "12\n34"), decision("1.png", " 5 \n\n 6 ")])
    assert read_table(tmp_path) == 'file,text\n0.png,"12\n34"\n1.png,"5\n6"\n'
    found = find_labels(tmp_path, sorted(tmp_path.glob("*")))
    assert {path.name: text for path, text in found.texts.items()} == {"0.png": "12\n34", "1.png": "5\n6"}


def test_label_that_the_page_would_not_write_can_be_kept(tmp_path):
    draw_images(tmp_path)
    text = "a" * 201
    write_table(tmp_path, f"file,text\n0.png,{text}\n")
    session = Session(tmp_path, train=False)
    assert session.decide([decision("0.png", text)]) == {} and session.label("0.png") == text


@pytest.mark.parametrize(
    "text", ["", "  ", "a\nb\nc\nd\ne", "a\u200bb", "01\x1d17", "1E+05", "#N/A", '["a"]', "a" * 201]
)
def test_texts_that_a_training_refuses_are_refused(text):
    with pytest.raises(ValueError):
        check_text(text)


def test_texts_are_normalised():
    assert check_text(" e\u0301 1 ") == "é 1"


def die_at(event_number, folder):
    """Ends this process without any clean-up before the n-th time that it opens, renames or cuts a file."""
    import sys

    count = 0

    def hook(event, arguments):
        nonlocal count
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_APPEND)
        if (writes and str(folder) in str(arguments[0])) or event in (
            "os.rename",
            "os.truncate",
            "os.remove",
        ):
            count += 1
            if count == event_number:
                os._exit(9)

    sys.addaudithook(hook)


def test_kill_between_any_two_writes_loses_nothing(tmp_path):
    kills = 0
    while True:
        folder = draw_images(tmp_path / "images")
        write_table(folder)
        read, write = os.pipe()
        child = os.fork()
        if not child:
            try:
                die_at(kills + 1, folder)
                for one in label_all(folder):
                    os.write(write, f"{one['file']}\n".encode())
            finally:
                os._exit(0)
        os.close(write)
        with open(read) as pipe:
            confirmed = pipe.read().split()
        _, status = os.waitpid(child, 0)
        session = Session(folder, train=False)  # as after a restart
        table = read_table(folder)
        old, new = TABLE.split("\r\n", 2)[1], '7;0.png;new;" a ""b"""'
        start, _, end = table.partition(new if new in table else old)
        assert start == "id;File;Text;note\r\n"
        assert end.startswith("\r\n\r\n8;elsewhere.png;x;\r\n9;1.png;") and end.rstrip().endswith(";last")
        for file, label in (("0.png", "new"), ("1.png", "4711"), ("2.png", None)):
            if file in confirmed:
                assert session.label(file) == label and session.journal.seen[file] == 1
        assert sorted(path.name for path in folder.iterdir()) == sorted([FOLDER, *FILES, "labels.csv"])
        shutil.rmtree(folder)
        if os.waitstatus_to_exitcode(status) == 0:
            break
        kills += 1
    assert kills >= 8 and len(confirmed) == 3


def test_full_disk_loses_nothing_and_labelling_continues(tmp_path):
    draw_images(tmp_path)
    session = Session(tmp_path, train=False)
    session.decide([decision("0.png", "1")])
    before = read_table(tmp_path), session.journal.path.read_bytes()
    with full_disk(len(before[1]) + 50), pytest.raises(OSError):
        session.decide([decision("1.png", "2" * 150)])
    with full_disk(10), pytest.raises(OSError):
        session.decide([decision("2.png", "3")])
    assert read_table(tmp_path).startswith(before[0]) and session.label("2.png") is None
    assert session.decide([decision("1.png", "2" * 150), decision("2.png", "3")]) == {}  # sent again
    after = Session(tmp_path, train=False)
    assert [one["file"] for one in after.journal.active] == ["0.png", "1.png", "2.png"]
    assert [after.label(file) for file in FILES[:3]] == ["1", "2" * 150, "3"]


def test_half_a_line_of_a_killed_write_is_dropped(tmp_path):
    draw_images(tmp_path)
    list(label_all(tmp_path))
    path = Journal(tmp_path).path
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    session = Session(tmp_path, train=False)
    session.decide([decision("3.png", decision="skip")])
    assert path.read_bytes().startswith(whole) and len(Journal(tmp_path).active) == 4


def test_damaged_line_of_the_journal_is_named(tmp_path):
    draw_images(tmp_path)
    list(label_all(tmp_path))
    path = Journal(tmp_path).path
    path.write_bytes(b"nothing\n" + path.read_bytes())
    with pytest.raises(ValueError, match="line 1 of .*decisions.jsonl"):
        Session(tmp_path, train=False)


def test_files_of_labelling_do_not_disturb_a_training(tmp_path):
    import utils

    draw_images(tmp_path, TEXTS)
    session = Session(tmp_path, train=False)
    session.decide([decision(file, TEXTS[file]) for file in FILES[:4]])
    session.decide([decision(FILES[4], decision="unreadable")])
    samples, rejected = utils.find_images(tmp_path)
    assert {sample.path.name: sample.label for sample in samples} == {file: TEXTS[file] for file in FILES[:4]}
    assert [reason for _, reason in rejected] == ["is not listed in labels.csv"] * 2
