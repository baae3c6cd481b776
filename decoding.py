"""From the model's answer at each time step to text."""

import numpy as np

from alphabet import BLANK


def log_softmax(logits):
    """Turns logits into log-probabilities over the last axis.

    Args:
        logits: floats of shape `(..., classes)`.

    Returns:
        float64 of the same shape; the exponentials of each row add up to 1.
    """
    logits = np.asarray(logits, dtype="float64")
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def greedy_decode(log_probabilities):
    """Reads by taking the best class of every step.

    Repeats of a class are one character, unless a blank stands between them;
    then the blanks are dropped. This is best path decoding (Graves et al.,
    ICML 2006, section 3.2).

    Args:
        log_probabilities: floats of shape `(batch, steps, classes)`; logits
            serve as well.

    Returns:
        A list with one array of class numbers for each row of the batch,
        without blanks.
    """
    best = np.argmax(log_probabilities, axis=-1)
    previous = np.pad(best, ((0, 0), (1, 0)), constant_values=BLANK)[:, :-1]
    starts = (best != BLANK) & (best != previous)
    return [row[start] for row, start in zip(best, starts, strict=True)]


def text_log_probability(log_probabilities, classes):
    """The log-probability of a text: of all its alignments to the steps together.

    The forward pass of CTC (Graves et al., ICML 2006, section 4.1): minus
    the CTC loss of the text.

    Args:
        log_probabilities: floats of shape `(steps, classes)`, each row a
            log-softmax.
        classes: the text as a sequence of class numbers, without blanks; it
            may be empty.

    Returns:
        A float of 0 or less; minus infinity if the text does not fit the steps.
    """
    # The text with a blank around every character: b c b a b b b
    states = np.full(2 * len(classes) + 1, BLANK)
    states[1::2] = classes
    # A blank may be left out between two characters that differ.
    may_skip = np.zeros(len(states), dtype=bool)
    may_skip[3::2] = states[3::2] != states[1:-2:2]
    forward = np.full(len(states), -np.inf)
    forward[0] = 0.0
    for emitted in log_probabilities[:, states]:
        before = np.concatenate([[-np.inf, -np.inf], forward])
        skipped = np.where(may_skip, before[:-2], -np.inf)
        forward = np.logaddexp(np.logaddexp(forward, before[1:-1]), skipped) + emitted
    return float(np.logaddexp.reduce(forward[-2:]))
