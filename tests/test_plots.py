from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from PIL import Image

from examples import ALPHABET
from snippet_ocr.reader import Reader, Reading
from tools.notebook import load_build_model
from training import ctc_plots, plots
from utils import Sample

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 50, 200), dtype="uint8")
LABELS = ["abc", "abd", "b", "日本", "", "x"]


def texts_of(figure):
    figure.canvas.draw()
    found = [text.get_text() for axis in figure.axes for text in [axis.title, *axis.texts]]
    return [text for text in found if text]


def test_labelled_grid_draws_images_as_they_are():
    figure = plots.labelled_grid(IMAGES[:3], LABELS[:3])
    assert texts_of(figure) == LABELS[:3]
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), IMAGES[1])


def test_grid_of_different_widths_shows_the_median_one_in_full_width():
    widths = [24, 80, 80, 320]
    figure = plots.labelled_grid([np.zeros((24, width), "uint8") for width in widths], LABELS[:1] * 4)
    figure.draw_without_rendering()
    drawn = [axis.images[0].get_window_extent() for axis in figure.axes]
    assert drawn[0].height == pytest.approx(drawn[1].height, rel=0.25)  # of a similar scale
    assert drawn[3].width == pytest.approx(drawn[1].width, rel=0.1)  # wider ones are smaller
    assert all(
        box.width / box.height == pytest.approx(w / 24, rel=0.01)
        for box, w in zip(drawn, widths, strict=True)
    )


def test_overview_counts_lengths_sizes_and_characters():
    labels = ["ab", "b", "b" * 9]
    samples = [Sample(None, label, (80, 24), "") for label in labels]
    figure = plots.data_overview(samples, IMAGES[:3], labels)
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in shown[:3]] == labels
    lengths, sizes, characters = shown[3:]
    assert {bar.get_x() + 0.4: bar.get_height() for bar in lengths.patches} == {1: 1, 2: 1, 9: 1}
    assert sizes.collections[0].get_offsets().tolist() == [[80, 24]]
    ticks = [label.get_text() for label in characters.get_xticklabels()]
    assert dict(zip(ticks, [bar.get_height() for bar in characters.patches], strict=True)) == {
        "a": 1,
        "b": 11,
    }
    assert [bool(bar.get_hatch()) for bar in characters.patches] == [True, False]


def test_overview_of_many_characters_shows_the_rarest():
    samples = [Sample(None, chr(0x4E00 + number) * (1 + number % 7), (80, 24), "") for number in range(200)]
    figure = plots.data_overview(samples, IMAGES[:1], ["a"])
    bars = figure.axes[-1].patches
    assert len(bars) == 60 and max(bar.get_height() for bar in bars) == 3
    assert "the 60 rarest of 200" in figure.axes[-1].get_xlabel()


def test_result_grid_frames_wrong_readings_and_shows_labels():
    readings = [Reading("abc", 0.99), Reading("abe", 0.5), Reading("", 0.1)]
    figure = plots.result_grid(IMAGES[:3], LABELS[:3], readings)
    assert texts_of(figure) == ["abc 99%", "abe 50%\n✗ label abd", "∅ 10%\n✗ label b"]
    frames = [axis.spines["left"].get_linewidth() for axis in figure.axes[:3]]
    assert frames[0] < frames[1] == frames[2]


HISTORY = [
    {"epoch": n, "loss": 9 / n, "val_loss": 8 / n, "val_clipped_loss": 3 / n, "learning_rate": 0.003 / n}
    | {"val_exact_match": 0.2 * (n - 1)}
    for n in range(1, 5)
]


def test_learning_curves_draw_the_history_in_distinct_styles():
    figure = plots.learning_curves(HISTORY, best_epoch=4)
    loss, match, rate = figure.axes
    drawn = {line.get_label(): list(line.get_ydata()) for axis in figure.axes for line in axis.lines}
    assert drawn["training (augmented)"] == [row["loss"] for row in HISTORY]
    assert drawn["validation, clipped: decides"] == [row["val_clipped_loss"] for row in HISTORY]
    assert drawn["learning rate"] == [row["learning_rate"] for row in HISTORY]
    assert list(loss.lines[1].get_ydata()) == [row["val_loss"] for row in HISTORY]
    assert list(match.lines[0].get_ydata()) == [row["val_exact_match"] for row in HISTORY]
    assert list(loss.lines[3].get_xdata()) == [4, 4]
    assert match.lines[1].get_label() == "take-off (2)"
    few_images = plots.learning_curves(HISTORY, best_epoch=4, monitor="loss").axes[0]
    labels = [line.get_label() for line in few_images.lines[:3]]
    assert labels == ["training (augmented): decides", "validation", "validation, clipped"]
    styles = [(line.get_linestyle(), line.get_marker()) for line in loss.lines]
    assert len(set(styles)) == 4
    assert "nats" in loss.get_ylabel()
    assert match.get_xlabel() == "epoch"


