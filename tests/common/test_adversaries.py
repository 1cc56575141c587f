"""Each adversary's row against the noise that is left against them, computed another way."""

from decimal import Decimal

import dp_accounting
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacitly_common.accounting.adversaries import Holds, RecordGuarantee, adversaries
from tacitly_common.accounting.subject import nano_rho_per_participation
from tacitly_common.errors import ValidationError

DELTA = 1e-6


@settings(max_examples=40, deadline=None)
@given(
    st.decimals(Decimal(1), Decimal(20), places=3),
    st.integers(1, 30),
    st.integers(2, 500),
    st.decimals(Decimal(0), Decimal("0.9"), places=2),
)
def test_every_row_is_that_of_the_noise_which_remains(
    z: Decimal, participations: int, minimum: int, colluding: Decimal
) -> None:
    worst = participations * nano_rho_per_participation(z)
    rows = adversaries(worst, DELTA, minimum=minimum, colluding_share=colluding)
    models, server, colluders, own_update, others, laptop = rows
    for row, factor in (
        (models, 1.0),
        (server, 1.0),
        (others, 1.0),
        (colluders, (1 - float(colluding)) ** 0.5),
        (own_update, minimum**-0.5),
    ):
        true = dp_accounting.get_epsilon_gaussian(float(z) * factor / participations**0.5, DELTA)
        assert row.epsilon is not None
        assert true * (1 - 1e-9) <= row.epsilon <= true * 1.01 + 2e-4
        assert row.delta == DELTA
    assert (laptop.epsilon, laptop.delta) == (None, None)


def test_what_needs_masks_says_so_and_the_servers_row_of_today_is_its_own_update() -> None:
    rows = adversaries(10**8, DELTA, minimum=10)
    waiting = [row.name for row in rows if row.holds is Holds.WITH_SECURE_AGGREGATION]
    assert waiting == [
        "the honest-but-curious server",
        "the server with 10% of the cohort colluding",
    ]
    assert "the server today" in rows[3].name


def test_the_record_level_is_a_row_of_its_own() -> None:
    rows = adversaries(10**8, DELTA, minimum=10, record=RecordGuarantee(2.5, 1e-5))
    record = next(row for row in rows if row.protects == "window of events")
    assert (record.epsilon, record.delta) == (2.5, 1e-5)
    assert len(rows) == 7


def test_all_colluding_is_refused() -> None:
    with pytest.raises(ValidationError, match="colluding share must lie in"):
        adversaries(10**8, DELTA, minimum=10, colluding_share=Decimal(1))
