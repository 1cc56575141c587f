"""Which simulated clients are there for a round, and which of them give up during it.

A model, not a measurement: every client is online with the same odds on average. With `diurnal`
its odds go up and down over a day of 24 rounds with the cosine of its own local hour, as a device
that only trains while idle and on power is there mostly at night (Bonawitz et al. 2019, "Towards
federated learning at scale", section 9: a factor of about four between peak and trough).
"""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from tacitly_common.validation import in_range, probability

_ROUNDS_OF_A_DAY: Final = 24
_SWING: Final = 0.6  # (1 + 0.6) / (1 - 0.6) = 4
_HOURS, _ONLINE, _DROPS = 1_004, 1_005, 1_006


class Availability(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`online` is the share of clients that can be asked, `dropout` of those that then fail."""

    online: float = 1.0
    diurnal: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        probability(online=self.online)
        in_range(0, 0.99, dropout=self.dropout)

    def is_online(self, clients: int, number: int, seed: Sequence[int]) -> NDArray[np.bool_]:
        """bool[clients]: who can be asked in round `number`. `seed` is (study, round, attempt)."""
        if self.online == 1 and not self.diurnal:
            return np.ones(clients, dtype=np.bool_)
        odds = np.full(clients, self.online)
        if self.diurnal:
            hours = np.random.default_rng((seed[0], _HOURS)).random(clients)
            odds *= 1 + _SWING * np.cos(2 * np.pi * (number / _ROUNDS_OF_A_DAY + hours))
        drawn: NDArray[np.bool_] = np.random.default_rng((_ONLINE, *seed)).random(clients) < odds
        return drawn

    def drops_out(self, selected: NDArray[np.int64], seed: Sequence[int]) -> NDArray[np.bool_]:
        """bool[selected]: who was asked and gives no answer."""
        drawn: NDArray[np.bool_] = (
            np.random.default_rng((_DROPS, *seed)).random(len(selected)) < self.dropout
        )
        return drawn


ALWAYS: Final = Availability()
