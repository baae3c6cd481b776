"""The command `snippet-ocr`, as users run it."""

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
from onnx import helper, load

from conftest import PROJECT, full_disk
from examples import ALPHABET
from snippet_ocr import cli
from snippet_ocr.reader import Reader
from training import export

COMMAND = [sys.executable, "-m", "snippet_ocr", "read"]


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def onnx(model, shipped, tmp_path_factory):
    """The path of a reader that loads without Keras."""
    path = tmp_path_factory.mktemp("onnx") / "reader.onnx"
    reader = Reader(model, ALPHABET, [80], {"seed": 3})
    export.export(reader, path, reader.prepare(shipped[:20]))
    return path


@pytest.fixture
def run(capfd):
    """Runs the command in this process, which is faster."""

    def run(*arguments):
        try:
            code = cli.main(list(map(str, arguments)))
        except SystemExit as exit:  # argparse found an error
            code = exit.code
        return Done(code, *capfd.readouterr())

    return run


def read_rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_read_prints_a_line_per_image_of_files_and_folders(saved, shipped, tmp_path):
    folder = tmp_path / "my images"
    (folder / "below").mkdir(parents=True)
    shutil.copy(shipped[1], folder / "b.PNG")
    shutil.copy(shipped[2], folder / "below" / "c.png")
    done = subprocess.run(
        [*COMMAND, saved, shipped[0], folder], capture_output=True, text=True, check=True, cwd=PROJECT
    )
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    paths = [shipped[0], folder / "b.PNG", folder / "below" / "c.png"]
    readings = Reader.load(saved).read(shipped[:3])
    assert [row[:2] for row in rows] == [
        [str(path), reading.text] for path, reading in zip(paths, readings, strict=True)
    ]
    for (_, _, confidence), reading in zip(rows, readings, strict=True):
        assert float(confidence) == pytest.approx(reading.confidence, abs=2e-4)


def test_csv_and_json_go_to_stdout_and_errors_to_stderr(onnx, shipped, tmp_path, run):
    broken = tmp_path / 'broken "one", two.png'
    broken.write_bytes(b"nothing")
    as_csv, as_json = (
        run("read", onnx, shipped[0], broken, shipped[1], form) for form in ("--csv", "--json")
    )
    rows = list(csv.DictReader(io.StringIO(as_csv.stdout)))
    objects = list(map(json.loads, as_json.stdout.splitlines()))
    assert [row["file"] for row in rows] == [row["file"] for row in objects] == [str(p) for p in shipped[:2]]
    for row, found in zip(rows, objects, strict=True):
        assert list(row) == list(found) == ["file", "text", "confidence"]
        assert row["text"] == found["text"]
        assert float(row["confidence"]) == pytest.approx(found["confidence"], abs=2e-4)
    for done in (as_csv, as_json):
        assert done.returncode == 1
        assert f"{broken} is not an image" in done.stderr
        assert "1 of 3 images could not be read" in done.stderr


def test_progress_goes_to_stderr(onnx, shipped, run, monkeypatch):
    monkeypatch.setattr("snippet_ocr.terminal.PROGRESS_DELAY", 0.0)
    done = run("read", onnx, *shipped[:3])
    assert len(done.stdout.splitlines()) == 3
    assert "2 of 3 images read, " in done.stderr


@pytest.mark.parametrize(
    ("options", "expected"),
    [(["--length", "2-3"], {"abc", "cab", "bad", "é d"}), (["--pattern", "?A?"], {"abc", "cab", "bad"})],
)
def test_words_combine_with_length_and_pattern(onnx, shipped, tmp_path, run, options, expected):
    words = tmp_path / "words.txt"
    words.write_text("\ufeffabc\ncab\n\nbad \nabcd\ne\u0301 d\né1", encoding="utf-8")
    done = run("read", onnx, *shipped[:3], "--words", words, *options, "--top", "4", "--json")
    assert done.returncode == 0
    for row in map(json.loads, done.stdout.splitlines()):
        texts = [value for key, value in row.items() if key.startswith("text")]
        assert len(texts) == len(expected)
        assert set(texts) == expected


