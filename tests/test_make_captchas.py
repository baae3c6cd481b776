import hashlib

import numpy as np
import pytest

from snippet_ocr import images
from tools.make_captchas import draw_texts, main, make_captchas


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_same_seed_gives_the_same_texts():
    assert draw_texts(50, (3, 8), "abc", 1) == draw_texts(50, (3, 8), "abc", 1)
    assert draw_texts(50, (3, 8), "abc", 1) != draw_texts(50, (3, 8), "abc", 2)


def test_texts_have_the_given_lengths_and_characters():
    texts = draw_texts(500, (3, 8), "xyz7", 0)
    assert {len(text) for text in texts} == set(range(3, 9))
    assert set("".join(texts)) == set("xyz7")


def test_images_have_the_given_size_and_are_not_blank(tmp_path):
    paths = make_captchas(4, (4, 4), "abc", (160, 60), tmp_path / "new" / "folder")
    assert len(paths) == len(set(paths)) == 4
    for path in paths:
        pixels = images.load_image(path)
        assert pixels.shape == (60, 160)
        assert np.ptp(pixels) > 20


def test_repeated_text_gets_a_copy_number_and_overwrites_nothing(tmp_path):
    make_captchas(3, (1, 1), "a", out=tmp_path)
    before = digests(tmp_path)
    assert sorted(before) == ["a.png", "a_1.png", "a_2.png"]
    make_captchas(2, (1, 1), "a", out=tmp_path)
    after = digests(tmp_path)
    assert {name: after[name] for name in before} == before
    assert sorted(set(after) - set(before)) == ["a_3.png", "a_4.png"]


@pytest.mark.parametrize(
    "wrong",
    [
        ["--count", "0"],
        ["--length", "0"],
        ["--length", "5-3"],
        ["--alphabet", "a/b"],
        ["--alphabet", "a_b"],
        ["--size", "5x5"],
        ["--size", "9999x20"],
    ],
)
def test_impossible_arguments_are_refused_and_write_nothing(wrong, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["--count", "1", "--out", str(out), *wrong]) == 2
    assert "Expected" in capsys.readouterr().err
    assert not out.exists()


def test_command_draws_into_the_given_folder(tmp_path, capsys):
    assert main(["--count", "5", "--length", "3-4", "--out", str(tmp_path)]) == 0
    assert f"5 new images in {tmp_path}\n" in capsys.readouterr().out
    assert {len(path.stem.split("_")[0]) for path in tmp_path.glob("*.png")} <= {3, 4}
    assert len(list(tmp_path.iterdir())) == 5


def test_included_images_are_those_the_documentation_describes(shipped):
    assert len(shipped) == 1040
    assert sum(path.stat().st_size for path in shipped) < 8_000_000
    texts = draw_texts(1040, (5, 5), "2345678bcdefgmnpwxy", 0)
    assert sorted(path.stem.split("_")[0] for path in shipped) == sorted(texts)
    assert images.load_image(shipped[0]).shape == (50, 200)
