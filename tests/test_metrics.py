import math
import random
from pathlib import Path

import jellyfish
import keras
import numpy as np
import pytest

import utils
from CTCLayer import NO_IMAGE, CTCLayer
from snippet_ocr import Reading
from snippet_ocr.alphabet import Alphabet
from snippet_ocr.decoding import log_softmax, text_log_probabilities
from training import metrics

LABELS = ["abc", "aab", "ccc", "b"]
TEXTS = ["abc", "ab", "cbc", "bb"]


def random_texts(count, seed):
    generator = random.Random(seed)
    return ["".join(generator.choices("abcd", k=generator.randint(1, 6))) for _ in range(count)]


def logits_of(texts, alphabet, steps):
    """Logits whose best path is each text, with a blank after every character."""
    paths = np.zeros((len(texts), steps), dtype=int)
    for path, text in zip(paths, texts, strict=True):
        path[: 2 * len(text) : 2] = alphabet.encode(text)
    return np.eye(alphabet.number_of_classes, dtype="float32")[paths]


def test_exact_match_metric_agrees_with_the_score():
    alphabet = Alphabet("abcd")
    labels, texts = random_texts(300, 0), random_texts(300, 1)
    texts[:100] = labels[:100]
    metric = metrics.ExactMatch()
    for start in range(0, 300, 64):
        label = alphabet.encode_batch(labels[start : start + 64], 6)
        metric.update_state(label, logits_of(texts[start : start + 64], alphabet, steps=12))
    assert 0.3 < float(metric.result()) < 0.5
    assert float(metric.result()) == pytest.approx(metrics.score(labels, texts)["exact_match"])


def test_exact_match_metric_does_not_accept_a_prefix():
    alphabet = Alphabet("abc")
    metric = metrics.ExactMatch()
    metric.update_state(alphabet.encode_batch(["ab", "abc"], 3), logits_of(["abc", "ab"], alphabet, 8))
    assert float(metric.result()) == 0.0


@pytest.mark.parametrize("steps", [2, 3, 6, 40])
def test_exact_match_metric_accepts_labels_longer_or_shorter_than_the_steps(steps):
    alphabet = Alphabet("abc")
    labels, texts = ["a", "b", "abc", "", "c"], ["a", "c", "a", "", "c"]
    metric = metrics.ExactMatch()
    metric.update_state(alphabet.encode_batch(labels, 6), logits_of(texts, alphabet, steps))
    assert float(metric.result()) == pytest.approx(2 / 4)  # the image without text does not count


@pytest.mark.parametrize("kind", [metrics.ExactMatch, metrics.ClippedLoss])
def test_metric_ignores_padding_rows_and_uses_weights(kind):
    alphabet = Alphabet("abc")
    label = alphabet.encode_batch(["ab", "", "abc", "c"], 3)
    label[1] = NO_IMAGE
    logits = 3 * logits_of(["ab", "", "ac", "c"], alphabet, 8)

    def result_of(rows, weights=None):
        metric = kind()
        metric.update_state(label[rows], logits[rows], weights)
        return float(metric.result())

    assert result_of([0, 1, 2, 3]) == pytest.approx(result_of([0, 2, 3]))
    assert result_of([0, 2, 3], np.array([1.0, 0.0, 1.0])) == pytest.approx(result_of([0, 3]))
    assert result_of([0, 3]) != pytest.approx(result_of([0, 2, 3]))


def test_images_without_text_count_in_the_clipped_loss_but_not_in_exact_match():
    label = np.array([[1, 2], [0, 0], [2, 0]])
    logits = np.random.default_rng(0).normal(size=(3, 4, 3)).astype("float32")
    losses = -text_log_probabilities(log_softmax(logits), [[1, 2], [], [2]])
    clipped, exact = metrics.ClippedLoss(), metrics.ExactMatch()
    clipped.update_state(label, logits)
    assert float(clipped.result()) == pytest.approx(np.minimum(losses, 3.0).mean(), rel=1e-5)
    logits[:, :, 0] += 100  # blank everywhere, as on the plateau
    exact.update_state(label, logits)
    assert float(exact.result()) == 0.0


