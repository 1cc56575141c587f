"""The trivial predictors every model is held against: n-grams of counts.

Probability: interpolated Witten-Bell (Chen & Goodman 1999, eq. 17),

    P(w | h) = (c(h w) + T(h) P(w | h')) / (c(h) + T(h))

with c counts in training, T(h) the number of distinct followers of h, h' the history h without
its oldest token, and below the empty history the uniform distribution over the training
vocabulary and one unknown. A history not seen in training has P(w | h) = P(w | h').
Guesses: the most frequent followers of the longest history that has a known one in training, ties
by token.

Streams are `Vocabulary.encode`'s: `START` opens each session, is never predicted, and stands
for all that lies before the session. `UNKNOWN` has its probability but is no guess: as the token
to predict it counts, and is always a miss.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tacitly_common.errors import ValidationError
from tacitly_common.validation import in_range
from tacitly_common.vocabulary import START, UNKNOWN

Tokens = NDArray[np.int64]
_GUESSES: Final = 3
_NOTHING: Final = -1  # a guess that no history offers: always a miss


@dataclass(frozen=True, slots=True)
class NgramScore:
    """Over `predictions` held-out tokens: share guessed first, among three, and perplexity."""

    top1: float
    top3: float
    perplexity: float
    predictions: int


def pooled_ngram(streams: Sequence[Tokens], order: int, *, held_out: float = 0.2) -> NgramScore:
    """Counts over all persons' first parts, scored on all persons' last parts.

    Args:
        streams: one person's tokens each, in the order of time.
        order: 1 unigram, 2 bigram, ...: a guess sees `order` - 1 tokens.
        held_out: the last share of each person's tokens (without `START`) is predicted.

    Raises:
        ValidationError: order or held_out out of range, or nothing is held out.
    """
    in_range(1, 16, order=order)
    in_range(0, 1, held_out=held_out)
    parts = [_rows(stream, order) for stream in streams]
    training = [np.arange(len(part)) < int((1 - held_out) * len(part)) for part in parts]
    if all(part.all() for part in training):
        raise ValidationError("nothing is held out; give longer streams or a larger held_out")
    hits, log_likelihood = _predict(np.concatenate(parts), np.concatenate(training))
    return NgramScore(
        top1=float(hits[:, 0].mean()),
        top3=float(hits.any(axis=1).mean()),
        perplexity=float(np.exp(-log_likelihood.mean())),
        predictions=len(hits),
    )


def _rows(stream: Tokens, order: int) -> Tokens:
    """A row a predicted token: the token and the `order` - 1 before it, the nearest first."""
    columns = [stream]
    for distance in range(1, order):
        before = np.concatenate([np.full(distance, START), stream])[: len(stream)]
        columns.append(np.where(columns[-1] == START, START, before) if distance > 1 else before)
    rows: Tokens = np.stack(columns, axis=1)[stream != START]
    return rows


def _predict(
    rows: Tokens, training: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """For each row not in training: which of the guesses hit [n, 3], and the log-likelihood [n].

    Histories grow by one token a turn; what the shorter one says is what the longer falls back on.
    """
    targets, base = rows[:, 0], int(rows.max(initial=0)) + 1
    wanted = targets[~training]
    probability = np.full(len(wanted), 1 / (len(np.unique(targets[training])) + 1))
    guesses = np.full((len(wanted), _GUESSES), _NOTHING)
    history = np.zeros(len(rows), dtype=np.int64)
    for length in range(rows.shape[1]):
        if length:
            history = _dense(history * base + rows[:, length])
        pair = _dense(history * base + targets)
        seen = np.bincount(history[training], minlength=history.max() + 1)
        together = np.bincount(pair[training], minlength=pair.max() + 1)
        _, first = np.unique(pair, return_index=True)
        history_of, target_of = history[first], targets[first]
        distinct = np.bincount(history_of[together > 0], minlength=len(seen))

        here = history[~training]
        c, t = seen[here], distinct[here]
        known = c > 0
        probability = np.where(
            known, (together[pair[~training]] + t * probability) / np.maximum(c + t, 1), probability
        )
        best = _most_frequent(history_of, target_of, together, len(seen))[here]
        offers = best[:, 0] != _NOTHING
        guesses[offers] = best[offers]
    return guesses == wanted[:, None], np.log(probability)


def _most_frequent(history: Tokens, target: Tokens, count: Tokens, histories: int) -> Tokens:
    """The `_GUESSES` most frequent known targets of each history: [histories, _GUESSES]."""
    order = np.lexsort((target, -count, history))
    order = order[(count[order] > 0) & (target[order] != UNKNOWN)]
    sorted_history = history[order]
    rank = np.arange(len(order)) - np.searchsorted(sorted_history, sorted_history)
    best = np.full((histories, _GUESSES), _NOTHING)
    top = rank < _GUESSES
    best[sorted_history[top], rank[top]] = target[order[top]]
    return best


def _dense(values: Tokens) -> Tokens:
    """Equal values -> equal numbers 0, 1, ... without gaps."""
    return np.unique(values, return_inverse=True)[1]
