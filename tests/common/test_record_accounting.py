"""The record level's integers against two independent libraries and exact bounds."""

import logging
import math
import random
import subprocess
import sys
from decimal import Decimal

import dp_accounting
import pytest
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.rdp import RdpAccountant
from dp_accounting.rdp.rdp_privacy_accountant import compute_epsilon
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import RDPAccountant as OpacusAccountant
from opacus.accountants.analysis.rdp import compute_rdp

from tacitly_common.accounting.record import (
    LARGEST_EPSILON,
    NO_RDP,
    ORDERS,
    PICO,
    SATURATED,
    admits,
    compose,
    epsilon_of_rdp,
    rdp_of_steps,
)
from tacitly_common.accounting.subject import NANO, epsilon_of
from tacitly_common.errors import ValidationError

DELTA = Decimal("1e-5")


def random_settings() -> list[tuple[float, float]]:
    """Fifty pairs of noise in 0.3..10 and rate in 1e-4..1, among them no sampling at all."""
    rng = random.Random(3)
    sampled = [
        (math.exp(rng.uniform(math.log(0.3), math.log(10))), 10 ** rng.uniform(-4, 0))
        for _ in range(46)
    ]
    return [*sampled, (0.3, 1.0), (10.0, 1.0), (0.3, 1e-4), (10.0, 1e-4)]


SETTINGS = random_settings()


@pytest.mark.parametrize(("noise", "rate"), SETTINGS)
def test_epsilon_is_close_to_dp_accountings_and_rdp_is_never_below_opacuss(
    noise: float, rate: float
) -> None:
    """Eight numbers of steps and deltas for each of fifty settings: 400 in all."""
    step = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise))
    accountant = RdpAccountant().compose(step)
    rng = random.Random(f"{noise} {rate}")
    for _ in range(8):
        steps, delta = int(10 ** rng.uniform(0, 5)), 10 ** rng.uniform(-9, -5)
        ours = rdp_of_steps(noise, rate, steps)
        theirs, _ = compute_epsilon(accountant.orders, accountant.rdp * steps, delta)
        assert epsilon_of_rdp(ours, delta) <= 1.05 * theirs
        # Opacus's series over fractional orders is not made for every setting; the finite is.
        whole = [order for order in ORDERS if order.is_integer()]
        of_opacus = compute_rdp(q=rate, noise_multiplier=noise, steps=steps, orders=whole)
        for order, bound in zip(whole, of_opacus, strict=True):
            value = ours[ORDERS.index(order)]
            assert value == SATURATED or value >= PICO * bound


@pytest.mark.parametrize(
    ("noise", "rate", "steps"),
    [
        (0.6, 0.01, 100),
        (0.8, 0.1, 5),
        (0.859, 0.002, 400),
        (1.0, 0.2, 20),
        (1.1, 0.01, 1_000),
        (2.0, 0.5, 50),
        (4.0, 0.05, 2_000),
    ],
)
def test_epsilon_is_never_below_a_lower_bound_of_the_true_one(
    noise: float, rate: float, steps: int
) -> None:
    """The optimistic privacy loss distribution: another method, rounded the other way."""
    one = pld.from_gaussian_mechanism(
        noise,
        sampling_prob=rate,
        pessimistic_estimate=False,
        value_discretization_interval=1e-3,
        use_connect_dots=False,
    )
    true_at_least = one.self_compose(steps).get_epsilon_for_delta(float(DELTA))
    assert true_at_least > 0.1
    assert true_at_least <= epsilon_of_rdp(rdp_of_steps(noise, rate, steps), DELTA)


@given(noise=st.floats(0.3, 10), steps=st.integers(1, 100_000))
@settings(max_examples=50, deadline=None)
def test_without_sampling_it_is_never_below_the_exact_gaussian(noise: float, steps: int) -> None:
    exact = epsilon_of(math.floor(NANO * steps / (2 * noise**2)), 1e-6)
    assert epsilon_of_rdp(rdp_of_steps(noise, 1, steps), 1e-6) >= exact


@pytest.mark.parametrize(
    "history", [[(1.1, 0.01, 1_000)], [(0.8, 0.02, 50), (1.5, 0.1, 20)], [(4.0, 1.0, 10)]]
)
def test_composed_settings_agree_with_opacus(history: list[tuple[float, float, int]]) -> None:
    opacus = OpacusAccountant()
    opacus.history = history
    total = NO_RDP
    for noise, rate, steps in history:
        total = compose(total, rdp_of_steps(noise, rate, steps))
    # Our grid holds Opacus's orders and more, so it may be below. It may be above by a hair:
    # dp-accounting bounds the series of a fractional order, Opacus sums it.
    theirs = opacus.get_epsilon(1e-5)
    assert 0.95 * theirs <= epsilon_of_rdp(total, 1e-5) <= 1.001 * theirs


