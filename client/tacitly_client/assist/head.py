"""A person's own habits beside the model everybody shares: counts of what followed what.

    head = PersonalHead.learn(tokens, model)      # a second or less; nothing is written
    head.mix(model_probabilities, histories)      # what to expect of this person

Two parts, both from this person's own events:

- an n-gram over the last `_ORDER` - 1 tokens, interpolated Witten-Bell (Chen & Goodman 1999,
  eq. 17), below the empty history uniform over the vocabulary;
- how far to trust it: P = w model + (1 - w) n-gram, with w from expectation maximisation
  (Jelinek & Mercer 1980) on the newest fifth, of which the counts that are judged know nothing.

It never leaves: it is derived from the store whenever it is wanted, lives in the memory of the
process that suggests, and is gone with it. Erased events are in no head that is made afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from tacitly_client.assist.recurrent import RecurrentModel
from tacitly_common.vocabulary import START

_ORDER: Final = 6
HISTORY: Final = _ORDER - 1  # tokens that a history has at the most
_JUDGED: Final = 0.2
_LEAST_JUDGED: Final = 50
_EM_STEPS: Final = 20
# Recent habits are what counts, and a long store must cost no more than this: 2 s and 5,000 steps.
_MOST_TOKENS: Final = 100_000
_MOST_JUDGED: Final = 5_000

History = tuple[int, ...]
Probabilities = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Followers:
    """What followed one history: tokens int64[n], their counts float64[n], and the sums."""

    tokens: NDArray[np.int64]
    counts: Probabilities
    seen: float


@dataclass(frozen=True, slots=True)
class PersonalHead:
    """One person's counts. `weight` is the model's share, 1.0 for too few events to know.

    Its `repr` shows nothing that was typed.
    """

    vocabulary_size: int
    weight: float
    _followers: dict[History, _Followers] = field(repr=False)

    @classmethod
    def learn(cls, tokens: NDArray[np.int64], model: RecurrentModel) -> Self:
        """The head of a person's tokens, int64[n] in the order of time: of the newest 100,000."""
        size = model.vocabulary_size
        tokens = tokens[-_MOST_TOKENS:]
        judged = min(int(_JUDGED * len(tokens)), _MOST_JUDGED)
        if np.count_nonzero(tokens[len(tokens) - judged :] != START) < _LEAST_JUDGED:
            return cls(size, 1.0, {})
        older = cls(size, 0.0, _count(tokens[:-judged]))
        weight = _share_of_model(tokens, judged, model, older)
        return cls(size, weight, _count(tokens))

    def mix(self, model: Probabilities, histories: Sequence[History]) -> Probabilities:
        """The distribution of the next token in each row: float64[rows, vocabulary].

        `histories` are the tokens before it, at most `HISTORY` and none before a `START`.
        """
        if self.weight == 1.0:
            return model
        own = np.stack([self.probabilities(history) for history in histories])
        return self.weight * model + (1 - self.weight) * own

    def probabilities(self, history: History) -> Probabilities:
        """What follows a history by the counts alone: float64[vocabulary]."""
        result = np.full(self.vocabulary_size, 1 / self.vocabulary_size)
        for length in range(len(history) + 1):
            followers = self._followers.get(history[len(history) - length :])
            if followers is None:
                break  # a longer history was not seen either
            distinct = len(followers.tokens)
            result *= distinct / (followers.seen + distinct)
            result[followers.tokens] += followers.counts / (followers.seen + distinct)
        return result


def _count(tokens: NDArray[np.int64]) -> dict[History, _Followers]:
    counts: dict[History, dict[int, int]] = {}
    history: History = ()
    for token in tokens.tolist():
        if token == START:
            history = ()
            continue
        for length in range(len(history) + 1):
            followers = counts.setdefault(history[len(history) - length :], {})
            followers[token] = followers.get(token, 0) + 1
        history = (*history, token)[-HISTORY:]
    return {
        history: _Followers(
            np.fromiter(followers, dtype=np.int64, count=len(followers)),
            np.fromiter(followers.values(), dtype=np.float64, count=len(followers)),
            float(sum(followers.values())),
        )
        for history, followers in counts.items()
    }


def _share_of_model(
    tokens: NDArray[np.int64], judged: int, model: RecurrentModel, older: PersonalHead
) -> float:
    """The weight that makes the newest `judged` tokens most likely."""
    by_model, by_counts = [], []
    states, history = model.advance(model.begin(), np.array([START])), ()
    known = len(tokens) - judged
    # A window of context is enough to judge with: the state forgets what lies before.
    first = max(0, known - 256)
    recent: History = history
    for place, token in enumerate(tokens[first:].tolist(), start=first):
        if token != START and place >= known:
            by_model.append(model.probabilities(states)[0, token])
            by_counts.append(older.probabilities(recent)[token])
        states = model.advance(states, np.array([token]))
        recent = extended(recent, token)
    one, other = np.array(by_model), np.array(by_counts)
    weight = 0.5
    for _ in range(_EM_STEPS):
        weight = float((weight * one / (weight * one + (1 - weight) * other)).mean())
    return weight


def extended(history: History, token: int) -> History:
    """The history after one more token."""
    return () if token == START else (*history, token)[-HISTORY:]
