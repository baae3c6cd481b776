import sys
import zipfile

import keras
import numpy as np
import pytest

from conftest import full_disk
from examples import ALPHABET
from snippet_ocr import ImageError, ReaderError, images, model_file, terminal
from snippet_ocr.constraints import Constraint
from snippet_ocr.model_file import DESCRIPTION
from snippet_ocr.reader import Reader, Reading


def texts(readings):
    return [reading.text for reading in readings]


def test_loaded_reader_reads_what_the_saved_one_reads(model, saved, shipped):
    before, after = Reader(model, ALPHABET, [80]), Reader.load(saved)
    prepared = np.stack(before.prepare(shipped[:20]))
    expected = model.predict_on_batch(prepared)
    np.testing.assert_allclose(after.model.predict_on_batch(prepared), expected, rtol=1e-4, atol=1e-5)
    assert texts(before.read(shipped[:20])) == texts(after.read(shipped[:20]))
    assert after.alphabet == ALPHABET
    assert after.provenance == {"seed": 3}
    assert any(texts(after.read(shipped[:20])))


def test_saved_weights_are_those_of_the_model_bit_for_bit(model, saved):
    loaded = Reader.load(saved).model
    for expected, found in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_keras_opens_a_saved_reader_as_a_model(saved):
    assert keras.saving.load_model(saved).input_shape == (None, 24, None)


def test_save_leaves_no_other_file(saved):
    assert [path.name for path in saved.parent.iterdir()] == ["reader.keras"]


@pytest.mark.parametrize("existing", [False, True])
def test_full_disk_leaves_the_old_reader_or_none(model, tmp_path, existing):
    path = tmp_path / "reader.keras"
    if existing:
        path.write_bytes(b"old")
    with full_disk(100_000), pytest.raises(OSError, match="File too large"):
        Reader(model, ALPHABET, [80]).save(path)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == (
        {"reader.keras": b"old"} if existing else {}
    )


def test_path_bytes_and_array_of_an_image_read_the_same(saved, shipped):
    reader, path = Reader.load(saved), shipped[0]
    expected = reader.read([path])[0]
    for reading in reader.read([path, str(path), path.read_bytes(), images.load_image(path)]):
        assert reading.text == expected.text
        assert reading.confidence == pytest.approx(expected.confidence, rel=1e-3)


def test_confidence_is_the_probability_by_keras_ctc_loss(saved, shipped):
    reader = Reader.load(saved)
    prepared = reader.prepare(shipped[:10])
    logits = reader.model.predict_on_batch(np.stack(prepared))
    for row, reading in zip(logits, reader.read(prepared), strict=True):
        label = np.array([ALPHABET.encode(reading.text)], dtype="int32")
        length = np.array([len(reading.text)])
        loss = keras.ops.ctc_loss(label, row[np.newaxis], length, np.array([len(row)]), mask_index=0)
        assert reading.confidence == pytest.approx(float(np.exp(-loss[0])), rel=1e-3)


@pytest.mark.parametrize("threads", [1, 3])
def test_images_of_several_batches_keep_their_order(saved, shipped, threads):
    reader = Reader.load(saved)
    reader.batch_size, reader.threads = 4, threads
    assert texts(reader.read(shipped[:10])) == [reader.read([path])[0].text for path in shipped[:10]]


@pytest.mark.parametrize("threads", [1, 3])
def test_images_of_different_widths_are_read_as_if_alone(model, threads):
    reader = Reader(model, ALPHABET, [48, 80, 120])
    reader.batch_size, reader.threads = 2, threads
    generator = np.random.default_rng(0)
    sources = [
        generator.integers(0, 256, (24, width)).astype("uint8") for width in generator.integers(9, 150, 30)
    ]
    assert {image.shape for image in reader.prepare(sources)} == {(24, 48), (24, 80), (24, 120)}
    alone = [reader.read([source], top=2, characters=True)[0] for source in sources]
    for expected, found in zip(alone, reader.read(sources, top=2, characters=True), strict=True):
        assert [found.text, *texts(found.alternatives)] == [expected.text, *texts(expected.alternatives)]
        assert found.confidence == pytest.approx(expected.confidence, rel=1e-4)
        assert found.character_confidences == pytest.approx(expected.character_confidences, rel=1e-4)
    assert reader.time_steps == 30


