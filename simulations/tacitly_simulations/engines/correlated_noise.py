"""Noise of a matrix mechanism: what a round adds, later rounds take back in part.

DP-FTRL as Choquette-Choo et al. 2023, "(Amplified) banded matrix factorization", have it: with
fresh Gaussian vectors z_1, z_2, ... and a banded lower-triangular C the noise of round t is
(C^-1 z)_t, so that the *sum* of all rounds, which is what a model is, carries less of it. All that
is released follows from C x + z, x the rounds' sums. Here C is Toeplitz; its coefficients are made
by a library (docs/simulations.md).

It needs somebody trusted who sees the sum and keeps the noise from one round to the next: a central
baseline. No device's share can be drawn like this, and no deployed plan has it.

    noise = CorrelatedNoise((0.86, 0.45, 0.26), draw)   # draw(t) is z_t
    noise.of_round(3)
"""

import math
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tacitly_common.errors import ValidationError


def normalised(coefficients: Sequence[float]) -> tuple[float, ...]:
    """The first column of C, scaled to the L2 norm 1.

    A person who is in rounds at least `len(coefficients)` apart then moves C x by an L2 norm of at
    most sqrt(participations) clip norms: the columns of its rounds share no row. That is what
    independent noise is accounted for, so z and ε are the same.

    Raises:
        ValidationError: not finite, or the first is not positive.
    """
    norm = math.sqrt(sum(c * c for c in coefficients))
    if not coefficients or not math.isfinite(norm) or coefficients[0] <= 0:
        raise ValidationError(
            f"noise_coefficients must be numbers, the first above 0, got {list(coefficients)!r:.80}"
        )
    return tuple(c / norm for c in coefficients)


class CorrelatedNoise:
    """`coefficients` as `normalised` gives them; `draw(t)` is z_t, float64[d], of round t >= 1.

    What a round gets depends on `draw` alone: after a kill it is drawn again from the beginning.
    """

    def __init__(
        self, coefficients: Sequence[float], draw: Callable[[int], NDArray[np.float64]]
    ) -> None:
        self._first, *self._others = coefficients
        self._draw = draw
        # The newest first; at least the last one, which may be asked for again.
        self._recent: deque[NDArray[np.float64]] = deque(maxlen=max(len(self._others), 1))
        self._rounds = 0

    def of_round(self, number: int) -> NDArray[np.float64]:
        """(C^-1 z)_number, float64[d]. Rounds go forward."""
        while self._rounds < number:
            self._rounds += 1
            noise = self._draw(self._rounds)
            for coefficient, earlier in zip(self._others, self._recent, strict=False):
                noise = noise - coefficient * earlier
            self._recent.appendleft(noise / self._first)
        return self._recent[0]


def spread(coefficients: Sequence[float], rounds: int) -> float:
    """A round's noise in fresh draws: the rms of C^-1's row norms over the rounds."""
    unit = CorrelatedNoise(coefficients, lambda number: np.array([float(number == 1)]))
    column = np.array([unit.of_round(number)[0] for number in range(1, rounds + 1)])
    return float(np.sqrt(np.cumsum(column**2).mean()))
