import csv
import io
import json
import shutil
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

import images
import reader
from alphabet import Alphabet
from archive import DESCRIPTION
from conftest import PROJECT
from constraints import Constraint
from reader import Reader, Reading
from tools.notebook import load_build_model

ALPHABET = Alphabet("abcdé ")


@pytest.fixture(scope="module")
def model():
    """A reading model as the notebook makes it, untrained."""
    keras.utils.set_random_seed(3)
    training_model = load_build_model()(80, 24, 5, ALPHABET.number_of_classes, 4, 0.1)
    # Without its head start for the blank, an untrained model reads something.
    head = training_model.get_layer("logits")
    head.bias.assign(np.zeros(head.bias.shape))
    return keras.Model(training_model.inputs[0], head.output)


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "reader.keras"
    Reader(model, ALPHABET, {"seed": 3}).save(path)
    return path


def run(*arguments):
    command = [sys.executable, str(PROJECT / "reader.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_loaded_reader_reads_bit_for_bit_what_was_saved(model, saved, shipped):
    before, after = Reader(model, ALPHABET), Reader.load(saved)
    prepared = np.stack([images.prepare_image(path, 80, 24) for path in shipped[:20]])
    np.testing.assert_array_equal(model.predict_on_batch(prepared), after.model.predict_on_batch(prepared))
    assert before.read(shipped[:20]) == after.read(shipped[:20])
    assert after.alphabet == ALPHABET
    assert after.provenance == {"seed": 3}
    assert any(reading.text for reading in after.read(shipped[:20]))


def test_keras_opens_the_file_as_any_model(saved):
    assert keras.saving.load_model(saved).input_shape == (None, 80, 24, 1)


def test_nothing_but_the_reader_is_left_behind(saved):
    assert [path.name for path in saved.parent.iterdir()] == ["reader.keras"]


def test_one_image_reads_the_same_as_path_bytes_array_and_in_a_batch(saved, shipped):
    loaded = Reader.load(saved)
    path = shipped[0]
    sources = [path, str(path), path.read_bytes(), images.load_image(path)]
    readings = loaded.read(sources)
    assert len(set(readings)) == 1
    alone = loaded.read([path])[0]
    assert alone.text == readings[0].text
    assert alone.confidence == pytest.approx(readings[0].confidence, rel=1e-3)


def test_confidence_is_the_probability_of_the_text_by_keras_s_ctc_loss(saved, shipped):
    loaded = Reader.load(saved)
    prepared = np.stack([images.prepare_image(path, 80, 24) for path in shipped[:10]])
    logits = loaded.model.predict_on_batch(prepared)
    for row, reading in zip(logits, loaded.read_prepared(prepared), strict=True):
        label = np.array([ALPHABET.encode(reading.text)], dtype="int32")
        length = np.array([len(reading.text)])
        loss = keras.ops.ctc_loss(label, row[np.newaxis], length, np.array([len(row)]), mask_index=0)
        assert reading.confidence == pytest.approx(float(np.exp(-loss[0])), rel=1e-3)


def test_more_images_than_a_batch_are_read_in_their_order(saved, shipped, monkeypatch):
    monkeypatch.setattr(reader, "BATCH_SIZE", 4)
    loaded = Reader.load(saved)
    together = loaded.read(shipped[:10])
    assert [reading.text for reading in together] == [loaded.read([path])[0].text for path in shipped[:10]]


def test_unreadable_image_is_named_and_costs_no_other(saved, shipped, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    loaded = Reader.load(saved)
    found = dict(loaded.read_each([shipped[0], broken, shipped[1]]))
    assert isinstance(found[broken], ValueError)
    assert isinstance(found[shipped[0]], Reading)
    assert isinstance(found[shipped[1]], Reading)
    with pytest.raises(ValueError, match=f"{broken} is not an image"):
        loaded.read([shipped[0], broken])


def test_no_images_give_no_readings(saved):
    assert Reader.load(saved).read([]) == []


def test_file_that_is_no_reader_is_refused_by_name(tmp_path, model):
    with pytest.raises(ValueError, match="no such file"):
        Reader.load(tmp_path / "missing.keras")
    (tmp_path / "text.keras").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.keras is none"):
        Reader.load(tmp_path / "text.keras")
    model.save(tmp_path / "plain.keras")
    with pytest.raises(ValueError, match=r"plain\.keras is none.*reader\.json"):
        Reader.load(tmp_path / "plain.keras")


def test_alphabet_of_another_size_than_the_model_is_refused(saved, tmp_path):
    changed = tmp_path / "changed.keras"
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content.replace(b'"abcd', b'"abcdx') if name == DESCRIPTION else content)
    with pytest.raises(ValueError, match="8 classes.*has 7"):
        Reader.load(changed)


def test_command_prints_a_line_for_each_image_of_files_and_folders(saved, shipped, tmp_path):
    folder = tmp_path / "my images"
    (folder / "below").mkdir(parents=True)
    shutil.copy(shipped[1], folder / "b.PNG")
    shutil.copy(shipped[2], folder / "below" / "c.png")
    done = run(saved, shipped[0], folder)
    assert done.returncode == 0
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == [
        str(shipped[0]),
        str(folder / "b.PNG"),
        str(folder / "below" / "c.png"),
    ]
    texts = [reading.text for reading in Reader.load(saved).read(shipped[:3])]
    assert [row[1] for row in rows] == texts
    assert all(0 <= float(row[2]) <= 1 for row in rows)


def test_command_writes_csv_and_json_to_stdout_and_errors_to_stderr(saved, shipped, tmp_path):
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


def test_reader_held_to_a_constraint_reads_nothing_else_and_tells_alternatives_in_their_order(saved, shipped):
    loaded = Reader.load(saved)
    constraint = Constraint.pattern(ALPHABET, "[ab]c?")
    for reading in loaded.read(shipped[:5], constraint, top=3):
        told = [reading, *reading.alternatives]
        assert len({one.text for one in told}) == 3
        assert all(constraint.allows(ALPHABET.encode(one.text)) for one in told)
        assert [one.confidence for one in told] == sorted((one.confidence for one in told), reverse=True)


def test_best_of_several_texts_is_never_less_probable_than_the_best_path(saved, shipped):
    loaded = Reader.load(saved)
    for alone, best in zip(loaded.read(shipped[:10]), loaded.read(shipped[:10], top=2), strict=True):
        assert best.confidence >= alone.confidence - 1e-9


@pytest.mark.parametrize(
    ("options", "expected"),
    [(["--length", "2-3"], {"abc", "cab", "bad", "é d"}), (["--pattern", "?A?"], {"abc", "cab", "bad"})],
)
def test_command_honours_words_and_length_or_pattern(saved, shipped, tmp_path, capfd, options, expected):
    words = tmp_path / "words.txt"
    words.write_text("\ufeffabc\ncab\n\nbad \nabcd\ne\u0301 d\né1", encoding="utf-8")
    arguments = [str(saved), *map(str, shipped[:3]), "--words", str(words), *options, "--top", "4", "--json"]
    assert reader.main(arguments) == 0
    for row in json.loads(capfd.readouterr().out):
        texts = [value for key, value in row.items() if key.startswith("text")]
        assert len(texts) == len(expected)
        assert set(texts) == expected


def test_command_writes_as_many_columns_as_texts_were_asked_for(saved, shipped):
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
def test_constraint_that_cannot_be_met_is_an_error(saved, shipped, capfd, options, message):
    arguments = [str(saved), str(shipped[0]), *options]
    try:
        code = reader.main(arguments)
    except SystemExit as exit:  # argparse found it
        code = exit.code
    assert code == 2
    assert message in capfd.readouterr().err


def test_command_without_model_or_images_says_so_in_a_line(saved, tmp_path):
    missing = run(tmp_path / "none.keras", PROJECT / "captcha_images")
    empty = run(saved, tmp_path)
    assert (missing.returncode, empty.returncode) == (2, 2)
    assert missing.stderr.strip().endswith(f"{tmp_path}/none.keras. There is no such file.")
    assert empty.stderr.strip().endswith(f"in {tmp_path}. Found none.")
    assert missing.stdout == empty.stdout == ""


def test_command_whose_output_nobody_reads_ends_quietly(saved, shipped):
    command = [sys.executable, str(PROJECT / "reader.py"), str(saved), *map(str, shipped[:300])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait() == 1
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors


def test_command_reads_files_whose_names_are_no_text(saved, shipped, tmp_path):
    shutil.copy(shipped[0], bytes(tmp_path) + b"/caf\xe9.png")
    done = run(saved, tmp_path)
    assert done.returncode == 0
    assert "caf\\xe9.png" in done.stdout


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_killed_reading_goes_on_where_it_was(saved, shipped, tmp_path, capfd, monkeypatch):
    loaded = Reader.load(saved)
    monkeypatch.setattr(Reader, "load", lambda path: loaded)
    folder = tmp_path / "images"
    folder.mkdir()
    for number, name in enumerate(['a "b", c.png', "d\ne.png", "f.png", "gü.png"]):
        shutil.copy(shipped[number], folder / name)
    good = sorted(map(str, folder.iterdir()))
    (folder / "broken.png").write_bytes(b"nothing")
    out = tmp_path / "readings.csv"
    arguments = [str(saved), str(folder), "--out", str(out), "--top", "2"]
    assert reader.main(arguments) == 1
    whole, rows = out.read_bytes(), rows_of(out)
    assert [row["file"] for row in rows] == good
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        out.write_bytes(whole[:length])
        assert reader.main([*arguments, "--resume"]) == 1
        assert rows_of(out) == rows
    assert "4 of 5 images are read already" not in capfd.readouterr().err
    assert reader.main([*arguments, "--resume"]) == 1
    assert rows_of(out) == rows
    assert "4 of 5 images are read already" in capfd.readouterr().err


def test_file_of_results_is_neither_overwritten_nor_mixed(saved, shipped, tmp_path, capfd):
    out = tmp_path / "readings.csv"
    out.write_bytes(b"file,text\r\na.png,b\r\n")
    for options, message in (([], "Expected nothing at"), (["--resume"], "file, text, confidence")):
        assert reader.main([str(saved), str(shipped[0]), "--out", str(out), *options]) == 2
        assert message in capfd.readouterr().err
        assert out.read_bytes() == b"file,text\r\na.png,b\r\n"


def test_resume_without_a_file_is_an_error(saved, shipped):
    with pytest.raises(SystemExit):
        reader.main([str(saved), str(shipped[0]), "--resume"])
