"""Record-level accounting: what DP-SGD steps mean for one window of events.

Poisson-sampled Gaussian steps (Abadi et al. 2016) composed as Rényi DP on one frozen grid of
orders. Of any steps, the values at an order add up; the ledger keeps the sums as integers of
pico-RDP (1e-12), rounded up, and the filter admits further steps iff at some order the sum stays
within the cap (the Rényi filter of Feldman and Zrnic 2021). A ledger of its own: never added to
the person level.

    steps = rdp_of_steps(Decimal("1.1"), Decimal("0.01"), 1_000)     # one integer an order
    epsilon_of_rdp(steps, 1e-5)                                      # 1.712, never below it
    admits(NO_RDP, steps, epsilon=Decimal(4), delta=Decimal("1e-5")) # True

Pico and not nano: a single step at noise 10 and rate 1e-4 costs 6e-11, which a nano would round
up twentyfold.

The RDP of a step is dp-accounting's (Mironov, Talwar and Zhang 2019, section 3.3). Opacus has the
same formulas and brings torch along, so it is the check in the tests. Where the series of an order
does not converge the order takes the value of the next higher one: RDP never falls with the order.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final

from tacitly_common.validation import in_range, positive, probability

# Frozen: stored sums are by position, and another grid is another form of the ledger. It holds the
# default orders of Opacus 1.6 and dp-accounting 0.6, so it is as tight as either, and more below
# 1.1 and above 64, where these are loose by up to a half.
ORDERS: Final[tuple[float, ...]] = (
    *(1.02, 1.05),
    *(1 + tenths / 10 for tenths in range(1, 100)),
    *(float(order) for order in range(11, 65)),
    *(72.0, 80.0, 96.0, 112.0, 128.0, 160.0, 192.0, 256.0, 384.0, 512.0, 768.0, 1024.0),
)
PICO: Final = 10**12
# "No bound at this order", also after any further addition. Fits a signed 64-bit integer.
SATURATED: Final = 2**62
NO_RDP: Final[tuple[int, ...]] = (0,) * len(ORDERS)
LARGEST_EPSILON: Final = 1_000_000
SMALLEST_NOISE: Final = Decimal("1e-9")
LARGEST_NOISE: Final = 1_000_000

# The library computes in double precision. What it may be short of the true RDP of a step: the
# rounding of logarithms of up to 7,000 (log-gamma of 1,024) over (order - 1), and of exponents.
_STEP_SLACK: Final = 1e-14
_RELATIVE_SLACK: Final = 1e-9
# Above the rounding of the conversion to ε, whose largest term is log(1/δ)/0.02.
_EPSILON_SLACK: Final = 1e-11

_LOG: Final = logging.getLogger(__name__)


def rdp_of_steps(
    noise_multiplier: Decimal | float, sample_rate: Decimal | float, steps: int
) -> tuple[int, ...]:
    """Pico-RDP at each of `ORDERS` of so many steps, rounded up.

    | case                         | result                                    |
    |------------------------------|-------------------------------------------|
    | sample_rate 1                | the plain Gaussian's order/(2σ²)          |
    | no bound at an order         | `SATURATED` there                         |

    Raises:
        ValidationError: noise not in [1e-9, 1e6], rate not in (0, 1], steps not in [1, 1e9].
    """
    in_range(SMALLEST_NOISE, LARGEST_NOISE, noise_multiplier=noise_multiplier)
    probability(sample_rate=sample_rate)
    in_range(1, 10**9, steps=steps)
    one_step = _rdp_of_one_step(float(noise_multiplier), float(sample_rate))
    return tuple(
        min(math.ceil(Fraction(rdp) * steps * PICO), SATURATED) if math.isfinite(rdp) else SATURATED
        for rdp in one_step
    )


def compose(first: Sequence[int], second: Sequence[int]) -> tuple[int, ...]:
    """The pico-RDP of both."""
    return tuple(min(a + b, SATURATED) for a, b in zip(first, second, strict=True))


def epsilon_of_rdp(rdp: Sequence[int], delta: Decimal | float) -> float:
    """ε at `delta` of pico-RDP at each of `ORDERS`, rounded up; infinite if there is no bound.

    The least over the orders of ε = r + log(1 - 1/α) - log(δα)/(α - 1) (Canonne, Kamath and
    Steinke 2020, Proposition 12; Balle et al. 2020, Theorem 21), and 0 where the total variation
    alone, at most sqrt(1 - e^-r), is within `delta` (Bretagnolle and Huber 1979).

    Raises:
        ValidationError: delta is not in (0, 1].
    """
    probability(delta=delta)
    finite = [
        (order, value / PICO) for order, value in zip(ORDERS, rdp, strict=True) if value < SATURATED
    ]
    if any(-math.expm1(-r) <= float(delta) ** 2 for _, r in finite):
        return 0.0
    epsilon = min((r - _gain(order, float(delta)) for order, r in finite), default=math.inf)
    return max(0.0, epsilon + _EPSILON_SLACK * (1 + abs(epsilon)))


def admits(
    spent: Sequence[int], adding: Sequence[int], *, epsilon: Decimal, delta: Decimal
) -> bool:
    """Whether `adding` after `spent` keeps within (ε, δ) at some order.

    The order that is within in the end may depend on the past where settings do. A plan's do not:
    all its steps have one noise and one rate, so which orders last is known beforehand.

    Raises:
        ValidationError: epsilon is not in (0, `LARGEST_EPSILON`], or delta not in (0, 1].
    """
    positive(epsilon=epsilon)
    in_range(0, LARGEST_EPSILON, epsilon=epsilon)
    probability(delta=delta)
    # Twice the slack of `epsilon_of_rdp`: what is admitted is never shown above the cap.
    target = float(epsilon) * (1 - 2 * _EPSILON_SLACK) - 2 * _EPSILON_SLACK
    caps = (math.floor(PICO * (target + _gain(order, float(delta)))) for order in ORDERS)
    return any(total <= cap for total, cap in zip(compose(spent, adding), caps, strict=True))


def _gain(order: float, delta: float) -> float:
    """How much an ε at `delta` lies below the RDP of `order` that gives it (negative: above)."""
    return math.log(delta * order) / (order - 1) - math.log1p(-1 / order)


@lru_cache(maxsize=16)
def _rdp_of_one_step(noise_multiplier: float, sample_rate: float) -> tuple[float, ...]:
    """RDP of one step at each of `ORDERS`, the slack added; not finite where there is no bound."""
    import dp_accounting  # 1 s with scipy: only who composes steps pays for it
    from dp_accounting.rdp import RdpAccountant

    step = dp_accounting.PoissonSampledDpEvent(
        sample_rate, dp_accounting.GaussianDpEvent(noise_multiplier)
    )
    with _warnings_routed():
        by_order = RdpAccountant(ORDERS).compose(step).rdp
    least, bounds = math.inf, []
    for rdp in reversed(by_order.tolist()):
        least = min(least, max(rdp, 0.0) * (1 + _RELATIVE_SLACK) + _STEP_SLACK)
        bounds.append(least)
    return tuple(reversed(bounds))


@contextmanager
def _warnings_routed() -> Iterator[None]:
    """What dp-accounting says about orders it leaves out goes to our log and not to stderr."""

    def route(record: logging.LogRecord) -> bool:
        _LOG.debug("dp-accounting: %s", record.getMessage())
        return False

    absl = logging.getLogger("absl")
    absl.addFilter(route)
    try:
        yield
    finally:
        absl.removeFilter(route)
