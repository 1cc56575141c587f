"""A person's token stream -> what is trained on and what is held out, and the records in it."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tacitly_common.campaign import RecordMechanism
from tacitly_common.vocabulary import START

# The newest share of a person's tokens is never trained on: it tells whether the model is any
# good for this person.
HELD_OUT: Final = 0.2

Tokens = NDArray[np.int64]


def split_by_time(tokens: Tokens, held_out: float = HELD_OUT) -> tuple[Tokens, Tokens]:
    """The older and the newer part of a stream, int64[n] in the order of time.

    The older part has floor((1 - held_out)·m) of the stream's m tokens other than START. A
    START goes with the token after it.
    """
    predicted = np.flatnonzero(tokens != START)
    first = int((1 - held_out) * len(predicted))
    if first == len(predicted):
        return tokens, tokens[:0]
    cut = int(predicted[first])
    while cut and tokens[cut - 1] == START:
        cut -= 1
    return tokens[:cut], tokens[cut:]


def training_windows(tokens: Tokens, record: RecordMechanism) -> Tokens:
    """The records of a stream: int64[windows, window_tokens + 1], the newest `max_windows`.

    A row is START and then `window_tokens` consecutive tokens of the stream; the last row is
    filled up with START. Rows are disjoint, so one token lies in one record. They are counted
    from the stream's beginning: events that arrive later leave the full ones as they are.

    | stream               | result                  |
    |----------------------|-------------------------|
    | empty, or only START | [0, window_tokens + 1]  |
    """
    length = record.window_tokens
    if not (tokens != START).any():
        return np.empty((0, length + 1), dtype=np.int64)
    count = -(-len(tokens) // length)
    padded = np.full(count * length, START, dtype=np.int64)
    padded[: len(tokens)] = tokens
    rows = padded.reshape(count, length)[-record.max_windows :]
    return np.concatenate([np.full((len(rows), 1), START, dtype=np.int64), rows], axis=1)


def windows_of_days(days: Sequence[Tokens], record: RecordMechanism) -> Tokens:
    """The records of a person's days, oldest first: as `training_windows`, of each day's own.

    The held-out tail of all days together is left out. No record reaches over midnight, and those
    of a day are counted from its beginning. So a day that expires between two rounds takes its own
    records away and moves no other: a token is of the same record for as long as it is stored,
    which is what the record level's composition over rounds counts on.
    """
    left = len(split_by_time(np.concatenate(days))[0]) if days else 0
    rows = [np.empty((0, record.window_tokens + 1), dtype=np.int64)]
    for day in days:
        rows.append(training_windows(day[:left], record))
        left = max(left - len(day), 0)
    return np.concatenate(rows)[-record.max_windows :]
