import zipfile

import keras
import numpy as np
import pytest

from conftest import full_disk
from examples import ALPHABET
from snippet_ocr import images, model_file
from snippet_ocr.constraints import Constraint
from snippet_ocr.model_file import DESCRIPTION
from snippet_ocr.reader import Reader, Reading


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


@pytest.mark.parametrize("there", [False, True])
def test_full_disk_leaves_the_old_file_or_none(model, tmp_path, there):
    path = tmp_path / "reader.keras"
    if there:
        path.write_bytes(b"the old one")
    with full_disk(100_000), pytest.raises(OSError, match="File too large"):
        Reader(model, ALPHABET).save(path)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == (
        {"reader.keras": b"the old one"} if there else {}
    )


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


@pytest.mark.parametrize("threads", [1, 3])
def test_more_images_than_a_batch_are_read_in_their_order(saved, shipped, threads):
    loaded = Reader.load(saved)
    loaded.batch_size, loaded.threads = 4, threads
    together = loaded.read(shipped[:10])
    assert [reading.text for reading in together] == [loaded.read([path])[0].text for path in shipped[:10]]


@pytest.mark.parametrize("threads", [1, 3])
def test_sources_are_taken_only_a_little_ahead_of_their_readings(saved, shipped, threads):
    loaded = Reader.load(saved)
    loaded.batch_size, loaded.threads = 2, threads
    taken = []
    readings = loaded.read_each(taken.append(path) or path for path in shipped[:40])
    for number, _ in enumerate(readings, start=1):
        assert len(taken) <= number + 2 * (threads + 1)
    assert number == 40


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


def test_temperature_and_threshold_travel_with_the_file_and_temper_confidence_alone(model, shipped, tmp_path):
    path = tmp_path / "reader.keras"
    Reader(model, ALPHABET, temperature=2.0, threshold=0.75).save(path)
    tempered, plain = Reader.load(path), Reader(model, ALPHABET)
    assert (tempered.temperature, tempered.threshold) == (2.0, 0.75)
    prepared = plain.prepare(shipped[:5])
    logits = model.predict_on_batch(prepared).astype("float64")
    halved = np.exp(logits / 2) / np.exp(logits / 2).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(np.exp(tempered.log_probabilities(prepared)), halved, rtol=1e-6)
    for one, other in zip(tempered.read(shipped[:5]), plain.read(shipped[:5]), strict=True):
        assert one.text == other.text


@pytest.mark.parametrize("changed", [{"temperature": 0}, {"temperature": "2"}, {"threshold": 1.5}])
def test_impossible_temperature_or_threshold_is_refused(model, tmp_path, changed):
    path = tmp_path / "reader.keras"
    model_file.save(model, {"alphabet": ALPHABET.characters, **changed}, path)
    with pytest.raises(ValueError, match=r"reader\.keras is none.*temperature"):
        Reader.load(path)


def test_confidences_of_characters_are_told_if_asked_for(saved, shipped):
    loaded = Reader.load(saved)
    for reading in loaded.read(shipped[:5], characters=True):
        assert len(reading.character_confidences) == len(reading.text)
        # Each character given the others is more probable than all together.
        assert all(one >= reading.confidence - 1e-9 for one in reading.character_confidences)


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


def test_reading_that_takes_long_reports_how_far_it_is(saved, shipped, monkeypatch, capsys):
    reader = Reader.load(saved)
    expected = [reading.text for reading in reader.read(shipped[:4])]
    assert [reading.text for reading in reader.read(shipped[:4], progress=True)] == expected
    assert capsys.readouterr().out == ""
    monkeypatch.setattr("terminal.PROGRESS_DELAY", 0.0)
    assert [reading.text for reading in reader.read(shipped[:4], progress=True)] == expected
    assert capsys.readouterr().out.startswith("1 of 4 images read, ")
