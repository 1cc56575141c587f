"""Lower bounds on ε, each with its confidence, from guesses about who was in.

| bound              | assumes                                           | how tight            |
|--------------------|---------------------------------------------------|----------------------|
| `one_run_epsilon`  | canaries are in or out by independent fair coins  | loose, for Gaussians |
| `gaussian_epsilon` | that, and what the claim itself is: Gaussian      | a tenth below ε with |
|                    | noise that hits canaries independently            | 20,000 canaries      |
| `pair_epsilon`     | independent trials with and without               | needs many trials    |

`gaussian_epsilon` refutes a claim that was derived from Gaussian noise: the trade-off curve that
the ε stands for does not hold. `one_run_epsilon` refutes (ε, δ) itself, whatever the mechanism.
"""

from dataclasses import dataclass
from math import exp, log
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tacitly_common.accounting.subject import NANO, epsilon_of
from tacitly_common.errors import ValidationError

_LARGEST: Final = 50.0
# How many canaries to guess about, as shares of all. Fixed before anything is seen; each takes its
# part of the error.
_GUESSED: Final = (0.005, 0.02, 0.1)
# Where to cut the scores. Fixed for the same reason.
_CUTS: Final = (0.0, 1.0, 2.0, 3.0)


@dataclass(frozen=True, slots=True)
class Canaries:
    """What an auditor saw of each canary: float64[m], and whether it was in: bool[m].

    A score is in standard deviations of the claimed noise. On correct code it has deviation 1, and
    means of at most μ/2 for a canary that was in and -μ/2 for one that was left out, μ that of the
    claimed Gaussian differential privacy.
    """

    scores: NDArray[np.float64]
    included: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if (
            self.scores.shape != self.included.shape
            or self.included.all()
            or not self.included.any()
        ):
            raise ValidationError("an audit needs canaries that were in, and some that were out")


def one_run_epsilon(canaries: Canaries, *, delta: float, confidence: float) -> float:
    """The largest ε that (ε, δ)-DP refutes (Steinke, Nasr and Jagielski 2023, Theorem 5.2).

    Guesses "in" of the highest scores, and "out" of as many lowest, or of the highest alone.
    """
    order = np.argsort(canaries.scores)
    count, error = len(order), (1 - confidence) / (2 * len(_GUESSED))
    best = 0.0
    for share in _GUESSED:
        guesses = max(1, int(count * share))
        top = int(canaries.included[order[-guesses:]].sum())
        bottom = int((~canaries.included[order[:guesses]]).sum())
        for right, made in ((top, guesses), (top + bottom, 2 * guesses)):
            best = max(best, epsilon_of_guesses(count, made, right, delta=delta, error=error))
    return best


def epsilon_of_guesses(
    canaries: int, guesses: int, right: int, *, delta: float, error: float
) -> float:
    """The largest ε at which so many right guesses have a probability below `error`.

    | guesses | right   | result                                     |
    |---------|---------|--------------------------------------------|
    | 0       | 0       | 0                                          |
    | any     | any     | never infinite: n right ones can be chance |
    """
    if _chance(canaries, guesses, right, 0.0, delta) >= error:
        return 0.0
    low, high = 0.0, _LARGEST
    while high - low > 1e-6:
        middle = (low + high) / 2
        if _chance(canaries, guesses, right, middle, delta) < error:
            low = middle
        else:
            high = middle
    return low


def gaussian_epsilon(canaries: Canaries, *, delta: float, confidence: float) -> float:
    """ε at `delta` of the largest μ that the scores refute; 0 if they refute none.

    A μ-GDP mechanism keeps Φ⁻¹(caught) - Φ⁻¹(false alarms) <= μ at every cut (Dong, Roth and Su
    2022, Definition 4); both shares get exact intervals (Clopper and Pearson 1934), as Nasr et al.
    2023, "Tight auditing of differentially private machine learning", section 4.
    """
    error = (1 - confidence) / (2 * len(_CUTS))
    inside, outside = canaries.scores[canaries.included], canaries.scores[~canaries.included]
    mu = 0.0
    for cut in _CUTS:
        caught = share_at_least(int((inside > cut).sum()), len(inside), error)
        false_alarms = share_at_most(int((outside > cut).sum()), len(outside), error)
        if caught > 0 and false_alarms < 1:
            mu = max(mu, float(stats.norm.ppf(caught) - stats.norm.ppf(false_alarms)))
    return epsilon_of_mu(mu, delta)


def epsilon_of_mu(mu: float, delta: float) -> float:
    """ε at `delta` of μ-Gaussian differential privacy."""
    return epsilon_of(int(mu**2 / 2 * NANO), delta)


def pair_epsilon(
    with_hits: int,
    with_trials: int,
    without_hits: int,
    without_trials: int,
    *,
    delta: float,
    confidence: float,
) -> float:
    """ln((caught - δ)/false alarms), by exact intervals of independent trials; 0 at the least.

    A test that says "in" of `with_hits` among `with_trials` that were, and of `without_hits` among
    `without_trials` that were not (Jagielski, Ullman and Oprea 2020, section 3).
    """
    error = (1 - confidence) / 2
    caught = share_at_least(with_hits, with_trials, error) - delta
    false_alarms = share_at_most(without_hits, without_trials, error)
    return max(0.0, log(caught / false_alarms)) if caught > 0 else 0.0


def _chance(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """A bound on the probability of so many right guesses about an (ε, δ)-DP mechanism.

    β + 2mδ·max_i P[v - i <= B < v]/i with B ~ Binomial(guesses, e^ε/(1 + e^ε)), β = P[B >= v].
    """
    rate = 1 / (1 + exp(-epsilon))
    likely = float(stats.binom.sf(right - 1, guesses, rate))
    if right == 0:
        return likely
    below = np.cumsum(stats.binom.pmf(np.arange(right - 1, -1, -1), guesses, rate))
    slope = float((below / np.arange(1, right + 1)).max())
    return min(1.0, likely + 2 * canaries * delta * slope)


def share_at_least(hits: int, trials: int, error: float) -> float:
    """The lower end of Clopper and Pearson's one-sided interval of a share."""
    return float(stats.beta.ppf(error, hits, trials - hits + 1)) if hits else 0.0


def share_at_most(hits: int, trials: int, error: float) -> float:
    """The upper end of Clopper and Pearson's one-sided interval of a share."""
    return float(stats.beta.ppf(1 - error, hits + 1, trials - hits)) if hits < trials else 1.0
