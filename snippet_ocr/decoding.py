"""Decoding: from the log-probabilities of each time step to texts and their probabilities."""

import numpy as np

from snippet_ocr.alphabet import BLANK

MIN_LOG_PROBABILITY = np.log(1e-9)  # classes below it at every step are not considered as characters
BEAM_WIDTH, MAX_BEAM_WIDTH = 8, 10_000  # prefixes kept at each step: by default, and at most after widening


def log_softmax(logits):
    """Converts logits of shape `(..., classes)` to float64 log-probabilities over the last axis."""
    logits = np.asarray(logits, dtype="float64")
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def greedy_decode(log_probabilities):
    """Decodes a batch by its most probable classes: best path decoding (Graves et al., ICML 2006, 3.2).

    Args:
        log_probabilities: floats of shape `(batch, steps, classes)`, either log-probabilities or logits.

    Returns:
        A list of `batch` integer arrays: the class numbers of each text.
    """
    best = np.argmax(log_probabilities, axis=-1)  # (batch, steps)
    starts = best != BLANK
    starts[:, 1:] &= best[:, 1:] != best[:, :-1]
    return [row[start] for row, start in zip(best, starts, strict=True)]


def text_log_probabilities(log_probabilities, texts):
    """Computes the log-probability of one text per image, over all its alignments: the negative CTC loss.

    This is the forward algorithm (Graves et al., ICML 2006, section 4.1).

    Args:
        log_probabilities: floats of shape `(batch, steps, classes)`, the output of a log-softmax.
        texts: a sequence of `batch` texts: sequences of class numbers without blanks, which may be empty.

    Returns:
        float64 of shape `(batch,)`, in nats, at most 0; minus infinity if a text does not fit in the steps.
    """
    states, may_skip = _states(texts)  # both (batch, states)
    log_probabilities = np.asarray(log_probabilities, dtype="float64")
    emitted = np.take_along_axis(log_probabilities, states[:, None, :], axis=2)  # (batch, steps, states)
    skip = np.where(may_skip, 0.0, -np.inf)
    forward = np.full((len(texts), 2 + states.shape[1]), -np.inf)  # two states that do not exist come first
    forward[:, 2] = 0.0
    for step in range(emitted.shape[1]):
        stay, advance = forward[:, 2:], forward[:, 1:-1]  # (batch, states) each
        reached = np.logaddexp(np.logaddexp(stay, advance), forward[:, :-2] + skip)
        forward[:, 2:] = reached + emitted[:, step]
    rows, lengths = np.arange(len(texts)), np.array([len(text) for text in texts], dtype=int)
    return np.logaddexp(
        forward[rows, 2 * lengths + 2], forward[rows, 2 * lengths + 1]
    )  # after a blank or not


def _states(texts):
    """Returns the CTC states of texts (`␣a␣b␣` for `ab`) and which may skip the blank before them."""
    # Shorter texts are padded with blanks; no path through the padding reaches a final state.
    states = np.full((len(texts), 2 * max(map(len, texts), default=0) + 1), BLANK)
    for row, text in zip(states, texts, strict=True):
        row[1 : 2 * len(text) : 2] = text
    may_skip = np.zeros(states.shape, dtype=bool)
    may_skip[:, 3::2] = states[:, 3::2] != states[:, 1:-2:2]  # equal characters need the blank between them
    return states, may_skip


def character_probabilities(log_probabilities, classes):
    """Computes the probability of each character of a text, given the other characters.

    It is the probability of the text divided by that of all texts that differ from it at most in the one
    position. Classes less probable than 1e-9 at every step are ignored.

    Args:
        log_probabilities: floats of shape `(steps, classes)`, the output of a log-softmax.
        classes: a text that fits in the steps, as class numbers without blanks.

    Returns:
        float64 of shape `(len(classes),)`, from 0 to 1.
    """
    candidates = np.flatnonzero((log_probabilities > MIN_LOG_PROBABILITY).any(axis=0))
    candidates = np.union1d(candidates[candidates != BLANK], classes).astype(int)
    positions = np.arange(len(classes))
    texts = np.tile(np.array(classes, dtype=int), (len(classes), len(candidates), 1))
    texts[positions, :, positions] = candidates  # (positions, candidates, positions)
    texts = texts.reshape(len(classes) * len(candidates), len(classes))
    rows = np.broadcast_to(log_probabilities, (len(texts), *log_probabilities.shape))
    totals = text_log_probabilities(rows, texts).reshape(len(classes), len(candidates))
    own = totals[positions, np.searchsorted(candidates, classes)]  # (positions,)
    return np.exp(own - np.logaddexp.reduce(totals, axis=1))


def search(log_probabilities, constraint, top=1):
    """Finds the `top` texts that a `Constraint` allows: exactly in a word list, otherwise by beam search.

    Args:
        log_probabilities: floats of shape `(steps, classes)`, the output of a log-softmax.

    Returns:
        A list of tuples of a text, as a tuple of class numbers, and its log-probability over all alignments,
        most probable first; empty if no allowed text fits in the steps.
    """
    if constraint.trie is not None:
        return trie_search(log_probabilities, constraint.trie, top)
    return beam_search(log_probabilities, constraint, max(BEAM_WIDTH, 2 * top))[:top]