@pytest.mark.parametrize("threads", [1, 3])
def test_read_each_takes_only_a_few_batches_in_advance(saved, shipped, threads):
    reader = Reader.load(saved)
    reader.batch_size, reader.threads = 2, threads
    taken = []
    readings = reader.read_each(taken.append(path) or path for path in shipped[:40])
    for number, _ in enumerate(readings, start=1):
        assert len(taken) <= number + 2 * (threads + 1)
    assert number == 40


def test_unreadable_image_is_named_and_the_others_are_read(saved, shipped, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    reader = Reader.load(saved)
    found = dict(reader.read_each([shipped[0], broken, shipped[1]]))
    assert isinstance(found[broken], ImageError)
    assert isinstance(found[shipped[0]], Reading)
    assert isinstance(found[shipped[1]], Reading)
    for read in (reader.read, reader.prepare):
        with pytest.raises(ImageError, match=f"{broken} is not an image"):
            read([shipped[0], broken])
        with pytest.raises(ValueError, match="image 1 is not an image"):
            read([shipped[0], b"nothing"])


def test_threshold_is_saved(model, tmp_path):
    path = tmp_path / "reader.keras"
    Reader(model, ALPHABET, [80], threshold=0.75).save(path)
    assert Reader.load(path).threshold == 0.75


def test_readers_of_temperature_one_are_read_and_others_refused(model, tmp_path):
    path, metadata = tmp_path / "reader.keras", Reader(model, ALPHABET, [80]).metadata()
    model_file.save(model, {**metadata, "temperature": 1.0}, path)
    assert Reader.load(path).alphabet == ALPHABET
    model_file.save(model, {**metadata, "temperature": 1.2}, path)
    with pytest.raises(ValueError, match=r"its temperature is 1\.2; .*Train again"):
        Reader.load(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"threshold": 1.5}, "threshold 1.5"),
        ({"threshold": "1"}, "threshold '1'"),
        ({"alphabet": "aa"}, "no valid alphabet"),
        ({"alphabet": "abcdé x"}, "8 classes.*has 7"),
    ],
)
def test_invalid_metadata_is_refused(model, tmp_path, changes, reason):
    path = tmp_path / "reader.keras"
    model_file.save(model, {"format": 2, "widths": [80], "alphabet": ALPHABET.characters, **changes}, path)
    with pytest.raises(ReaderError, match=rf"reader\.keras is not one: .*{reason}"):
        Reader.load(path)


def test_metadata_is_a_member_of_the_saved_file(saved):
    with zipfile.ZipFile(saved) as archive:
        assert DESCRIPTION in archive.namelist()
    found = Reader.load(saved).metadata()
    assert (found["alphabet"], found["widths"], found["image_height"]) == ("abcdé ", [80], 24)
    assert (found["threshold"], found["provenance"]) == (None, {"seed": 3})


def test_characters_have_confidences_if_requested(saved, shipped):
    for reading in Reader.load(saved).read(shipped[:5], characters=True):
        assert len(reading.character_confidences) == len(reading.text)
        # A character given the others is at least as probable as the whole text.
        assert all(one >= reading.confidence - 1e-9 for one in reading.character_confidences)


def test_empty_list_gives_no_readings(saved):
    assert Reader.load(saved).read([]) == []


def test_file_that_is_not_a_reader_is_named(tmp_path, model):
    with pytest.raises(ReaderError, match=r"missing\.keras. There is no such file"):
        Reader.load(tmp_path / "missing.keras")
    with pytest.raises(ValueError, match=f"{tmp_path}. That is a folder"):
        Reader.load(tmp_path)
    (tmp_path / "text.keras").write_text("hello")
    with pytest.raises(ReaderError, match=r"text\.keras is not one"):
        Reader.load(tmp_path / "text.keras")
    model.save(tmp_path / "plain.keras")
    with pytest.raises(ValueError, match=r"plain\.keras is not one.*reader\.json"):
        Reader.load(tmp_path / "plain.keras")


