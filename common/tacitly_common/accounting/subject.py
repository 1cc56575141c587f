"""Person-level accounting: integer nano-ρ (zCDP) enforced, ε shown.

A participation is one release of a Gaussian-noised sum with noise multiplier z relative to
the clip norm: ρ = 1/(2 z²) (Bun and Steinke 2016, Proposition 1.6). ρ adds up under full
adaptivity, so a ledger of integers is a valid privacy filter (Whitehouse et al. 2023, Theorem 1).

Integers are rounded against the spender: a cost up, a cap down. No amplification by sampling is
claimed: the server sees who takes part.

    nano_rho_per_participation(Decimal("3.78"))     -> 34_993_422
    cap_nano_rho(epsilon=4.0, delta=1e-6)           -> 351_003_648
    epsilon_of(351_003_648, delta=1e-6)             -> 4.0 (never below the true value)
"""

import math
from decimal import Decimal
from fractions import Fraction
from typing import Final

from tacitly_common.errors import ValidationError
from tacitly_common.validation import non_negative, positive, probability

NANO: Final = 10**9


def nano_rho_per_participation(noise_multiplier: Decimal) -> int:
    """ceil(1e9 / (2 z²)), exactly (rational arithmetic).

    Raises:
        ValidationError: z is not a positive finite number.
    """
    positive(noise_multiplier=noise_multiplier)
    return math.ceil(Fraction(NANO, 2) / Fraction(noise_multiplier) ** 2)


def gaussian_delta(epsilon: float, mu: float) -> float:
    """δ(ε) of a μ-GDP release: Φ(-ε/μ + μ/2) - e^ε Φ(-ε/μ - μ/2).

    Balle and Wang 2018, Theorem 8. μ = 0 gives 0. Computed in logarithms, so that a large ε
    neither overflows nor loses the difference.
    """
    from scipy.special import log_ndtr  # 0.2 s to import: only who shows an ε pays for it

    if mu == 0:
        return 0.0
    log_first = float(log_ndtr(-epsilon / mu + mu / 2))
    log_second = epsilon + float(log_ndtr(-epsilon / mu - mu / 2))
    if log_second >= log_first:
        return 0.0
    return math.exp(log_first) * -math.expm1(log_second - log_first)


def epsilon_of(nano_rho: int, delta: float) -> float:
    """The smallest ε at which ρ-zCDP Gaussian releases are (ε, δ)-DP, rounded up.

    Exact Gaussian conversion with μ = sqrt(2ρ); bisection keeps the safe end, so the result is
    at most 1e-9 (relative) above the true value and never below it.
    """
    non_negative(nano_rho=nano_rho)
    probability(delta=delta)
    mu = math.sqrt(2 * nano_rho / NANO)
    if gaussian_delta(0.0, mu) <= delta:
        return 0.0
    low, high = 0.0, 1.0
    while gaussian_delta(high, mu) > delta:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        if gaussian_delta(middle, mu) > delta:
            low = middle
        else:
            high = middle
    return high


def cap_nano_rho(epsilon: float, delta: float) -> int:
    """The largest whole nano-ρ whose ε at `delta` does not exceed `epsilon`.

    Raises:
        ValidationError: ε is not positive, or δ not in (0, 1): at 1 there is no largest.
    """
    positive(epsilon=epsilon)
    probability(delta=delta)
    if delta == 1:
        raise ValidationError("delta is 1, which any budget keeps; give one far below 1")
    low, high = 0, NANO
    while gaussian_delta(epsilon, math.sqrt(2 * high / NANO)) <= delta:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if gaussian_delta(epsilon, math.sqrt(2 * middle / NANO)) <= delta:
            low = middle
        else:
            high = middle
    return low


def shown_epsilon(nano_rho: int, delta: float) -> float:
    """The ε that commands print: the smallest multiple of 1/10,000 that truly holds.

    Never below `epsilon_of`'s true value, and exactly `epsilon` for `cap_nano_rho(epsilon)`
    wherever the cap was made from such a multiple.
    """
    mu = math.sqrt(2 * nano_rho / NANO)
    ten_thousandths = math.ceil(10_000 * epsilon_of(nano_rho, delta))
    # `epsilon_of` may be 1e-9 above the truth, just past a multiple that holds.
    below = (ten_thousandths - 1) / 10_000
    if below >= 0 and gaussian_delta(below, mu) <= delta:
        return below
    return ten_thousandths / 10_000
