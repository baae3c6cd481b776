import functools
import hashlib
import re

import numpy as np
import pytest
from fontTools.ttLib import TTFont
from PIL import Image, features

from tools.draw_text import Drawing, draw, main
from tools.drawing import texts
from tools.drawing.fonts import MATPLOTLIB, draws, find_fonts
from tools.drawing.image import choose_font, draw_image, draw_ink
from tools.drawing.styles import STYLES
from training.labels import find_labels

FONTS = find_fonts(MATPLOTLIB)  # wherever the tests run


def drawn_texts(source, count=400):
    drawing = Drawing(FONTS, source)
    return [drawing.text(number)[0] for number in range(count)]


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_images_depend_on_the_seed_but_not_on_the_processes(tmp_path):
    for name, seed, processes in [("one", 3, 1), ("two", 3, 2), ("other", 4, 1)]:
        draw(tmp_path / name, 60, Drawing(FONTS, seed=seed), processes)
    one, two, other = (digests(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert len(one) == 61
    assert not {*one.values()} & {*other.values()}


def test_label_file_has_the_text_of_each_image(tmp_path):
    drawing = Drawing(FONTS, functools.partial(texts.random_text, ',"a\\', (1, 5)), heights=(30, 40))
    draw(tmp_path, 20, drawing)
    labels = find_labels(tmp_path, sorted(tmp_path.iterdir()))
    assert labels.source == "labels.csv (file, text)"
    assert labels.problems == []
    found = {path.name: text for path, text in labels.texts.items()}
    assert found == {f"{number:06}.png": drawing.text(number)[0] for number in range(1, 21)}
    for path in labels.texts:
        assert Image.open(path).mode == "L"
        assert 30 <= Image.open(path).height <= 40


def edges_to_the_upper_right(text, style):
    """The share of edges above the diagonal, minus one half: L is below it, 7 above."""
    scores = []
    for seed in range(60):
        image = draw_image(text, style, FONTS, (48, 48), np.random.default_rng(seed))
        pixels = np.asarray(image.resize((24, 24)), "float32")
        edges = np.abs(np.gradient(pixels)).sum(axis=0)
        scores.append(np.triu(edges, 1).sum() / (np.triu(edges, 1) + np.tril(edges, -1)).sum() - 0.5)
    return np.mean(scores)


@pytest.mark.parametrize("style", STYLES)
def test_text_is_visible_in_each_style(style):
    assert (
        edges_to_the_upper_right("7", style) - edges_to_the_upper_right("L", style) > 0.04
    )  # its noise is 0.02


@pytest.mark.parametrize("style", STYLES)
def test_paper_and_ink_may_each_be_the_darker_one(style):
    images = [draw_image("HHHH", style, FONTS, (40, 40), np.random.default_rng(seed)) for seed in range(30)]
    skews = [np.mean(pixels) - np.median(pixels) for pixels in map(np.asarray, images)]
    assert min(skews) < 0 < max(skews)


def test_seven_segments_show_a_digit():
    ink = draw_ink("7", "display", FONTS, np.random.default_rng(1))
    seen = np.asarray(ink) > 100
    height, width = seen.shape
    assert seen[: height // 6].any(axis=0).mean() > 0.5  # the bar at the top
    assert seen[:, -width // 3 :].any(axis=1).mean() > 0.7  # both bars on the right
    assert not seen[height // 3 :, : width // 2].any()


def test_mix_has_all_letters_digits_and_kinds_in_up_to_16_characters():
    found = drawn_texts(None, 3000)
    assert {*texts.ALPHANUMERIC} < {*"".join(found)}
    assert {len(text) for text in found} == set(range(1, 17))
    assert all(text == text.strip() for text in found)
    for pattern in (
        r"\d+",
        r"[A-Z][a-z]+",
        r"\d+\.\d\d",
        r"\d\d/\d\d/\d{4}",
        r"[A-Z]{3}-\d{4}",
        r"[a-z]+ [a-z]+",
    ):
        assert sum(bool(re.fullmatch(pattern, text)) for text in found) > 5


def test_random_texts_have_the_given_characters_and_lengths():
    found = drawn_texts(functools.partial(texts.random_text, "xyz7", (2, 5)))
    assert {*"".join(found)} == {*"xyz7"}
    counts = np.bincount([len(text) for text in found])
    assert counts[:2].sum() == 0
    assert len(counts) == 6
    assert counts[2:].min() > 60  # of 100 expected


def test_spaces_at_the_ends_of_a_text_are_not_in_its_label():
    found = drawn_texts(functools.partial(texts.random_text, "ab ", (1, 3)))
    assert {text for text in found if " " in text} == {"a a", "a b", "b a", "b b"}
    assert "" not in found


def test_pattern_gives_letters_and_digits_in_their_places():
    found = drawn_texts(functools.partial(texts.pattern_text, r"AA-99 a\A\9X."))
    assert all(re.fullmatch(r"[A-Z]{2}-\d\d [a-z]A9[A-Z0-9]\.", text) for text in found)
    assert len({text[0] for text in found}) == 26


def test_words_are_drawn_from_the_file(tmp_path):
    (tmp_path / "words.txt").write_text("\ufeffÖl\r\n\r\nzwei Wörter \n", encoding="utf-8")
    found = drawn_texts(functools.partial(texts.pick, texts.texts_of(tmp_path / "words.txt")), 50)
    assert {*found} == {"Öl", "zwei Wörter"}


def test_chain_resembles_the_labels_of_a_folder(tmp_path):
    labels = ["AB-12", "AC-127", "BC-21", "CA-771"]
    for label in labels:
        Image.new("L", (20, 10)).save(tmp_path / f"{label}.png")
    assert sorted(texts.labels_of(tmp_path)) == labels
    (tmp_path / "labels.csv").write_text('file,text\nAB-12.png,"AB\n12"\n')
    assert texts.labels_of(tmp_path) == ["AB", "12"]  # a row of an image each
    found = drawn_texts(texts.Chain(labels))
    assert {len(text) for text in found} == {5, 6}
    assert {text[0] for text in found} == {*"ABC"}
    assert {*found} - {*labels}  # new ones
    known = {label[start : start + 3] for label in labels for start in range(4)}
    triples = [text[start : start + 3] for text in found for start in range(3)]
    assert np.mean([triple in known for triple in triples]) > 0.9


def test_fonts_are_used_for_the_characters_they_have():
    for path in FONTS:
        with TTFont(path, lazy=True) as font:
            known = font.getBestCmap()
        assert not any(draws(path, character) and ord(character) not in known for character in "Aaé7яש字∑")
    assert sum(draws(path, "A") for path in FONTS) > 20
    assert not any(re.search("cmex|cmsy", path) for path in FONTS)


def test_font_without_latin_letters_draws_each_style(tmp_path):
    with TTFont(MATPLOTLIB / "DejaVuSans.ttf") as font:
        for table in font["cmap"].tables:
            table.cmap = {code: name for code, name in table.cmap.items() if code > 0x400 or code == 0x20}
        font.save(tmp_path / "Cyrillic.ttf")
    drawing = Drawing((str(tmp_path / "Cyrillic.ttf"),), lambda _: "шрифт", ("print",))
    assert [drawing.image(number)[0] for number in range(60)] == ["шрифт"] * 60


def test_font_with_capitals_in_place_of_small_letters_is_not_used_for_these(tmp_path):
    with TTFont(MATPLOTLIB / "DejaVuSans.ttf") as font:
        for table in font["cmap"].tables:
            table.cmap |= {ord(c): table.cmap[ord(c.upper())] for c in texts.LOWER if ord(c) in table.cmap}
        font.save(tmp_path / "Capitals.ttf")
    path = str(tmp_path / "Capitals.ttf")
    assert all(draws(path, character) for character in texts.UPPER + texts.DIGITS)
    assert not any(draws(path, character) for character in "abdeghnqrt")
    assert choose_font("ab", ".", (path, FONTS[0]), np.random.default_rng(0)) == FONTS[0]


def test_damaged_font_is_not_used(tmp_path):
    (tmp_path / "Damaged.ttf").write_bytes(b"\0\1\0\0 nothing of a font")
    assert not draws(str(tmp_path / "Damaged.ttf"), "A")


@pytest.mark.skipif(not features.check("raqm"), reason="Pillow has no Raqm")
def test_letters_of_arabic_are_joined():
    def width(text):
        return draw_ink(text, "print", (str(MATPLOTLIB / "DejaVuSans.ttf"),), np.random.default_rng(0)).width

    assert width("بب") < 0.85 * 2 * width("ب")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--count", "0"], "Expected a count of 1 or more. Received: 0"),
        (["--styles", "print,neon"], "Received: neon"),
        (["--length", "5-3"], "Expected lengths of 1 or more"),
        (["--height", "4"], "Expected heights from 12 to 512 pixels"),
        (["--alphabet", " "], "Expected texts with characters"),
        (["--seed", "-1"], "Expected a seed of 0 or more"),
        (
            ["--length", "5", "--pattern", "99"],
            "--length only for random texts. Received: --length and",
        ),
        (["--alphabet", "a字"], "no font has 字"),
        (["--fonts", "docs"], "Expected fonts (.ttf, .otf, .ttc) in docs. Found none."),
        (["--words", "tests/__init__.py"], "tests/__init__.py"),
        (["--like", "nowhere"], "Expected a folder of labelled images at nowhere"),
    ],
)
def test_impossible_arguments_are_refused_and_write_nothing(wrong, message, tmp_path, capsys):
    fonts = [] if "--fonts" in wrong else ["--fonts", str(MATPLOTLIB)]
    assert main([str(tmp_path / "out"), "--count", "1", *fonts, *wrong]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_folder_with_files_is_refused_and_stays_as_it_is(tmp_path, capsys):
    (tmp_path / "note.txt").touch()
    assert main([str(tmp_path), "--count", "1", "--fonts", str(MATPLOTLIB)]) == 2
    assert "Expected a new or empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_command_draws_what_the_options_say(tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    arguments = ["--count", "5", "--pattern", "999", "--styles", "print,plate", "--height", "32"]
    assert main([str(out), *arguments, "--fonts", str(MATPLOTLIB)]) == 0
    assert capsys.readouterr().out == f"5 images in {out}\n"
    labels = find_labels(out, sorted(out.iterdir()))
    assert [path.name for path in labels.texts] == [f"00000{number}.png" for number in range(1, 6)]
    assert all(re.fullmatch(r"\d{3}", text) for text in labels.texts.values())
    assert {Image.open(path).height for path in labels.texts} == {32}


WRONG = [
    "eF5BF6",
    "BNNL",
    "MAH6",
    "peEQ4e",
    "dxc6E4",
    "L8cd",
    "F2d8AR",
    "TwTM",
]  # labels, on purpose; see docs/results.md


def test_included_images_are_those_the_documentation_describes(shipped):
    assert len(shipped) == 1040
    assert sum(path.stat().st_size for path in shipped) < 8_000_000
    assert {*"".join(path.stem for path in shipped)} == {*"2345678bcdefgmnpwxyABDEFGHKLMNQRT"}
    assert {len(path.stem) for path in shipped} == {4, 5, 6}
    assert {*WRONG} < {path.stem for path in shipped}
    assert {Image.open(path).size for path in shipped} == {(200, 50)}