@pytest.mark.parametrize(
    ("package", "name", "reason"),
    [("keras", "reader.keras", "Expected Keras"), ("onnxruntime", "reader.onnx", "Expected onnxruntime")],
)
def test_missing_package_is_named(package, name, reason, saved, tmp_path, monkeypatch):
    (tmp_path / name).write_bytes(saved.read_bytes())
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ReaderError, match=rf"{reason}.*to read {tmp_path / name}.*pip install"):
        Reader.load(tmp_path / name)


def test_pattern_restricts_the_text_and_its_alternatives(saved, shipped):
    constraint = Constraint.pattern(ALPHABET, "[ab]c?")
    for reading in Reader.load(saved).read(shipped[:5], pattern="[ab]c?", top=3):
        found = [reading, *reading.alternatives]
        assert len(set(texts(found))) == 3
        assert all(constraint.allows(ALPHABET.encode(text)) for text in texts(found))
        confidences = [one.confidence for one in found]
        assert confidences == sorted(confidences, reverse=True)


def test_best_of_two_texts_is_at_least_as_probable_as_the_greedy_one(saved, shipped):
    reader = Reader.load(saved)
    for greedy, best in zip(reader.read(shipped[:10]), reader.read(shipped[:10], top=2), strict=True):
        assert best.confidence >= greedy.confidence * (1 - 1e-6)


def test_slow_reading_reports_its_progress(saved, shipped, monkeypatch, capsys):
    reader = Reader.load(saved)
    expected = texts(reader.read(shipped[:4]))
    monkeypatch.setattr(terminal, "PROGRESS_DELAY", 1e9)
    assert texts(reader.read(shipped[:4], progress=True)) == expected
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(terminal, "PROGRESS_DELAY", 0.0)
    assert texts(reader.read(shipped[:4], progress=True)) == expected
    assert capsys.readouterr().out.startswith("2 of 4 images read, ")


@pytest.mark.parametrize("shape", [(1, 24, None), ("n", "height", None), ("n", -24, "w"), ("n", 24, 80)])
def test_reader_without_a_free_width_and_a_height_is_refused(shape, monkeypatch):
    class Model:
        input_shape, output_shape = shape, ("n", "steps", ALPHABET.number_of_classes)

    metadata = {"alphabet": ALPHABET.characters, "widths": [80]}
    monkeypatch.setattr("snippet_ocr.model_file.load", lambda path, trusted: (Model, metadata))
    with pytest.raises(ValueError, match="reader.onnx is not one: its model maps"):
        Reader.load("reader.onnx")


class Broken:
    """A model whose output is not a number for images with a white pixel in the corner."""

    input_shape, output_shape = (None, 24, None), (None, None, ALPHABET.number_of_classes)

    def predict_on_batch(self, batch):
        logits = np.zeros((len(batch), 20, ALPHABET.number_of_classes), "float32")
        logits[batch[:, 0, 0] == 255, 3] = np.nan
        return logits


@pytest.mark.parametrize("top", [1, 2])
def test_reading_that_is_not_a_number_is_a_failed_image(top):
    reader = Reader(Broken(), ALPHABET, [80])
    black = np.zeros((24, 80), "uint8")
    results = [result for _, result in reader.read_each([black, black + 255, black], top=top)]
    assert [type(result) for result in results] == [Reading, ImageError, Reading]
    assert "NaN" in str(results[1])
    with pytest.raises(ValueError, match="image 1 cannot be read: the model returns NaN"):
        reader.read([black, black + 255], top=top)


@pytest.mark.parametrize(("width", "size"), [(80, 64), (2**12, 10), (2**16, 1)])
def test_batches_of_large_images_are_small(width, size):
    assert Reader(Broken(), ALPHABET, [width]).batch_size == size
