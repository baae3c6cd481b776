"""From the model's answer at each time step to text."""

import numpy as np

from snippet_ocr.alphabet import BLANK

NEGLIGIBLE = np.log(1e-9)
"""Log-probabilities below this are as good as none."""

BEAM_WIDTH, MAX_BEAM_WIDTH = 8, 10_000
"""The beginnings of texts that a beam search keeps: as a rule, and if it finds nothing otherwise."""


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


def text_log_probabilities(log_probabilities, texts):
    """The log-probabilities of texts, each over all its alignments to the steps.

    The forward pass of CTC (Graves et al., ICML 2006, section 4.1): minus the
    CTC loss of each text.

    Args:
        log_probabilities: floats of shape `(batch, steps, classes)`, each row
            a log-softmax.
        texts: a sequence of texts, one for each row of the batch, each a
            sequence of class numbers without blanks; it may be empty.

    Returns:
        float64 of shape `(batch,)`, 0 or less; minus infinity where a text
        does not fit the steps.
    """
    states, may_skip, lengths = _states(texts)
    rows = np.arange(len(texts))
    emitted = np.take_along_axis(np.asarray(log_probabilities, "float64"), states[:, None, :], axis=2)
    forward = np.full(states.shape, -np.inf)
    forward[:, 0] = 0.0
    for step in range(emitted.shape[1]):
        forward = _advance(forward, may_skip) + emitted[:, step]
    ends = forward[rows, 2 * lengths], np.where(lengths, forward[rows, 2 * lengths - 1], -np.inf)
    return np.logaddexp(*ends)


def _states(texts):
    """The texts with a blank around every character, `␣b␣a␣b␣`, and where a blank may be left out.

    Shorter texts are filled up with blanks, which nothing of them leads to the ends of.
    """
    lengths = np.array([len(text) for text in texts], dtype=int)
    states = np.full((len(texts), 2 * max(lengths, default=0) + 1), BLANK)
    for row, text in zip(states, texts, strict=True):
        row[1 : 2 * len(text) : 2] = text
    # A blank may be left out between two characters that differ.
    may_skip = np.zeros(states.shape, dtype=bool)
    may_skip[:, 3::2] = states[:, 3::2] != states[:, 1:-2:2]
    return states, may_skip, lengths


def _advance(forward, may_skip):
    """One step of the forward pass, before the step's own probabilities."""
    before = np.pad(forward, ((0, 0), (2, 0)), constant_values=-np.inf)
    skipped = np.where(may_skip, before[:, :-2], -np.inf)
    return np.logaddexp(np.logaddexp(forward, before[:, 1:-1]), skipped)


def character_probabilities(log_probabilities, classes):
    """The probability of each character of a text, given the others.

    At each position, the probability of the text among those of all texts that
    differ from it in that character at most.

    Args:
        log_probabilities: floats of shape `(steps, classes)`, each row a
            log-softmax.
        classes: the text as a sequence of class numbers, without blanks, that
            fits the steps.

    Returns:
        float64 of shape `(len(classes),)`, from 0 to 1.
    """
    log_probabilities = np.asarray(log_probabilities, dtype="float64")
    # What is improbable at every step adds nothing that could be seen.
    possible = np.flatnonzero((log_probabilities > NEGLIGIBLE).any(axis=0))
    possible = np.union1d(possible[possible != BLANK], classes).astype(int)
    texts = np.tile(np.array(classes, dtype=int), (len(classes), len(possible), 1))
    for place in range(len(classes)):
        texts[place, :, place] = possible
    count = len(classes) * len(possible)
    rows = np.broadcast_to(log_probabilities, (count, *log_probabilities.shape))
    totals = text_log_probabilities(rows, texts.reshape(count, len(classes)))
    totals = totals.reshape(len(classes), len(possible))
    own = totals[np.arange(len(classes)), np.searchsorted(possible, classes)]
    return np.exp(own - np.logaddexp.reduce(totals, axis=1))


def character_steps(log_probabilities, classes):
    """Where each character of a text is read: its surest step in the most probable alignment.

    The alignment is found by Viterbi's algorithm over the states of CTC's
    forward pass (Graves et al., ICML 2006, section 4.1).

    Args:
        log_probabilities: floats of shape `(steps, classes)`.
        classes: the text as a sequence of class numbers, without blanks, that
            fits the steps.

    Returns:
        A list of as many steps, counted from 0, in rising order.
    """
    (states,), (may_skip,), _ = _states([classes])
    emitted = np.asarray(log_probabilities, dtype="float64")[:, states]
    scores = np.full(len(states), -np.inf)
    scores[0] = 0.0
    origins = []
    for row in emitted:
        before = np.pad(scores, (2, 0), constant_values=-np.inf)
        came_from = np.stack([scores, before[1:-1], np.where(may_skip, before[:-2], -np.inf)])
        origins.append(came_from.argmax(axis=0))
        scores = came_from.max(axis=0) + row
    # The text ends in its last character, or in a blank after it.
    state = len(states) - 2 + int(scores[-2:].argmax()) if len(classes) else 0
    path = []
    for origin in reversed(origins):
        path.append(state)
        state -= origin[state]
    path = np.array(path[::-1])
    character = np.arange(1, len(states), 2)[:, None]
    return np.where(path == character, emitted[:, 1::2].T, -np.inf).argmax(axis=1).tolist()