def test_top_adds_columns_for_each_candidate(onnx, shipped, run):
    done = run("read", onnx, shipped[0], "--csv", "--top", "3")
    header, row = csv.reader(io.StringIO(done.stdout))
    assert header == ["file", "text", "confidence", "text_2", "confidence_2", "text_3", "confidence_3"]
    assert len(row) == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--length", "6-4"], "6 to 4"),
        (["--length", "six"], "a number or a range such as 3-8"),
        (["--pattern", "A-9"], "None matches '-'"),
        (["--pattern", "[ab"], "unterminated character set"),
        (["--pattern", "aa", "--length", "3"], "There is none. Relax one"),
        (["--length", "500"], "There is none. Relax one"),
        (["--pattern", 21 * "a"], "There is none. Relax one"),  # needs 41 steps; the reader has 20
        (["--words", "missing.txt"], "missing.txt"),
        (["--words", ""], "a UTF-8 text file with one word per line"),
        (["--top", "0"], "from 1 to 1000"),
        (["--top", "99999"], "from 1 to 1000"),
        ([""], "Received an empty name"),
        (["--min-confidence", "auto"], "docs/trust.md"),
        (["--min-confidence", "1.5"], "a number from 0 to 1"),
        (["--min-confidence", "nan"], "a number from 0 to 1"),
        (["--min-confidence", "much"], "a number from 0 to 1"),
        (["--resume"], "--resume needs --out"),
        (["--csv", "--json"], "not allowed with"),
    ],
)
def test_invalid_option_exits_with_2_and_a_message(onnx, shipped, run, options, message):
    done = run("read", onnx, shipped[0], *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_missing_reader_and_empty_folder_exit_with_2(onnx, tmp_path, run):
    missing = run("read", tmp_path / "none.keras", PROJECT / "captcha_images")
    empty = run("read", onnx, tmp_path)
    assert missing[:2] == empty[:2] == (2, "")
    assert f"{tmp_path}/none.keras" in missing.stderr
    assert str(tmp_path) in empty.stderr


@pytest.mark.parametrize("arguments", [[], ["read"], ["read", "reader.onnx"], ["info"], ["reader.onnx", "x"]])
def test_incomplete_command_shows_its_usage(run, arguments):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: snippet-ocr")


@pytest.mark.parametrize("command", [["info"], ["read"]])
def test_closed_pipe_ends_the_command_quietly(onnx, shipped, command):
    files = map(str, shipped[:300] if command == ["read"] else [])
    process = subprocess.Popen(
        [*COMMAND[:-1], *command, str(onnx), *files],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait() == 1
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors
    process.stderr.close()


def test_file_name_that_is_not_utf8_is_escaped(onnx, shipped, tmp_path, run):
    shutil.copy(shipped[0], bytes(tmp_path) + b"/caf\xe9.png")
    done = run("read", onnx, tmp_path)
    assert done.returncode == 0
    assert "caf\\xe9.png" in done.stdout


def test_interrupted_reading_resumes_where_it_stopped(onnx, shipped, tmp_path, run):
    folder = tmp_path / "images"
    folder.mkdir()
    for number, name in enumerate(['a "b", c.png', "d\ne.png", "f.png", "gü.png"]):
        shutil.copy(shipped[number], folder / name)
    good = sorted(map(str, folder.iterdir()))
    (folder / "broken.png").write_bytes(b"nothing")
    out = tmp_path / "readings.csv"
    arguments = ["read", onnx, folder, "--out", out, "--top", "2"]
    assert run(*arguments).returncode == 1
    complete, rows = out.read_bytes(), read_rows(out)
    assert [row["file"] for row in rows] == good
    for length in (0, 10, len(complete) // 2, len(complete) - 1, len(complete)):
        out.write_bytes(complete[:length])
        done = run(*arguments, "--resume")
        assert done.returncode == 1
        assert [(row["file"], row["text"]) for row in read_rows(out)] == [
            (row["file"], row["text"]) for row in rows
        ]
        assert (f"4 of 5 images are already in {out}" in done.stderr) == (length == len(complete))


def test_existing_output_is_neither_overwritten_nor_mixed(onnx, shipped, tmp_path, run):
    out = tmp_path / "readings.csv"
    out.write_bytes(b"file,text\r\na.png,b\r\n")
    for options, message in (([], f"{out} exists. Add --resume"), (["--resume"], "file, text, confidence")):
        done = run("read", onnx, shipped[0], "--out", out, *options)
        assert done.returncode == 2
        assert message in done.stderr
        assert out.read_bytes() == b"file,text\r\na.png,b\r\n"


def test_output_needs_an_existing_folder(onnx, shipped, tmp_path, run):
    done = run("read", onnx, shipped[0], "--out", tmp_path / "none" / "readings.csv")
    assert done.returncode == 2
    assert f"Create {tmp_path / 'none'} first" in done.stderr


def test_killed_parallel_readings_resume_with_xargs(onnx, shipped, tmp_path):
    images = tmp_path / "my images"
    for name in ("a", "b", "c d"):
        (images / name).mkdir(parents=True)
        for number in range(1500):
            (images / name / f"{number:04}.png").symlink_to(shipped[number % 100])
    script = (
        f"find '{images}' -mindepth 1 -maxdepth 1 -type d -print0 | "
        f"xargs -0 -P 2 -I{{}} '{sys.executable}' -m snippet_ocr read '{onnx}' {{}} --out {{}}.csv --resume"
    )
    quiet = {"cwd": PROJECT, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

    def count_rows():
        return sum(path.read_bytes().count(b"\n") for path in images.glob("*.csv"))

    first = subprocess.Popen(["sh", "-c", script], start_new_session=True, **quiet)
    while first.poll() is None and count_rows() < 100:
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert 100 <= count_rows() < 4500
    assert subprocess.run(["sh", "-c", script], **quiet).returncode == 0
    for name in ("a", "b", "c d"):
        files = [row["file"] for row in read_rows(images / f"{name}.csv")]
        assert sorted(files) == sorted(map(str, (images / name).iterdir()))


def test_low_confidence_is_marked_for_review(model, saved, shipped, tmp_path, run):
    confidences = sorted(reading.confidence for reading in Reader.load(saved).read(shipped[:9]))
    threshold = (confidences[3] + confidences[4]) / 2
    with_threshold = tmp_path / "reader.keras"
    Reader(model, ALPHABET, [80], threshold=threshold).save(with_threshold)
    for path, value in ((saved, threshold), (with_threshold, "auto")):
        done = run("read", path, *shipped[:9], "--min-confidence", value, "--csv")
        assert done.returncode == 0
        reviews = [row["review"] for row in csv.DictReader(io.StringIO(done.stdout))]
        assert sorted(reviews) == 5 * [""] + 4 * ["needs review"]


def test_characters_adds_one_confidence_per_character(onnx, shipped, run):
    rows = csv.DictReader(io.StringIO(run("read", onnx, *shipped[:5], "--characters", "--csv").stdout))
    for row in rows:
        assert len(row["characters"].split()) == len(row["text"])
        assert all(0 <= float(confidence) <= 1 for confidence in row["characters"].split())


def test_full_disk_is_reported_and_reading_resumes(onnx, shipped, tmp_path, run):
    out = tmp_path / "readings.csv"
    with full_disk(300):
        done = run("read", onnx, *shipped[:9], "--out", out)
    assert done.returncode == 1
    assert f"{out} cannot be written: File too large. Use --resume" in done.stderr
    assert out.stat().st_size <= 300
    assert run("read", onnx, *shipped[:9], "--out", out, "--resume").returncode == 0
    assert [row["file"] for row in read_rows(out)] == list(map(str, shipped[:9]))


def test_full_disk_behind_stdout_is_reported(onnx, shipped):
    with open("/dev/full", "w") as out:
        done = subprocess.run(
            [*COMMAND, onnx, *shipped[:9]], stdout=out, stderr=subprocess.PIPE, text=True, cwd=PROJECT
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "standard output cannot be written: No space left on device."


def test_info_prints_the_metadata_of_a_reader(saved, onnx, run):
    for path in (saved, onnx):
        done = run("info", path)
        assert done.returncode == 0
        assert json.loads(done.stdout) == Reader.load(path).metadata()


def test_options_may_stand_between_reader_and_images(onnx, shipped, run):
    expected = run("read", onnx, *shipped[:2], "--csv", "--length", "5")
    assert expected.returncode == 0
    assert run("read", onnx, "--csv", *shipped[:2], "--length", "5") == expected
    assert run("read", "--length", "5", onnx, shipped[0], "--csv", shipped[1]) == expected


def test_rows_of_other_options_are_not_mixed(onnx, shipped, tmp_path, run):
    out, words = tmp_path / "readings.csv", tmp_path / "words.txt"
    words.write_text("abc\ncab\n")
    arguments = ["read", onnx, shipped[0], "--out", out, "--resume"]
    assert run(*arguments, "--words", words).returncode == 0
    content = out.read_bytes()
    words.write_text("abc\n")
    for options, message in (
        ([], "words was"),
        (["--words", words], "words was"),
        (["--length", "3"], "length"),
    ):
        done = run(*arguments, *options)
        assert (done.returncode, message in done.stderr) == (2, True)
    words.write_text("abc\ncab\n")
    assert run(*arguments, "--words", words).returncode == 0
    assert out.read_bytes() == content


def test_closed_output_and_interrupt_end_without_traceback(onnx, shipped, tmp_path, run, monkeypatch):
    command = f"'{sys.executable}' -m snippet_ocr read '{onnx}' '{shipped[0]}' "
    done = subprocess.run(command + ">&-", shell=True, stderr=subprocess.PIPE, text=True, cwd=PROJECT)
    assert done.returncode == 1
    assert done.stderr == "Expected an open standard output. It is closed. Use --out FILE.csv.\n"
    out = tmp_path / "readings.csv"
    assert subprocess.run(f"{command} --out '{out}' >&- 2>&-", shell=True, cwd=PROJECT).returncode == 0
    assert len(read_rows(out)) == 1

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(Reader, "load", interrupt)
    assert run("read", onnx, shipped[0]) == (130, "", "interrupted\n")


def test_model_with_other_operations_needs_trust(onnx, shipped, run, tmp_path):
    model = load(onnx)
    (last,) = [node for node in model.graph.node if "log_probabilities" in node.output]
    last.output[0] = "before"
    model.graph.node.append(helper.make_node("Selu", ["before"], ["log_probabilities"]))
    path = tmp_path / "mine.onnx"
    path.write_bytes(model.SerializeToString())
    for command in (["read", path, shipped[0]], ["info", path]):
        refused = run(*command)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "'Selu'" in refused.stderr
        assert "use trusted=True or --trust" in refused.stderr
        assert run(*command, "--trust").returncode == 0


def test_over_long_name_does_not_stop_the_others(onnx, shipped, run):
    done = run("read", onnx, shipped[0], 300 * "a" + ".png")
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 1)
    assert "cannot be read: File name too long" in done.stderr


def test_shell_completes_options_commands_and_files(tmp_path):
    (tmp_path / "reader.onnx").touch()
    for line, expected in (
        ("snippet-ocr ", {"info", "read"}),
        ("snippet-ocr read --re", {"--resume "}),
        ("snippet-ocr read rea", {"reader.onnx "}),
    ):
        answer = tmp_path / "answer"
        variables = {
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_IFS": "\n",
            "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        }
        cursor = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "PYTHONPATH": str(PROJECT)}
        environment = os.environ | variables | cursor
        subprocess.run(COMMAND[:-1], cwd=tmp_path, env=environment, check=True)
        assert expected <= set(answer.read_text().split("\n"))