def test_confusion_matrix_shows_every_count():
    figure = plots.confusion_matrix(Counter({("n", "m"): 3, ("c", ""): 1, ("", "n"): 2}))
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["∅", "c", "n"]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["∅", "m", "n"]
    np.testing.assert_array_equal(axis.images[0].get_array(), [[0, 0, 2], [1, 0, 0], [0, 3, 0]])


def test_empty_confusion_matrix_says_so():
    assert "no character was misread" in texts_of(plots.confusion_matrix(Counter()))


@pytest.mark.parametrize("pairs", [{}, {("n", "m"): 1}, {("n", ""): 12, ("m", "n"): 3}])
def test_confusion_matrix_cuts_off_no_text(pairs):
    figure = plots.confusion_matrix(Counter(pairs))
    figure.draw_without_rendering()
    (axis,) = figure.axes
    texts = [axis.title, axis.xaxis.label, axis.yaxis.label, *axis.texts]
    for text in filter(Text.get_text, texts):
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0, text
        assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, text


def test_confusion_matrix_of_a_large_alphabet_stays_small():
    pairs = Counter({(chr(0x4E00 + n), chr(0x5E00 + n)): 1 + (n == 7) for n in range(500)})
    figure = plots.confusion_matrix(pairs)
    assert max(figure.get_size_inches()) < 20
    assert 2 in figure.axes[0].images[0].get_array()
    assert "470 rarer pairs not shown" in figure.axes[0].get_title()


@pytest.mark.parametrize("count", [1, 4, 6])
def test_show_saves_the_figure_as_a_png(count, tmp_path):
    plots.show(plots.labelled_grid(IMAGES[:count], LABELS[:count]), "images", tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        assert image.format == "PNG"
        assert image.width == 1000


def test_save_all_names_each_file_after_its_keyword(tmp_path):
    plots.save_all(tmp_path, one=Figure(), two=Figure())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "two.png"]


def test_labels_with_dollar_signs_are_not_formulas(tmp_path):
    plots.show(plots.labelled_grid(IMAGES[:2], ["$5_$", "$5.00-$6.00"]), "images", tmp_path / "figure.png")
    assert (tmp_path / "figure.png").exists()


def test_reliability_draws_bins_precision_and_threshold():
    confidence, readings = 0.9, 40
    confidences = np.full(readings, confidence)
    right = np.arange(readings) < 30
    figure = plots.reliability(confidences, right, threshold=0.5)
    bins, shares = figure.axes
    assert bins.collections[0].get_offsets().tolist() == [pytest.approx([confidence, 0.75])]
    assert texts_of(figure) == ["40 "]
    assert shares.lines[0].get_ydata() == pytest.approx(np.cumsum(right) / np.arange(1, readings + 1))
    assert shares.lines[1].get_xdata()[0] == 1
    assert "100% accepted" in shares.get_legend().get_texts()[1].get_text()
    assert len(plots.reliability(confidences, right, None).axes[1].lines) == 1


class FixedReader(Reader):
    """Reads `ab` in every image: the `a` at steps 2 and 3, more probable at step 3, and the `b` at step 6."""

    def __init__(self):
        super().__init__(SimpleNamespace(input_shape=(None, 24, None)), ALPHABET, [80])

    def log_probabilities(self, prepared):
        probabilities = np.full((len(prepared), 8, ALPHABET.number_of_classes), 0.01)
        for step, number in enumerate([0, 0, 1, 1, 0, 0, 2, 0]):
            probabilities[:, step, number] = 0.94
        probabilities[:, 2, 1] = 0.5
        return np.log(probabilities / probabilities.sum(axis=-1, keepdims=True))


def test_reading_shows_where_each_character_is_read(shipped):
    reader = FixedReader()
    figure = ctc_plots.reading(reader, reader.prepare(shipped[:1])[0], label="aB")
    above, below, path = figure.axes
    assert above.get_title() == f"read {plots.caption_of(reader.read(shipped[0]))}, label aB"
    assert [label.get_text() for label in below.get_yticklabels()] == ["blank", "a", "b"]
    probabilities = np.exp(reader.log_probabilities([None])[0])
    np.testing.assert_allclose(below.images[0].get_array(), probabilities[:, :3].T)
    placed = {(*text.get_position(), text.get_text()) for text in path.texts if text.get_text() not in "-"}
    # Both steps of the `a` are on the best path; the first of them is kept.
    assert placed == {(2, 0.65, "a"), (3, 0.65, "a"), (6, 0.65, "b"), (2, 0.05, "a"), (6, 0.05, "b")}
    assert above.get_xlim() == below.get_xlim() == path.get_xlim() == (-0.5, 7.5)