@pytest.mark.parametrize("kind", [metrics.ExactMatch, metrics.ClippedLoss])
def test_metric_survives_keras_serialization(kind):
    metric = kind(name="some name")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert (type(again), again.name, again.dtype) == (kind, "some name", metric.dtype)


def test_clipped_loss_is_the_mean_of_clipped_ctc_losses():
    alphabet = Alphabet("abcd")
    labels, texts = random_texts(40, 4), random_texts(40, 5)
    texts[:20] = labels[:20]
    logits = 4 * logits_of(texts, alphabet, steps=14)
    losses = -text_log_probabilities(log_softmax(logits), [alphabet.encode(label) for label in labels])
    assert losses.min() < 3 < losses.max()
    metric = metrics.ClippedLoss()
    metric.update_state(alphabet.encode_batch(labels[:30], 6), logits[:30])
    metric.update_state(alphabet.encode_batch(labels[30:], 6), logits[30:])
    assert float(metric.result()) == pytest.approx(np.minimum(losses, 3.0).mean(), rel=1e-5)


def test_character_error_rate_agrees_with_jellyfish():
    labels, texts = random_texts(200, 2), random_texts(200, 3)
    edits = sum(map(jellyfish.levenshtein_distance, labels, texts))
    expected = edits / sum(map(len, labels))
    assert metrics.character_error_rate(labels, texts) == pytest.approx(expected)


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (18, 20), (102, 104), (10, 10), (838, 842)])
def test_wilson_interval_follows_the_formula(successes, trials):
    rate, z = successes / trials, 1.959963984540054
    centre = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials**2))
    expected = pytest.approx((centre - half, centre + half), abs=1e-9)
    assert metrics.wilson_interval(successes, trials) == expected


def test_confusions_count_substituted_missed_and_invented():
    assert metrics.confusions(LABELS, TEXTS) == {("a", ""): 1, ("c", "b"): 1, ("", "b"): 1}
    assert metrics.confusions(["abab", "b"], ["acac", "c"]) == {("b", "c"): 3}
    assert metrics.confusions(["b5M"], ["dbM"]) == {
        ("b", "d"): 1,
        ("5", "b"): 1,
    }  # not ("5", "") and ("", "d")


def test_score_counts_correct_texts_and_edits():
    score = metrics.score(LABELS, TEXTS)
    assert (score["images"], score["right"], score["exact_match"]) == (4, 1, 0.25)
    assert score["character_error_rate"] == pytest.approx(3 / 10)
    assert score["interval"] == pytest.approx(metrics.wilson_interval(1, 4))


def test_score_is_written_as_a_line_and_as_a_table():
    score = metrics.score(["ab", "cd", "ef", "gh"], ["ab", "cd", "ef", "g"])
    assert metrics.describe(score) == (
        "3 of 4 texts correct, exact match 75.0% (95% interval 30.1% to 95.4%), character error rate 12.50%"
    )
    header, row = metrics.table({"test": score}).splitlines()
    assert " ".join(header.split()) == "split images correct exact match 95% interval character error rate"
    assert row.split() == ["test", "4", "3", "75.00%", "30.06%", "–", "95.44%", "12.50%"]


def test_score_counts_texts_that_are_in_no_training_label():
    labels, texts = ["ab", "ab", "cd", "ef", "gh"], ["ab", "ax", "cd", "ef", "g"]
    score = metrics.score(labels, texts, {"ab", "xy"})
    assert score["unseen"] == {"images": 3, "right": 2}
    assert metrics.describe(score).endswith("character error rate 20.00%, unseen texts 66.7% (of 3)")
    assert metrics.describe(metrics.score(labels, texts, {*labels})).endswith(", unseen texts none")


