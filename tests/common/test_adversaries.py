"""Each adversary's row against the noise that is left against them, computed another way."""

import math
from decimal import Decimal
from fractions import Fraction

import dp_accounting
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tacitly_common.accounting.adversaries import Holds, RecordGuarantee, adversaries
from tacitly_common.accounting.masked_sums import split
from tacitly_common.accounting.subject import nano_rho_per_participation
from tacitly_common.errors import ValidationError

DELTA = 1e-6


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
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


def test_what_does_not_need_masks_any_more_holds_today() -> None:
    sums = split(asked=10, minimum=10, group_size=10, corruption=Decimal("0.2"))
    rows = adversaries(10**8, DELTA, minimum=10, masked=sums)
    assert {row.holds for row in rows} == {Holds.TODAY}
    assert rows[3].name == "whoever broke the secure aggregation"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.decimals(Decimal(1), Decimal(20), places=3),
    st.integers(4, 400),
    st.data(),
)
def test_under_masks_noise_is_counted_in_shares_of_the_fewest_answers(
    z: Decimal, asked: int, data: st.DataObject
) -> None:
    minimum = data.draw(st.integers(max(2, asked // 2), asked))
    group_size = data.draw(st.integers(2, asked))
    corruption = data.draw(st.decimals(Decimal(0), Decimal("0.5"), places=2))
    colluding = data.draw(st.decimals(Decimal(0), Decimal("0.5"), places=2))
    sums = split(asked=asked, minimum=minimum, group_size=group_size, corruption=corruption)
    rows = adversaries(
        nano_rho_per_participation(z),
        DELTA,
        minimum=minimum,
        colluding_share=colluding,
        masked=sums,
    )
    # A device's share of the noise, and how many of them nobody else knows.
    share = float(z) / minimum**0.5
    group = -(-asked // max(1, asked // group_size))
    fewest = -(-minimum // max(1, asked // group_size))
    honest = fewest - math.ceil(colluding * group) if colluding <= corruption else 1
    for row, shares in ((rows[1], fewest), (rows[2], max(1, honest)), (rows[3], 1)):
        true = dp_accounting.get_epsilon_gaussian(share * shares**0.5, DELTA)
        assert row.epsilon is not None
        assert true * (1 - 1e-9) <= row.epsilon <= true * 1.01 + 2e-4


def test_colluders_count_double_where_only_the_fewest_answer() -> None:
    """20 of 200 collude, all answer, and honest ones drop out down to 150: 130 shares are left."""
    sums = split(asked=200, minimum=150, group_size=200, corruption=Decimal("0.1"))
    assert sums.loss(Decimal("0.1")) == Fraction(150, 130)
    assert sums.loss(Decimal(0)) == 1
    # Beyond what the masks are made for, nothing but one's own share is left.
    assert sums.loss(Decimal("0.11")) == 150
    four = split(asked=200, minimum=150, group_size=50, corruption=Decimal("0.1"))
    assert (four.groups, four.largest_group, four.fewest_answers) == (4, 50, 38)
    assert four.loss(Decimal(0)) == Fraction(150, 38)


def test_the_record_level_is_a_row_of_its_own() -> None:
    rows = adversaries(10**8, DELTA, minimum=10, record=RecordGuarantee(2.5, 1e-5))
    record = next(row for row in rows if row.protects == "window of events")
    assert (record.epsilon, record.delta) == (2.5, 1e-5)
    assert len(rows) == 7


def test_all_colluding_is_refused() -> None:
    with pytest.raises(ValidationError, match="colluding share must lie in"):
        adversaries(10**8, DELTA, minimum=10, colluding_share=Decimal(1))
