"""Person-level accounting against its published numbers and an independent library."""

import math
from decimal import Decimal

import dp_accounting
import pytest
from dp_accounting.pld import privacy_loss_distribution
from hypothesis import given, settings
from hypothesis import strategies as st

from tacitly_common.accounting.subject import (
    cap_nano_rho,
    epsilon_of,
    gaussian_delta,
    nano_rho_per_participation,
    shown_epsilon,
)
from tacitly_common.errors import ValidationError


def test_worked_example_holds_to_the_integer() -> None:
    assert cap_nano_rho(4.0, 1e-6) == 351_003_648
    assert nano_rho_per_participation(Decimal("3.78")) == 34_993_422
    assert 351_003_648 // nano_rho_per_participation(Decimal("3.78")) == 10
    assert 351_003_648 // nano_rho_per_participation(Decimal("3.774")) == 9


@pytest.mark.parametrize(
    ("epsilon", "mu"), [(0.5, 0.12), (1.0, 0.24), (2.0, 0.45), (4.0, 0.84), (8.0, 1.53)]
)
def test_caps_give_the_published_gaussian_parameters(epsilon: float, mu: float) -> None:
    assert math.sqrt(2 * cap_nano_rho(epsilon, 1e-6) / 1e9) == pytest.approx(mu, abs=0.006)


@settings(max_examples=250, deadline=None)
@given(st.floats(0.5, 40), st.integers(1, 200), st.sampled_from([1e-5, 1e-6, 1e-7, 1e-9]))
def test_epsilon_is_never_below_the_true_one_and_at_most_one_percent_above(
    noise_multiplier: float, participations: int, delta: float
) -> None:
    """dp-accounting's own Gaussian ε of the composed noise; the grid adds 1/10,000."""
    multiplier = Decimal(repr(noise_multiplier))
    spent = participations * nano_rho_per_participation(multiplier)
    exact, shown = epsilon_of(spent, delta), shown_epsilon(spent, delta)
    true = dp_accounting.get_epsilon_gaussian(noise_multiplier / math.sqrt(participations), delta)
    assert true * (1 - 1e-9) <= exact <= true * 1.01 + 1e-6
    assert true * (1 - 1e-9) <= shown <= true * 1.01 + 1.01e-4


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**14), st.sampled_from([1e-4, 1e-6, 1e-9]))
def test_the_epsilon_shown_holds_and_a_step_less_does_not(nano_rho: int, delta: float) -> None:
    mu, shown = math.sqrt(2 * nano_rho / 1e9), shown_epsilon(nano_rho, delta)
    assert gaussian_delta(shown, mu) <= delta
    assert shown == 0 or gaussian_delta(shown - 1.0001e-4, mu) > delta
    assert shown == 0 or cap_nano_rho(shown, delta) >= nano_rho


def test_the_cap_of_an_epsilon_is_shown_as_that_epsilon() -> None:
    for epsilon in (0.5, 1.0, 2.0, 4.0, 7.1145, 8.0):
        assert shown_epsilon(cap_nano_rho(epsilon, 1e-6), 1e-6) == epsilon


def test_composed_delta_agrees_with_a_numeric_privacy_loss_distribution() -> None:
    pld = privacy_loss_distribution.from_gaussian_mechanism(3.78 / math.sqrt(10))
    mu = math.sqrt(10) / 3.78
    for epsilon in (0.5, 2.0, 4.0):
        # The library's distribution is pessimistic by construction.
        assert gaussian_delta(epsilon, mu) == pytest.approx(
            pld.get_delta_for_epsilon(epsilon), rel=2e-3
        )


@given(st.floats(0.05, 50), st.sampled_from([1e-4, 1e-6, 1e-9]))
@settings(max_examples=50, deadline=None)
def test_cap_is_the_last_integer_within_epsilon(epsilon: float, delta: float) -> None:
    cap = cap_nano_rho(epsilon, delta)
    assert epsilon_of(cap, delta) <= epsilon * (1 + 1e-8)
    assert epsilon_of(cap + 1, delta) > epsilon * (1 - 1e-8)


def test_extremes() -> None:
    assert epsilon_of(0, 1e-6) == 0.0
    assert gaussian_delta(1.0, 0.0) == 0.0
    assert gaussian_delta(2_000.0, 1.0) == 0.0
    assert epsilon_of(10**12, 1e-6) > 1_000


@pytest.mark.parametrize("bad", ["0", "-1", "NaN", "Infinity"])
def test_a_noise_multiplier_that_is_not_positive_is_refused(bad: str) -> None:
    with pytest.raises(ValidationError, match="noise_multiplier must be > 0"):
        nano_rho_per_participation(Decimal(bad))


@pytest.mark.parametrize("bad", [0.0, 1.0, 2.0, math.nan])
def test_a_cap_at_a_delta_that_bounds_nothing_is_refused(bad: float) -> None:
    with pytest.raises(ValidationError, match="delta"):
        cap_nano_rho(4.0, bad)
