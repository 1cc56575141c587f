"""Record-level ε against an independent library."""

import dp_accounting
import pytest
from dp_accounting.rdp import RdpAccountant

from tacitly_common.accounting.record import record_epsilon

HISTORIES = [
    [(1.1, 0.01, 1_000)],
    [(0.8, 0.02, 50), (1.5, 0.1, 20)],
    [(4.0, 1.0, 10)],
]


@pytest.mark.parametrize("history", HISTORIES)
def test_epsilon_agrees_with_dp_accounting(history: list[tuple[float, float, int]]) -> None:
    accountant = RdpAccountant()
    for noise_multiplier, rate, steps in history:
        event = dp_accounting.GaussianDpEvent(noise_multiplier)
        accountant.compose(dp_accounting.PoissonSampledDpEvent(rate, event), steps)
    # Different grids of orders: each is an upper bound, a few percent apart.
    assert record_epsilon(history, 1e-5) == pytest.approx(accountant.get_epsilon(1e-5), rel=0.05)


def test_no_step_costs_nothing() -> None:
    assert record_epsilon([], 1e-5) == 0.0
