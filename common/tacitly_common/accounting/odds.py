"""ε the way a person can read it: of 100 guesses about who took part, how many are right.

The exact trade-off curve of composed Gaussian releases (Dong, Roth and Su 2022, equation 6):
whoever tests "did this person take part?" and accepts a share f of false alarms catches at most
Φ(Φ⁻¹(f) + μ) of those who did, with μ = sqrt(2ρ). Chance alone catches f.

The bound that follows from (ε, δ) alone is far looser (ε = 4: 98 of 100 instead of 66) and is not
shown. Shares are between 0 and 1; what is "of 100" says so in its name.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

from tacitly_common.accounting.subject import NANO
from tacitly_common.validation import non_negative, probability

# False alarms, of 100, that an officer may find acceptable: one in a thousand up to ten.
FALSE_ALARMS_OF_100: Final = (0.1, 1.0, 5.0, 10.0)
_NORMAL: Final = NormalDist()


@dataclass(frozen=True, slots=True)
class Odds:
    """Of 100 persons who took part `caught` are found at `false_alarms` of 100 who did not."""

    false_alarms: float
    caught: float


def gaussian_mu(nano_rho: int) -> float:
    """The μ of Gaussian differential privacy of releases that cost `nano_rho` in all."""
    non_negative(nano_rho=nano_rho)
    return math.sqrt(2 * nano_rho / NANO)


def share_caught(false_alarm_share: float, mu: float) -> float:
    """Φ(Φ⁻¹(f) + μ): the most that a test with false alarms `f` (0 < f <= 1) can catch."""
    probability(false_alarm_share=false_alarm_share)
    if false_alarm_share == 1:
        return 1.0
    return _NORMAL.cdf(_NORMAL.inv_cdf(false_alarm_share) + mu)


def share_best_guess_right(mu: float) -> float:
    """Φ(μ/2): how often the best guess about one person is right, at even odds beforehand."""
    return _NORMAL.cdf(mu / 2)


def odds_table(nano_rho: int) -> tuple[Odds, ...]:
    """The odds at each of `FALSE_ALARMS_OF_100`, rounded up to 1/100 of a person."""
    mu = gaussian_mu(nano_rho)
    return tuple(
        Odds(alarms, _up_of_100(share_caught(alarms / 100, mu))) for alarms in FALSE_ALARMS_OF_100
    )


def best_guess_right_of_100(nano_rho: int) -> float:
    """`share_best_guess_right` of 100 guesses, rounded up to 1/100 of a guess."""
    return _up_of_100(share_best_guess_right(gaussian_mu(nano_rho)))


def _up_of_100(share: float) -> float:
    return min(100.0, math.ceil(10_000 * share) / 100)
