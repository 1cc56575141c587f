"""ε as odds: privacy.md's table, and the bound on which no test can be better."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacitly_common.accounting.odds import (
    best_guess_right_of_100,
    gaussian_mu,
    odds_table,
    share_best_guess_right,
    share_caught,
)
from tacitly_common.accounting.subject import cap_nano_rho, gaussian_delta
from tacitly_common.errors import ValidationError


@pytest.mark.parametrize(
    ("epsilon", "mu", "best_guess", "caught_at_5", "caught_at_1_in_1000"),
    [
        (0.5, 0.12, 52.5, 6, 0.2),
        (1, 0.24, 54.7, 8, 0.2),
        (2, 0.45, 58.9, 12, 0.4),
        (4, 0.84, 66.2, 21, 1.2),
        (8, 1.53, 77.8, 46, 6.0),
    ],
)
def test_the_published_table(
    epsilon: float, mu: float, best_guess: float, caught_at_5: float, caught_at_1_in_1000: float
) -> None:
    spent = cap_nano_rho(epsilon, 1e-6)
    assert gaussian_mu(spent) == pytest.approx(mu, abs=0.006)
    assert best_guess_right_of_100(spent) == pytest.approx(best_guess, abs=0.06)
    odds = {one.false_alarms: one.caught for one in odds_table(spent)}
    assert odds[5.0] == pytest.approx(caught_at_5, abs=0.52)
    assert odds[0.1] == pytest.approx(caught_at_1_in_1000, abs=0.06)


@given(st.floats(0, 8), st.floats(1e-6, 1), st.floats(0.01, 10))
def test_the_odds_meet_the_privacy_bound_for_every_epsilon(
    mu: float, false_alarms: float, epsilon: float
) -> None:
    """(ε, δ(ε))-DP bounds any test: caught <= e^ε f + δ(ε). The curve is below all of them."""
    from math import exp

    bound = exp(epsilon) * false_alarms + gaussian_delta(epsilon, mu)
    assert false_alarms - 1e-12 <= share_caught(false_alarms, mu) <= bound + 1e-12


@given(st.integers(0, 10**11), st.integers(0, 10**11))
def test_more_spent_never_makes_the_odds_better(first: int, second: int) -> None:
    less, more = sorted((first, second))
    for before, after in zip(odds_table(less), odds_table(more), strict=True):
        assert before.false_alarms <= before.caught <= after.caught <= 100
    assert 50 <= best_guess_right_of_100(less) <= best_guess_right_of_100(more) <= 100


@given(st.integers(0, 10**11))
def test_what_is_shown_is_rounded_up(spent: int) -> None:
    mu = gaussian_mu(spent)
    assert best_guess_right_of_100(spent) >= 100 * share_best_guess_right(mu) - 1e-12
    for one in odds_table(spent):
        assert one.caught >= 100 * share_caught(one.false_alarms / 100, mu) - 1e-12


def test_nothing_spent_is_chance_and_accusing_everybody_catches_everybody() -> None:
    assert best_guess_right_of_100(0) == 50
    assert all(one.caught == pytest.approx(one.false_alarms, abs=0.0101) for one in odds_table(0))
    assert share_caught(1, 0.5) == 1


def test_a_share_of_no_false_alarms_is_refused() -> None:
    with pytest.raises(ValidationError, match="false_alarm_share must lie in"):
        share_caught(0, 1)
