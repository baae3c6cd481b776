"""Images without labels, whose confident readings serve as labels."""

import shutil

import pytest
from PIL import Image

import utils
from snippet_ocr import Reading


@pytest.fixture
def more(tmp_path, shipped):
    """A folder of three images that `image_folder` lacks."""
    folder = tmp_path / "more"
    folder.mkdir()
    taken = {path.name for path in (tmp_path / "some images").iterdir()}
    for path in [path for path in shipped if path.name not in taken][:3]:
        shutil.copy(path, folder)
    return folder


def test_copies_of_labelled_images_and_damaged_files_are_left_out(image_folder, more, capsys):
    samples, _ = utils.find_images(image_folder)
    expected = sorted(more.iterdir())
    shutil.copy(samples[0].path, more / "a labelled one.png")
    shutil.copy(expected[0], more / "zz the same.png")
    with Image.open(samples[1].path) as image:  # nearly the same
        image.convert("L").save(more / "saved again.jpg", quality=90)
    (more / "damaged.png").write_bytes(b"no image")
    found = utils.find_unlabelled(more, samples)
    assert [sample.path for sample in found] == expected
    assert {sample.label for sample in found} == {""}
    output = capsys.readouterr().out
    assert output.startswith("3 unlabelled images; 1 files skipped, 3 copies left out")
    assert f"{more / 'damaged.png'} " in output


def test_no_folder_means_no_unlabelled_images():
    assert utils.find_unlabelled("", []) == []


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=str(tmp_path / "none")):
        utils.find_unlabelled(tmp_path / "none", [])


def test_only_confident_readings_that_fit_the_model_become_labels(image_folder):
    samples = [sample._replace(label="") for sample in utils.find_images(image_folder)[0][:5]]
    readings = [Reading("2b827", 0.99), Reading("abc", 0.89), Reading("", 0.99), Reading("1234567", 1.0)]
    readings.append(Reading("x", 0.9))

    class FixedReader:
        def read(self, paths, progress):
            assert paths == [sample.path for sample in samples]
            return readings

    found = utils.read_confidently(FixedReader(), samples, max_label_length=6)
    assert [(one.path, one.label) for one in found] == [(samples[0].path, "2b827"), (samples[4].path, "x")]


class Training:
    """Stands for the model and the checkpoint of a training."""

    def __init__(self, loss, complete=True):
        self.loss, self.complete = loss, complete

    def best(self, name):
        assert name == "val_clipped_loss"
        return self.loss


def rounds(first, later, readings, folder):
    """Runs `train_in_rounds`; returns the training that is kept, what it learned, and the folders."""
    later, readings, folders = iter(later), iter([*readings, []]), []

    def train(samples, folder, heading):
        folders.append(folder.name)
        training = next(later)
        training.samples = samples
        return training, training

    def read(model):
        return next(readings)

    (best, _), learned = utils.train_in_rounds(train, (first, first), ["labelled"], read, 2, folder)
    assert learned == (["labelled"] if best is first else best.samples)
    return best, learned, folders


def test_rounds_are_kept_while_the_validation_loss_falls(image_folder, tmp_path):
    samples = utils.find_images(image_folder)[0][:5]
    first, better, worse = Training(0.3), Training(0.2), Training(0.4)
    assert rounds(first, [worse], [samples], tmp_path)[:2] == (first, ["labelled"])
    best, learned, folders = rounds(first, [better, worse], [samples[:2], samples], tmp_path)
    assert (best, learned) == (better, ["labelled", *samples[:2]])
    assert [name[:8] for name in folders] == ["round_1_", "round_2_"] and folders[0][8:] != folders[1][8:]


def test_no_round_follows_an_interrupt_or_without_confident_readings(image_folder, tmp_path):
    samples = utils.find_images(image_folder)[0][:5]
    first = Training(0.3)
    assert rounds(Training(0.3, complete=False), [], [], tmp_path)[2] == []
    assert rounds(first, [], [[]], tmp_path) == (first, ["labelled"], [])
    interrupted = Training(0.2, complete=False)
    assert rounds(first, [interrupted], [samples], tmp_path)[0] is interrupted
