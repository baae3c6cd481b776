import math
import random

import jellyfish
import keras
import numpy as np
import pytest

from snippet_ocr.alphabet import Alphabet
from snippet_ocr.decoding import log_softmax, text_log_probabilities
from training import metrics

LABELS = ["abc", "aab", "ccc", "b"]
TEXTS = ["abc", "ab", "cbc", "bb"]


def random_texts(count, seed):
    generator = random.Random(seed)
    return ["".join(generator.choices("abcd", k=generator.randint(1, 6))) for _ in range(count)]


def logits_that_read(texts, alphabet, steps):
    """Logits whose best path is each text with a blank after every character."""
    paths = np.zeros((len(texts), steps), dtype=int)
    for path, text in zip(paths, texts, strict=True):
        path[: 2 * len(text) : 2] = alphabet.encode(text)
    return np.eye(alphabet.number_of_classes, dtype="float32")[paths]


def test_metric_of_keras_counts_what_exact_match_counts():
    alphabet = Alphabet("abcd")
    labels, texts = random_texts(300, 0), random_texts(300, 1)
    texts[:100] = labels[:100]
    metric = metrics.ExactMatch()
    for start in range(0, 300, 64):
        label = alphabet.encode_batch(labels[start : start + 64], 6)
        metric.update_state(label, logits_that_read(texts[start : start + 64], alphabet, steps=12))
    assert 0.3 < float(metric.result()) < 0.5
    assert float(metric.result()) == pytest.approx(metrics.exact_match(labels, texts))


def test_metric_of_keras_tells_a_text_from_its_beginning():
    alphabet = Alphabet("abc")
    metric = metrics.ExactMatch()
    metric.update_state(alphabet.encode_batch(["ab", "abc"], 3), logits_that_read(["abc", "ab"], alphabet, 8))
    assert float(metric.result()) == 0.0


@pytest.mark.parametrize("kind", [metrics.ExactMatch, metrics.ClippedLoss])
def test_rows_without_a_label_count_nothing_and_weights_count(kind):
    alphabet = Alphabet("abc")
    label = alphabet.encode_batch(["ab", "", "abc", "c"], 3)
    logits = 3 * logits_that_read(["ab", "", "ac", "c"], alphabet, 8)

    def result_of(rows, weights=None):
        metric = kind()
        metric.update_state(label[rows], logits[rows], weights)
        return float(metric.result())

    assert result_of([0, 1, 2, 3]) == pytest.approx(result_of([0, 2, 3]))
    assert result_of([0, 2, 3], np.array([1.0, 0.0, 1.0])) == pytest.approx(result_of([0, 3]))
    assert result_of([0, 3]) != result_of([0, 2, 3])


@pytest.mark.parametrize("kind", [metrics.ExactMatch, metrics.ClippedLoss])
def test_metric_of_keras_can_be_saved(kind):
    metric = kind(name="some name")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert (type(again), again.name, again.dtype) == (kind, "some name", metric.dtype)


def test_clipped_loss_is_the_mean_of_ctc_losses_of_three_at_most():
    alphabet = Alphabet("abcd")
    labels, texts = random_texts(40, 4), random_texts(40, 5)
    texts[:20] = labels[:20]
    logits = 4 * logits_that_read(texts, alphabet, steps=14)
    losses = -text_log_probabilities(log_softmax(logits), [alphabet.encode(label) for label in labels])
    assert losses.min() < 3 < losses.max()
    metric = metrics.ClippedLoss()
    metric.update_state(alphabet.encode_batch(labels[:30], 6), logits[:30])
    metric.update_state(alphabet.encode_batch(labels[30:], 6), logits[30:])
    assert float(metric.result()) == pytest.approx(np.minimum(losses, 3.0).mean(), rel=1e-5)


def test_character_error_rate_equals_another_library_s():
    labels, texts = random_texts(200, 2), random_texts(200, 3)
    edits = sum(map(jellyfish.levenshtein_distance, labels, texts))
    expected = edits / sum(map(len, labels))
    assert metrics.character_error_rate(labels, texts) == pytest.approx(expected)


def test_wilson_interval_equals_its_formula():
    z = 1.959963984540054
    for right, trials in [(0, 10), (102, 104), (10, 10), (838, 842)]:
        rate = right / trials
        middle = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
        half = z / (1 + z * z / trials) * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials**2))
        assert metrics.wilson_interval(right, trials) == pytest.approx(
            (middle - half, middle + half), abs=1e-9
        )


def test_confusions_count_substitutions_misses_and_additions():
    assert metrics.confusions(LABELS, TEXTS) == {("a", ""): 1, ("c", "b"): 1, ("", "b"): 1}


def test_score_and_table_say_the_same():
    score = metrics.score(LABELS, TEXTS)
    assert (score["images"], score["right"], score["exact_match"]) == (4, 1, 0.25)
    assert score["character_error_rate"] == pytest.approx(3 / 10)
    row = metrics.table({"test": score}).splitlines()[1].split()
    assert row[:4] == ["test", "4", "1", "25.00%"]
    assert row[-1] == "30.00%"


@pytest.mark.parametrize(
    "measure", [metrics.exact_match, metrics.character_error_rate, metrics.confusions, metrics.score]
)
def test_more_texts_than_labels_are_an_error(measure):
    with pytest.raises(ValueError, match="argument 2 is longer"):
        measure(["a"], ["a", "b"])


def test_wilson_interval_is_narrower_where_it_need_not_be_as_sure():
    # (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n), with z = 1.6449 for 90 %
    z, p, n = 1.6448536, 0.9, 20
    middle, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    expected = [(middle - spread) / (1 + z * z / n), (middle + spread) / (1 + z * z / n)]
    assert metrics.wilson_interval(18, 20, confidence=0.9) == pytest.approx(expected)


def test_confusions_that_come_again_are_counted_again():
    assert metrics.confusions(["abab", "b"], ["acac", "c"]) == {("b", "c"): 3}


def test_score_is_written_as_a_sentence_and_as_a_table_with_a_head():
    score = metrics.score(["ab", "cd", "ef", "gh"], ["ab", "cd", "ef", "g"])
    assert metrics.describe(score) == (
        "3 of 4 texts right, exact match 75.0% (95 % interval 30.1% to 95.4%), character error rate 12.50%"
    )
    head, row = metrics.table({"test": score}).splitlines()
    assert head.split("  ")[0] == "split"
    assert head.endswith("character error rate")
    assert row.split() == ["test", "4", "3", "75.00%", "30.06%", "–", "95.44%", "12.50%"]