def test_no_step_costs_nothing() -> None:
    assert epsilon_of_rdp(NO_RDP, DELTA) == 0.0


def test_the_grid_is_the_one_that_stored_sums_are_in() -> None:
    assert list(ORDERS) == sorted(set(ORDERS))
    assert (len(ORDERS), ORDERS[0], ORDERS[-1]) == (167, 1.02, 1024.0)
    assert math.fsum(ORDERS) == pytest.approx(6_405.07, abs=1e-6)


def test_a_bound_that_does_not_fit_is_none_and_stays_none() -> None:
    huge = rdp_of_steps(0.001, 1, 10**9)
    assert set(huge) == {SATURATED}
    assert compose(huge, rdp_of_steps(10, 1, 1)) == huge
    assert epsilon_of_rdp(huge, DELTA) == math.inf
    assert not admits(NO_RDP, huge, epsilon=Decimal(LARGEST_EPSILON), delta=DELTA)


@pytest.mark.parametrize(
    ("noise", "rate", "steps"),
    [(0, 1, 1), (-1, 1, 1), (1e-10, 1, 1), (math.nan, 1, 1), (1, 0, 1), (1, 1.1, 1), (1, 1, 0)],
)
def test_what_is_no_mechanism_is_refused(noise: float, rate: float, steps: int) -> None:
    with pytest.raises(ValidationError):
        rdp_of_steps(noise, rate, steps)


MECHANISMS = st.tuples(
    st.sampled_from([Decimal("0.5"), Decimal("0.8"), Decimal(1), Decimal("2.5"), Decimal(8)]),
    st.sampled_from([Decimal("0.001"), Decimal("0.01"), Decimal("0.2"), Decimal(1)]),
    st.integers(1, 2_000),
)


@given(
    requests=st.lists(MECHANISMS, min_size=1, max_size=12),
    epsilon=st.decimals("0.1", "20", places=2),
    delta=st.sampled_from([Decimal("1e-5"), Decimal("1e-9")]),
)
@settings(max_examples=100, deadline=None)
def test_what_the_filter_admits_never_passes_the_cap(
    requests: list[tuple[Decimal, Decimal, int]], epsilon: Decimal, delta: Decimal
) -> None:
    spent = NO_RDP
    for noise, rate, steps in requests:
        adding = rdp_of_steps(noise, rate, steps)
        if admits(spent, adding, epsilon=epsilon, delta=delta):
            spent = compose(spent, adding)
            assert epsilon_of_rdp(spent, delta) <= epsilon
        else:
            # It refuses for cause: only a hair below the cap is lost to rounding.
            assert epsilon_of_rdp(compose(spent, adding), delta) >= float(epsilon) * (1 - 1e-9)


@given(requests=st.lists(MECHANISMS, min_size=2, max_size=6), data=st.data())
@settings(max_examples=50, deadline=None)
def test_the_order_of_steps_and_how_they_are_counted_out_do_not_matter(
    requests: list[tuple[Decimal, Decimal, int]], data: st.DataObject
) -> None:
    def total(of: list[tuple[Decimal, Decimal, int]]) -> tuple[int, ...]:
        spent = NO_RDP
        for noise, rate, steps in of:
            spent = compose(spent, rdp_of_steps(noise, rate, steps))
        return spent

    assert total(data.draw(st.permutations(requests))) == total(requests)
    noise, rate, steps = requests[0]
    halves = [(noise, rate, steps), (noise, rate, 1)]
    at_once = rdp_of_steps(noise, rate, steps + 1)
    assert all(
        a <= b <= a + 1 or b == SATURATED for a, b in zip(at_once, total(halves), strict=True)
    )


def test_what_the_library_says_of_left_out_orders_goes_to_the_log(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG, logger="tacitly_common.accounting.record"):
        rdp_of_steps(30, 0.5, 1)
    assert "failed to converge" in caplog.text
    assert {record.name for record in caplog.records} == {"tacitly_common.accounting.record"}
    assert capfd.readouterr() == ("", "")


def test_importing_it_loads_neither_torch_nor_scipy() -> None:
    program = (
        "import sys, tacitly_common.accounting.record as r; r.epsilon_of_rdp(r.NO_RDP, 1e-5);"
        "print(sorted({'torch', 'scipy', 'opacus', 'dp_accounting'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
