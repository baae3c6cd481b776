"""The command line of `reader.py`, as users run it."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import pytest

from conftest import PROJECT, full_disk
from examples import ALPHABET
from snippet_ocr import cli
from snippet_ocr.reader import Reader
from tools import export


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(capfd):
    """Runs the command in this process, where it need not wait for TensorFlow."""

    def run(*arguments):
        try:
            code = cli.main(list(map(str, arguments)))
        except SystemExit as exit:  # argparse found a mistake
            code = exit.code
        return Done(code, *capfd.readouterr())

    return run


def test_command_prints_a_line_for_each_image_of_files_and_folders(saved, shipped, tmp_path):
    folder = tmp_path / "my images"
    (folder / "below").mkdir(parents=True)
    shutil.copy(shipped[1], folder / "b.PNG")
    shutil.copy(shipped[2], folder / "below" / "c.png")
    command = [sys.executable, "-m", "snippet_ocr", saved, shipped[0], folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == [
        str(shipped[0]),
        str(folder / "b.PNG"),
        str(folder / "below" / "c.png"),
    ]
    texts = [reading.text for reading in Reader.load(saved).read(shipped[:3])]
    assert [row[1] for row in rows] == texts
    assert all(0 <= float(row[2]) <= 1 for row in rows)


def test_command_writes_csv_and_json_to_stdout_and_errors_to_stderr(saved, shipped, tmp_path, run):
    broken = tmp_path / 'broken "one", two.png'
    broken.write_bytes(b"nothing")
    as_csv, as_json = (run(saved, shipped[0], broken, shipped[1], form) for form in ("--csv", "--json"))
    rows = list(csv.DictReader(io.StringIO(as_csv.stdout)))
    objects = json.loads(as_json.stdout)
    assert [row["file"] for row in rows] == [row["file"] for row in objects] == [str(p) for p in shipped[:2]]
    for row, found in zip(rows, objects, strict=True):
        assert list(row) == list(found) == ["file", "text", "confidence"]
        assert (row["text"], float(row["confidence"])) == (found["text"], found["confidence"])
    for done in (as_csv, as_json):
        assert done.returncode == 1
        assert f"{broken} is not an image" in done.stderr
        assert "1 of 3 images could not be read" in done.stderr


@pytest.mark.parametrize(
    ("options", "expected"),
    [(["--length", "2-3"], {"abc", "cab", "bad", "é d"}), (["--pattern", "?A?"], {"abc", "cab", "bad"})],
)
def test_command_honours_words_and_length_or_pattern(saved, shipped, tmp_path, run, options, expected):
    words = tmp_path / "words.txt"
    words.write_text("\ufeffabc\ncab\n\nbad \nabcd\ne\u0301 d\né1", encoding="utf-8")
    done = run(saved, *shipped[:3], "--words", words, *options, "--top", "4", "--json")
    assert done.returncode == 0
    for row in json.loads(done.stdout):
        texts = [value for key, value in row.items() if key.startswith("text")]
        assert len(texts) == len(expected)
        assert set(texts) == expected


def test_command_writes_as_many_columns_as_texts_were_asked_for(saved, shipped, run):
    done = run(saved, shipped[0], "--csv", "--top", "3")
    header, row = csv.reader(io.StringIO(done.stdout))
    assert header == ["file", "text", "confidence", "text_2", "confidence_2", "text_3", "confidence_3"]
    assert len(row) == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--length", "6-4"], "the shorter first"),
        (["--length", "six"], "a number or a range such as 3-8"),
        (["--pattern", "A-9"], "None of them can be '-'"),
        (["--pattern", "[ab"], "a ] after ["),
        (["--pattern", "aa", "--length", "3"], "None does"),
        (["--length", "500"], "None does"),
        (["--pattern", 21 * "a"], "None does"),  # with blanks between, 41 steps; the reader has 20
        (["--words", "missing.txt"], "missing.txt"),
        (["--words", ""], "a text file of words"),
        (["--top", "0"], "expected 1 or more"),
    ],
)
def test_constraint_that_cannot_be_met_is_an_error(saved, shipped, run, options, message):
    done = run(saved, shipped[0], *options)
    assert done.returncode == 2
    assert message in done.stderr


def test_command_without_model_or_images_says_so_in_a_line(saved, tmp_path, run):
    missing = run(tmp_path / "none.keras", PROJECT / "captcha_images")
    empty = run(saved, tmp_path)
    assert (missing.returncode, empty.returncode) == (2, 2)
    assert missing.stderr.strip().endswith(f"{tmp_path}/none.keras. There is no such file.")
    assert empty.stderr.strip().endswith(f"in {tmp_path}. Found none.")
    assert missing.stdout == empty.stdout == ""


def test_command_whose_output_nobody_reads_ends_quietly(saved, shipped):
    command = [sys.executable, "-m", "snippet_ocr", str(saved), *map(str, shipped[:300])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait() == 1
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors


def test_command_reads_files_whose_names_are_no_text(saved, shipped, tmp_path, run):
    shutil.copy(shipped[0], bytes(tmp_path) + b"/caf\xe9.png")
    done = run(saved, tmp_path)
    assert done.returncode == 0
    assert "caf\\xe9.png" in done.stdout


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_killed_reading_goes_on_where_it_was(saved, shipped, tmp_path, run, monkeypatch):
    loaded = Reader.load(saved)
    monkeypatch.setattr(Reader, "load", lambda path: loaded)
    folder = tmp_path / "images"
    folder.mkdir()
    for number, name in enumerate(['a "b", c.png', "d\ne.png", "f.png", "gü.png"]):
        shutil.copy(shipped[number], folder / name)
    good = sorted(map(str, folder.iterdir()))
    (folder / "broken.png").write_bytes(b"nothing")
    out = tmp_path / "readings.csv"
    arguments = [saved, folder, "--out", out, "--top", "2"]
    assert run(*arguments).returncode == 1
    whole, rows = out.read_bytes(), rows_of(out)
    assert [row["file"] for row in rows] == good
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        out.write_bytes(whole[:length])
        done = run(*arguments, "--resume")
        assert done.returncode == 1
        assert rows_of(out) == rows
        assert "4 of 5 images are read already" not in done.stderr
    done = run(*arguments, "--resume")
    assert done.returncode == 1
    assert rows_of(out) == rows
    assert "4 of 5 images are read already" in done.stderr


def test_file_of_results_is_neither_overwritten_nor_mixed(saved, shipped, tmp_path, run):
    out = tmp_path / "readings.csv"
    out.write_bytes(b"file,text\r\na.png,b\r\n")
    for options, message in (([], "Expected nothing at"), (["--resume"], "file, text, confidence")):
        done = run(saved, shipped[0], "--out", out, *options)
        assert done.returncode == 2
        assert message in done.stderr
        assert out.read_bytes() == b"file,text\r\na.png,b\r\n"


def test_folder_of_the_output_must_be_there(saved, shipped, tmp_path, run):
    done = run(saved, shipped[0], "--out", tmp_path / "none" / "readings.csv")
    assert done.returncode == 2
    assert f"Expected a folder at {tmp_path / 'none'}" in done.stderr


def rows_below(folder):
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("*.csv"))


def test_folders_read_by_xargs_and_killed_are_read_once_each(model, saved, shipped, tmp_path):
    reader = tmp_path / "reader.onnx"
    prepared = Reader.load(saved).prepare(shipped[:20])
    export.export(Reader(model, ALPHABET), "onnx", reader, prepared)
    images = tmp_path / "my images"
    for name in ("a", "b", "c d"):
        (images / name).mkdir(parents=True)
        for number in range(1500):
            (images / name / f"{number:04}.png").symlink_to(shipped[number % 100])
    script = (
        f"find '{images}' -mindepth 1 -maxdepth 1 -type d -print0 | "
        f"xargs -0 -P 2 -I{{}} '{sys.executable}' -m snippet_ocr '{reader}' {{}} --out {{}}.csv --resume"
    )
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    first = subprocess.Popen(["sh", "-c", script], cwd=PROJECT, start_new_session=True, **quiet)
    deadline = time.monotonic() + 60
    while rows_below(images) < 500 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert 500 <= rows_below(images) < 4500
    assert subprocess.run(["sh", "-c", script], cwd=PROJECT, **quiet).returncode == 0
    for name in ("a", "b", "c d"):
        with (images / f"{name}.csv").open(newline="", encoding="utf-8") as lines:
            files = [row["file"] for row in csv.DictReader(lines)]
        assert sorted(files) == sorted(str(path) for path in (images / name).iterdir())


def test_resume_without_a_file_is_an_error(saved, shipped, run):
    assert run(saved, shipped[0], "--resume").returncode == 2


def test_readings_below_the_least_confidence_are_marked_for_review(model, saved, shipped, tmp_path, run):
    confidences = sorted(reading.confidence for reading in Reader.load(saved).read(shipped[:9]))
    threshold = confidences[4]
    with_threshold = tmp_path / "reader.keras"
    Reader(model, ALPHABET, threshold=threshold).save(with_threshold)
    for path, least in ((saved, threshold), (with_threshold, "auto")):
        done = run(path, *shipped[:9], "--min-confidence", least, "--csv")
        assert done.returncode == 0
        reviews = [row["review"] for row in csv.DictReader(io.StringIO(done.stdout))]
        assert sorted(reviews) == 5 * [""] + 4 * ["needs review"]


@pytest.mark.parametrize("least", ["auto", "1.5", "nan", "much"])
def test_least_confidence_that_means_nothing_is_an_error(saved, shipped, run, least):
    done = run(saved, shipped[0], "--min-confidence", least)
    assert done.returncode == 2
    assert ("This one has none" if least == "auto" else "a number from 0 to 1") in done.stderr


def test_confidence_of_each_character_is_told_if_asked_for(saved, shipped, run):
    rows = csv.DictReader(io.StringIO(run(saved, *shipped[:5], "--characters", "--csv").stdout))
    for row in rows:
        assert len(row["characters"].split()) == len(row["text"])
        assert all(0 <= float(one) <= 1 for one in row["characters"].split())


def test_full_disk_ends_the_reading_with_a_line_and_resume_goes_on(
    saved, shipped, tmp_path, run, monkeypatch
):
    loaded = Reader.load(saved)  # Keras writes a file of its own while it loads
    monkeypatch.setattr(Reader, "load", lambda path: loaded)
    out = tmp_path / "readings.csv"
    with full_disk(300):
        done = run(saved, *shipped[:9], "--out", out)
    assert done.returncode == 1
    assert f"{out} cannot be written: File too large. --resume goes on" in done.stderr
    assert out.stat().st_size <= 300
    assert run(saved, *shipped[:9], "--out", out, "--resume").returncode == 0
    assert [row["file"] for row in rows_of(out)] == list(map(str, shipped[:9]))


def test_full_disk_behind_stdout_is_told_in_a_line(saved, shipped):
    command = [sys.executable, "-m", "snippet_ocr", saved, *shipped[:9]]
    with open("/dev/full", "w") as out:
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "the output cannot be written: No space left on device."


def test_info_prints_where_a_reader_comes_from(saved, run):
    done = run("--info", saved)
    assert done.returncode == 0
    assert json.loads(done.stdout) == Reader.load(saved).describe()


def test_info_and_images_at_once_or_neither_is_an_error(saved, shipped, run):
    for arguments in ([saved], [saved, shipped[0], "--info"]):
        done = run(*arguments)
        assert done.returncode == 2
        assert "expected images to read, or --info alone" in done.stderr