def beam_search(log_probabilities, constraint, width=16):
    """Reads by keeping the most probable beginnings of texts, step by step.

    Prefix beam search (Hannun et al., "First-Pass Large Vocabulary Continuous
    Speech Recognition using Bi-Directional Recurrent DNNs", 2014, arXiv
    1408.2873, without a language model): unlike best path decoding it adds up
    the alignments of a text, and it can be held to the texts that a
    constraint allows.

    Args:
        log_probabilities: floats of shape `(steps, classes)`, each row a
            log-softmax.
        constraint: a `Constraint`: the texts that may be read.
        width: the beginnings that are kept at each step, 1 or more. The wider,
            the surer it is that the best text is among them.

    Returns:
        A list of tuples `(classes, log_probability)`, the most probable first
        and at most `width` of them: the text as a tuple of class numbers, and
        the log-probability of all its alignments. It is empty if no text that
        the constraint allows fits the steps.
    """
    log_probabilities = np.asarray(log_probabilities, dtype="float64")
    steps, classes = log_probabilities.shape
    texts, last, state = [()], np.array([BLANK]), np.array([0])
    # Of each beginning: the log-probability of its alignments that end in a blank, and of the others.
    in_blank, in_character = np.array([0.0]), np.array([-np.inf])
    for step, emitted in enumerate(log_probabilities):
        left = steps - step - 1
        total = np.logaddexp(in_blank, in_character)
        longer = total[:, None] + emitted
        # Only after a blank is an equal neighbour a new character.
        longer[np.arange(len(texts)), last] = in_blank + emitted[last]
        target = constraint.following[state]
        longer[(target < 0) | (constraint.min_characters[target] > left)] = -np.inf
        stay_blank, stay_character = total + emitted[BLANK], in_character + emitted[last]
        # A longer text may be one that is kept already.
        place = {text: number for number, text in enumerate(texts)}
        for number, text in enumerate(texts):
            parent = place.get(text[:-1]) if text else None
            if parent is not None:
                gained = longer[parent, text[-1]]
                stay_character[number] = np.logaddexp(stay_character[number], gained)
                longer[parent, text[-1]] = -np.inf
        stay = np.logaddexp(stay_blank, stay_character)
        stay[constraint.min_characters[state] > left] = -np.inf
        scores = np.concatenate([stay, longer.ravel()])
        kept = np.argsort(-scores, kind="stable")[:width]
        kept = kept[scores[kept] > -np.inf]
        old = kept[kept < len(texts)]
        parents, added = np.divmod(kept[kept >= len(texts)] - len(texts), classes)
        texts = [texts[number] for number in old] + [
            (*texts[parent], int(character)) for parent, character in zip(parents, added, strict=True)
        ]
        in_blank = np.concatenate([stay_blank[old], np.full(len(parents), -np.inf)])
        in_character = np.concatenate([stay_character[old], longer[parents, added]])
        state = np.concatenate([state[old], target[parents, added]])
        last = np.concatenate([last[old], added])
    allowed = [text for text, number in zip(texts, state, strict=True) if constraint.accepts[number]]
    if not allowed and width < MAX_BEAM_WIDTH:
        return beam_search(log_probabilities, constraint, min(8 * width, MAX_BEAM_WIDTH))[:width]
    rows = np.broadcast_to(log_probabilities, (len(allowed), steps, classes))
    found = zip(allowed, text_log_probabilities(rows, allowed).tolist(), strict=True)
    return sorted(((text, p) for text, p in found if p > -np.inf), key=lambda one: -one[1])


def trie_search(log_probabilities, tree, top=1):
    """Reads by comparing all texts of a list.

    One forward pass of CTC over all beginnings of the texts together. Unlike a
    beam search it cannot lose a text that begins improbably.

    Args:
        log_probabilities: floats of shape `(steps, classes)`, each row a
            log-softmax.
        tree: a `Trie` of the texts.
        top: the texts to return at most, 1 or more.

    Returns:
        As `beam_search`.
    """
    log_probabilities = np.asarray(log_probabilities, dtype="float64")
    repeated = tree.characters == tree.characters[tree.parents]
    in_blank, in_character = np.zeros((2, len(tree.parents)))
    in_blank[0] = 1.0
    for emitted in np.exp(log_probabilities):
        total = in_blank + in_character
        entering = np.where(repeated, in_blank[tree.parents], total[tree.parents])
        in_character = (in_character + entering) * emitted[tree.characters]
        in_character[0] = 0.0  # the empty text has no character to be in
        in_blank = total * emitted[BLANK]
        # Only their ratios count: without this they would vanish within a few hundred steps.
        largest = max(in_blank.max(), in_character.max())
        in_blank, in_character = in_blank / largest, in_character / largest
    total = (in_blank + in_character)[tree.ends]
    best = tree.ends[np.argsort(-total, kind="stable")[:top]]
    texts = [tree.text(state) for state in best]
    rows = np.broadcast_to(log_probabilities, (len(texts), *log_probabilities.shape))
    found = zip(texts, text_log_probabilities(rows, texts).tolist(), strict=True)
    return [(text, probability) for text, probability in found if probability > -np.inf]


def search(log_probabilities, constraint, top=1):
    """Reads the most probable texts that a constraint allows.

    All texts of a list are compared; of any others, a beam search finds the best.

    Args:
        log_probabilities: floats of shape `(steps, classes)`, each row a
            log-softmax.
        constraint: a `constraints.Constraint`.
        top: the texts to return at most, 1 or more.

    Returns:
        As `beam_search`.
    """
    if constraint.trie is not None:
        return trie_search(log_probabilities, constraint.trie, top)
    return beam_search(log_probabilities, constraint, max(BEAM_WIDTH, 2 * top))[:top]
