"""Person-level accounting of integer noise: sums of rounded Gaussians cost what a Gaussian does.

An answer is an integer vector q with |q|² <= B² plus, in each coordinate, a share
round(N(0, s²)). Of the sum over m answers this module shows: within a total variation too small
to matter it is *post-processing* of the Gaussian mechanism, sum(q) + N(0, m s²). So the exact
Gaussian conversion of `subject.py` holds for it, and a participation costs B²/(2 m s²) = 1/(2 z²)
in ρ, as with any Gaussian. (Sums of Skellam or discrete Gaussian shares have only their Rényi
bounds: Agarwal, Kairouz and Liu 2021, Theorem 3.5; Kairouz, Liu and Steinke 2021, Theorem 1. An ε
from these is 7% higher at ε = 4, and ledgers that add them to Gaussian releases could show no
other.)

    round(N(0, s²)) has the mass (φ_s * u)(k) at k, u the density of a uniform U on [-1/2, 1/2].
    Its characteristic function is the sum over integers j of g(θ + 2πj),
        g(ω) = exp(-s²ω²/2) sin(ω/2)/(ω/2)                              (Poisson summation)
    so that of m shares is (Σ_j g(θ + 2πj))^m.
    round(N(0, m s²) + U_1 + .. + U_{m-1}), a post-processing, has Σ_j g(θ + 2πj)^m.

The two differ by the terms j ≠ 0 alone, at most (m + 1)·A with A = Σ_{j≠0} exp(-s²(θ + 2πj)²/2),
A < 2.1·exp(-π²s²/2) for |θ| <= π and s >= 1. Masses differ by no more than that; summed over
|k| <= πs²√m + m, with twice the tails beyond, the total variation of one coordinate is at most

    (m + 1)(πs²√m + m + 1)·A + 4·exp(-π²s²/2)           (`log_distance`, times the coordinates)

At s = 8 that is 1e-130 or less; it is added to δ, of which it is no part that a float64 could hold.
m may be any number: more answers only add noise, and without colluders' shares fewer are left.

What this does not cover: shares come from a float64 sampler over a secure stream (`gaussian.py`).
"""

import math
from decimal import Decimal
from fractions import Fraction
from typing import Final

# Of a share, in grid steps. The distance above is then below 1e-100 for any plan.
SMALLEST_SHARE_STD: Final = 8
# ln(1/β), β the chance that a stochastic rounding passes the bound and is drawn again.
_LOG_REDRAWN: Final = 20


def squared_norm_bound(clip_steps: int, coordinates: int) -> int:
    """B²: the squared L2 norm, in grid steps, that no rounded update exceeds.

    `clip_steps` is the clip norm c in grid steps. The square after an unbiased rounding of a vector
    of norm c keeps to c² + d/4 + sqrt(2 ln(1/β))·(c + sqrt(d)/2) with probability 1 - β, and always
    to (c + sqrt(d))² (Kairouz, Liu and Steinke 2021, conditional rounding: others are drawn again).
    """
    c, root = float(clip_steps), math.sqrt(coordinates)
    likely = c**2 + coordinates / 4 + math.sqrt(2 * _LOG_REDRAWN) * (c + root / 2)
    return math.floor(min(likely, (c + root) ** 2))


def share_std(noise_multiplier: Decimal, squared_bound: int, minimum: int) -> float:
    """s: `minimum` shares add up to a standard deviation of at least z·B. In grid steps."""
    square = Fraction(noise_multiplier) ** 2 * squared_bound / minimum
    share = math.sqrt(square)
    while Fraction(share) ** 2 < square:
        share = math.nextafter(share, math.inf)
    return share


def log_distance(share: float, answers: int, coordinates: int) -> float:
    """ln of a bound on the total variation between a sum and what dominates it (see above)."""
    m, exponent = answers, -((math.pi * share) ** 2) / 2
    spread = math.pi * share**2 * math.sqrt(m) + m + 1
    return math.log(coordinates) + exponent + math.log(2.1 * (m + 1) * spread + 4)