def trie_search(log_probabilities, trie, top):
    """Finds the most probable words as `search` does, by one CTC forward pass over all nodes of a `Trie`."""
    repeated = trie.characters == trie.characters[trie.parents]  # (nodes,)
    in_blank, in_character = np.zeros((2, len(trie.parents)))  # probabilities, each (nodes,)
    in_blank[0] = 1.0
    for emitted in np.exp(log_probabilities):
        total = in_blank + in_character
        entering = np.where(repeated, in_blank[trie.parents], total[trie.parents])
        in_character = (in_character + entering) * emitted[trie.characters]
        in_character[0] = 0.0  # the root has no character
        in_blank = total * emitted[BLANK]
        # Only ratios matter. Without scaling, probabilities underflow within a few hundred steps.
        scale = max(in_blank.max(), in_character.max())
        in_blank, in_character = in_blank / scale, in_character / scale
    total = (in_blank + in_character)[trie.ends]  # (words,)
    best = trie.ends[np.argsort(-total, kind="stable")[:top]]
    return _with_log_probabilities(log_probabilities, [trie.text(node) for node in best])


def beam_search(log_probabilities, constraint, width=BEAM_WIDTH):
    """Finds probable texts as `search` does, by extending the most probable `width` prefixes step by step.

    This is prefix beam search (Hannun et al., 2014, arXiv 1408.2873) without a language model; it may miss
    the best text. If it finds no allowed text, it searches again with a wider beam.
    """
    # A beam: prefixes, their last classes, their states in the constraint, and the log-probabilities of their
    # alignments that end in a blank, and of those that end in a character.
    beam = [()], np.array([BLANK]), np.array([0]), np.array([0.0]), np.array([-np.inf])
    for step, emitted in enumerate(log_probabilities, start=1):
        beam = _extend(beam, emitted, constraint, width, remaining_steps=len(log_probabilities) - step)
    texts = [text for text, state in zip(beam[0], beam[2], strict=True) if constraint.accepting[state]]
    if not texts and width < MAX_BEAM_WIDTH:
        return beam_search(log_probabilities, constraint, min(8 * width, MAX_BEAM_WIDTH))[:width]
    return _with_log_probabilities(log_probabilities, texts)


def _extend(beam, emitted, constraint, width, remaining_steps):
    """Extends a beam by one step with log-probabilities `emitted`; keeps the best `width` prefixes."""
    prefixes, last, states, in_blank, in_character = beam
    total = np.logaddexp(in_blank, in_character)  # (prefixes,)
    longer = total[:, None] + emitted  # (prefixes, classes): each prefix with one more character
    # A repeated class is a new character only after a blank.
    longer[np.arange(len(prefixes)), last] = in_blank + emitted[last]
    targets = constraint.transitions(len(emitted))[states]  # (prefixes, classes), negative where not allowed
    longer[(targets < 0) | (constraint.min_characters[targets] > remaining_steps)] = -np.inf
    same_in_blank, same_in_character = total + emitted[BLANK], in_character + emitted[last]  # (prefixes,)
    # If the beam already contains an extended prefix, add the probability to it instead of duplicating it.
    numbers = {prefix: number for number, prefix in enumerate(prefixes)}
    for number, prefix in enumerate(prefixes):
        parent = numbers.get(prefix[:-1]) if prefix else None
        if parent is not None:
            gained = longer[parent, prefix[-1]]
            same_in_character[number] = np.logaddexp(same_in_character[number], gained)
            longer[parent, prefix[-1]] = -np.inf
    same = np.logaddexp(same_in_blank, same_in_character)
    same[constraint.min_characters[states] > remaining_steps] = -np.inf
    scores = np.concatenate([same, longer.ravel()])  # (prefixes * (1 + classes),)
    best = np.argsort(-scores, kind="stable")[:width]
    best = best[scores[best] > -np.inf]
    kept = best[best < len(prefixes)]
    parents, added = np.divmod(best[best >= len(prefixes)] - len(prefixes), len(emitted))
    return (
        [prefixes[number] for number in kept]
        + [(*prefixes[parent], int(character)) for parent, character in zip(parents, added, strict=True)],
        np.concatenate([last[kept], added]),
        np.concatenate([states[kept], targets[parents, added]]),
        np.concatenate([same_in_blank[kept], np.full(len(parents), -np.inf)]),
        np.concatenate([same_in_character[kept], longer[parents, added]]),
    )


def _with_log_probabilities(log_probabilities, texts):
    """Returns tuples `(text, log_probability)` of the texts that fit in the steps, most probable first."""
    rows = np.broadcast_to(log_probabilities, (len(texts), *log_probabilities.shape))
    scored = zip(texts, text_log_probabilities(rows, texts).tolist(), strict=True)
    return sorted(((text, score) for text, score in scored if score > -np.inf), key=lambda pair: -pair[1])