def test_unseen_texts_are_not_mentioned_if_no_text_is_repeated():
    score = metrics.score(["ab", "cd"], ["ab", "cd"], {"xy"})
    assert score["unseen"] == {"images": 2, "right": 2}
    assert "unseen" not in metrics.describe(score)
    assert "unseen" not in metrics.table({"training": metrics.score(["ab"], ["ab"]), "test": score})


def test_table_has_a_column_for_unseen_texts_if_a_text_is_repeated():
    labels, texts = ["ab", "ab", "cd", "ef"], ["ab", "ax", "cd", "ef"]
    rows = {
        "training": metrics.score(labels, texts),
        "validation": metrics.score(labels, texts, {"xy"}),
        "test": metrics.score(labels, texts, {"ab"}),
    }
    header, *lines = [line.split("  ")[-1].strip() for line in metrics.table(rows).splitlines()]
    assert (header, lines) == ("unseen texts", ["12.50%", "75.0% (of 4)", "100.0% (of 2)"])


def test_images_without_text_are_scored_separately():
    labels, texts = ["ab", "", "", "", "cd"], ["ab", "", "x", "", ""]
    score = metrics.score(labels, texts, {"ef"})
    assert (score["no_text"], score["right"]) == ({"images": 3, "right": 2}, 3)
    assert score["unseen"] == {"images": 2, "right": 1}
    assert score["character_error_rate"] == pytest.approx(3 / 4)
    assert metrics.describe(score).endswith("rate 75.00%, no text: 2 of 3 read as empty")
    header, line = metrics.table({"test": score}).splitlines()
    assert header.endswith("   no text") and line.endswith("   2 of 3")
    assert metrics.score(["", ""], ["", "abc"])["character_error_rate"] == 3
    assert "no_text" not in metrics.score(["a"], [""])


def test_reader_is_scored_on_labelled_images():
    class Fake:
        def read(self, paths, progress):
            return [Reading(path.stem, 1.0) for path in paths]

    samples = [utils.Sample(Path(f"{name}.png"), label, (9, 9), "") for name, label in ("aa", "bc", "dd")]
    assert metrics.read_and_score(Fake(), samples, {"a"})["unseen"] == {"images": 2, "right": 1}
    assert metrics.read_and_score(Fake(), samples)["right"] == 2


def test_confusions_are_described_in_a_line():
    assert metrics.describe_confusions(metrics.confusions(["a\nb", "ab"], ["ac", "a"])) == "b→∅ 2, ↵→c 1"
    assert metrics.describe_confusions(metrics.confusions([], [])) == "none"


@pytest.mark.parametrize("measure", [metrics.character_error_rate, metrics.confusions, metrics.score])
def test_more_texts_than_labels_raise_an_error(measure):
    with pytest.raises(ValueError, match="argument 2 is longer"):
        measure(["a"], ["a", "b"])


def test_metrics_are_computed_on_validation_batches_only(monkeypatch):
    counted = []
    values = metrics.ExactMatch.values
    monkeypatch.setattr(
        metrics.ExactMatch, "values", lambda *arguments: counted.append(1) or values(*arguments)
    )
    label, image = keras.Input((2,), dtype="int32"), keras.Input((4, 3))
    model = keras.Model([image, label], CTCLayer()(label, keras.layers.Dense(3)(image)))
    model.compile("sgd", metrics=[metrics.ExactMatch(), metrics.ClippedLoss()], run_eagerly=True)
    images, labels = np.zeros((6, 4, 3), "float32"), np.array([[1, 2]] * 6)
    counted.clear()
    logs = model.fit(
        [images, labels],
        labels,
        batch_size=2,  # 3 training steps
        validation_data=([images[:2], labels[:2]], labels[:2]),  # 1 validation step
        epochs=2,
        verbose=0,
        callbacks=[metrics.ValidationOnly()],
    ).history
    assert len(counted) == 2
    assert set(logs) == {"loss", "val_loss", "val_exact_match", "val_clipped_loss"}
    assert model.evaluate([images, labels], labels, verbose=0, return_dict=True)["clipped_loss"] > 0
