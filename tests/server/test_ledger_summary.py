"""What is shown of the population shows nobody."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from ledgers import PLAN, Books, caps, charge
from tacitly_common.accounting.caps import Caps
from tacitly_server.ledger.summary import LEAST_COUNT, distribution, summary


def people(count: int) -> list[str]:
    return [f"{i:064x}" for i in range(count)]


def test_the_population_in_figures(books: Books) -> None:
    with books.open() as ledger:
        charge(ledger, ledger.plan(PLAN, 1), people(20))
        charge(ledger, ledger.plan(PLAN, 2), people(8))
    shown = summary(books.where, Caps(100, 100, 100))
    assert (shown.subjects, shown.largest_spent_nano_rho) == (20, 20)
    assert (shown.attempts, shown.entries) == (2, 4)
    buckets = [(b.above_nano_rho, b.up_to_nano_rho, b.subjects) for b in shown.distribution]
    assert buckets[:3] == [(0, 10, 12), (10, 20, 8), (20, 30, 0)]
    assert buckets[-1] == (90, 100, 0)


@pytest.mark.parametrize("count", [1, 4])
def test_a_few_are_not_counted(books: Books, count: int) -> None:
    with books.open() as ledger:
        charge(ledger, ledger.plan(PLAN, 1), people(count))
    shown = summary(books.where, caps())
    assert shown.subjects is None
    assert {bucket.subjects for bucket in shown.distribution} == {0, None}


def test_a_ledger_of_nobody_is_empty(books: Books) -> None:
    books.open().close()
    shown = summary(books.where)
    assert (shown.subjects, shown.largest_spent_nano_rho) == (0, 0)


@given(st.lists(st.integers(1, 100), max_size=60))
def test_no_small_count_can_be_had_by_subtraction(totals: list[int]) -> None:
    buckets = distribution(totals, end=100)
    counts = [
        sum(b.above_nano_rho < spent <= b.up_to_nano_rho for spent in totals) for b in buckets
    ]
    hidden = [n for n, bucket in zip(counts, buckets, strict=True) if bucket.subjects is None]
    assert all(bucket.subjects in (None, n) for n, bucket in zip(counts, buckets, strict=True))
    assert not any(bucket.subjects in range(1, LEAST_COUNT) for bucket in buckets)
    # What is hidden sums to enough, over two buckets at least, or nobody else is there.
    if hidden and len(totals) >= LEAST_COUNT:
        assert sum(hidden) >= LEAST_COUNT
        assert len(hidden) >= 2 or sum(hidden) == len(totals)