def frames(count):
    """Probabilities of an image after each epoch: blank at first, `ab` after the last epoch."""
    frames = np.full((count, 8, ALPHABET.number_of_classes), 0.01)
    frames[:, :, 0] = 0.9
    frames[-1, [1, 5], [1, 2]] = 0.95
    return frames


def test_film_shows_some_epochs_and_their_texts():
    figure = ctc_plots.film(frames(12), IMAGES[0], ALPHABET)
    assert texts_of(figure) == [*(f"epoch {n}: ∅" for n in (1, 2, 3, 5, 10)), "epoch 12: ab"]
    assert texts_of(ctc_plots.film(frames(3), IMAGES[0], ALPHABET))[-1] == "epoch 3: ab"


def test_heat_map_shows_characters_that_are_never_the_most_probable():
    shown = frames(1)
    shown[0, 3, 3] = 0.3
    figure = ctc_plots.film(shown, IMAGES[0], ALPHABET)
    names = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert names == ["blank", "a", ALPHABET.characters[2], "b"]


def test_animation_has_a_frame_for_each_epoch(tmp_path):
    ctc_plots.save_film(frames(4), IMAGES[0], ALPHABET, 1, tmp_path / "ctc.gif")
    with Image.open(tmp_path / "ctc.gif") as image:
        assert (image.format, image.n_frames) == ("GIF", 4)
        for number in range(4):  # every frame has the greys of the image and the blue of the heat map
            image.seek(number)
            pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
            coloured = pixels[np.ptp(pixels, axis=1) > 60]
            assert len(coloured) and (coloured[:, 2] > coloured[:, 0]).all()


def test_progress_shows_the_epochs_so_far_and_the_last_reading():
    checkpoint = SimpleNamespace(history=HISTORY[:3])
    figure = ctc_plots.progress(checkpoint, SimpleNamespace(frames=frames(3)), IMAGES[0], ALPHABET)
    assert figure.axes[1].lines[0].get_ydata() == pytest.approx(
        [row["val_exact_match"] for row in HISTORY[:3]]
    )
    assert "epoch 3: ab" in texts_of(figure)


def test_example_is_one_that_the_reader_is_unsure_of(shipped):
    class Confident:
        def read(self, paths):
            return [SimpleNamespace(confidence=number / len(paths)) for number in reversed(range(len(paths)))]

    samples = [SimpleNamespace(path=path) for path in shipped[:8]]
    assert ctc_plots.choose_example(Confident(), samples) is samples[5]


def test_network_shows_the_shape_of_each_stage():
    model = load_build_model()(48, 5, 7, 0.1)
    figure = ctc_plots.network(model, np.zeros((48, 80), "uint8"), 4)
    texts = [text.split("\n\n") for text in texts_of(figure)[1:]]
    assert [shape for _, shape in texts] == [
        *("80×48", "40×24×32", "20×12×64", "20×768", "20×128", "20×256", "20×256", "20×128", "20×7")
    ]


def test_lattice_draws_an_arrow_for_each_move_of_a_path():
    forward = np.array([[0.5, 0.5, 0, 0, 0], [0.1, 0.2, 0.3, 0.4, 0]])  # of "ab" in two steps
    (axis,) = ctc_plots.lattice(forward, "-a-b-").axes
    arrows = [text for text in axis.texts if isinstance(text, Annotation)]
    assert [text.get_text() for text in axis.texts if text.get_text()] == [
        *("0.500", "0.500", "0.100", "0.200", "0.300", "0.400")
    ]
    # Only from `a` past the blank to `b`: all other cells are too late to finish the label.
    assert [(one.xyann[1], one.xy[1]) for one in arrows] == [(1, 3)]
    late = [text.get_text() for text in axis.texts if text.get_text() and text.get_color() != "black"]
    assert late == ["0.500", "0.100", "0.200", "0.300"]


def test_lattice_has_no_arrow_between_equal_characters():
    (axis,) = ctc_plots.lattice(np.tri(3, 5, 1), "-a-a-").axes  # the cells that paths of "aa" can reach
    arrows = [(one.xyann[1], one.xy[1]) for one in axis.texts if isinstance(one, Annotation)]
    assert arrows == [(1, 2), (2, 3)]
