"""How far budgets go: against a simulation by hand, and from a real ledger of either database."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgers import MONTH, OTHER_PLAN, PLAN, SUBJECTS, TWO_MONTHS, Books, charge, finish
from tacitly_common.accounting.caps import Caps
from tacitly_common.errors import LedgerError
from tacitly_common.verify_ledger import EVERY_EPOCH
from tacitly_server.ledger.budgets import LIFETIME, campaign, epoch
from tacitly_server.ledger.outlook import Claim, outlook, participations_left, rounds_payable
from tacitly_server.ledger.overview import CampaignTotals, MonthTotals, overview
from tacitly_server.ledger.population import AttemptState, PopulationLedger

NOW = datetime(2026, 2, 1, tzinfo=UTC)


def claim(**changes: object) -> Claim:
    fields: dict[str, object] = {
        "plan_hash": PLAN,
        "epochs": MONTH,
        "cost_nano_rho": 10,
        "caps": Caps(lifetime_nano_rho=100, epoch_nano_rho=60, campaign_nano_rho=40),
        "population": 20,
        "asked": 5,
        "rounds": 50,
    }
    return Claim(**fields | changes)  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 12), min_size=1, max_size=30), st.integers(1, 12))
def test_rounds_are_those_that_asking_the_richest_first_can_fill(
    payments: list[int], asked: int
) -> None:
    """The greedy schedule is optimal; the formula must count what it fills."""
    left, filled = sorted(payments, reverse=True), 0
    while len(left) >= asked and left[asked - 1] > 0:
        left = sorted([p - 1 for p in left[:asked]] + left[asked:], reverse=True)
        filled += 1
    assert rounds_payable(Counter(payments), asked) == filled


def test_a_full_population_gives_what_the_planner_promises() -> None:
    assert rounds_payable({4: 5_000}, 200) == 100
    assert rounds_payable({}, 5) == 0


@pytest.mark.parametrize(
    ("spent", "left"),
    [
        ({}, 4),
        ({campaign(PLAN): 10, epoch(MONTH[0]): 10, LIFETIME: 10}, 3),
        ({epoch(MONTH[0]): 45, LIFETIME: 45}, 1),
        ({epoch(MONTH[0]): 55, LIFETIME: 55}, 0),
        ({LIFETIME: 71}, 2),
        ({LIFETIME: 1_000}, 0),
        ({epoch("2025-12"): 60, LIFETIME: 60}, 4),
        ({epoch(EVERY_EPOCH): 40, LIFETIME: 40}, 2),
    ],
)
def test_the_tightest_scope_decides(spent: dict[object, int], left: int) -> None:
    assert participations_left(claim(), spent) == left  # type: ignore[arg-type]


def test_another_plan_takes_what_it_may_still_cost_where_both_are_charged() -> None:
    caps = Caps(lifetime_nano_rho=100, epoch_nano_rho=60, campaign_nano_rho=40)
    beside = claim(plan_hash=OTHER_PLAN, caps=caps)
    assert participations_left(claim(), {}, beside) == 2
    begun = {campaign(OTHER_PLAN): 30, epoch(MONTH[0]): 30, LIFETIME: 30}
    assert participations_left(claim(), begun, beside) == 2
    elsewhere = claim(plan_hash=OTHER_PLAN, caps=caps, epochs=("2026-03",))
    assert participations_left(claim(), {}, elsewhere) == 4


def test_what_is_left_is_read_from_the_ledger(books: Books) -> None:
    at = NOW - timedelta(days=10)
    with PopulationLedger(books.where, books.witness, now=lambda: at) as ledger:
        for number in (1, 2, 3):
            at += timedelta(days=2)
            key = ledger.plan(PLAN, number)
            charge(ledger, key, limits=claim().caps)
            finish(ledger, key, AttemptState.RELEASED)
    found = outlook(books.where, claim(), now=NOW)
    assert (found.rounds_released, found.rounds_planned) == (3, 47)
    # Five persons have one payment left, fifteen have four.
    assert found.rounds_feasible == rounds_payable({1: 5, 4: 15}, 5) == 13
    assert found.persons_left == 20
    assert found.rounds_per_day == 0.5
    assert found.ends == NOW + timedelta(days=26)


def test_few_persons_are_not_counted_on_either_side(books: Books) -> None:
    with books.open() as ledger:
        charge(ledger, ledger.plan(PLAN, 1), SUBJECTS[:2], cost=40, limits=claim().caps)
    assert outlook(books.where, claim(), now=NOW).persons_left is None
    assert outlook(books.where, claim(population=4), now=NOW).persons_left is None


def test_a_ledger_without_a_charge_leaves_everything(books: Books) -> None:
    books.open().close()
    found = outlook(books.where, claim(), now=NOW)
    assert (found.rounds_feasible, found.persons_left) == (16, 20)
    assert (found.rounds_per_day, found.ends) == (None, None)


def test_an_overview_counts_attempts_and_names_the_most_that_was_spent(books: Books) -> None:
    with books.open() as ledger:
        for plan, epochs in ((PLAN, MONTH), (PLAN, MONTH), (OTHER_PLAN, TWO_MONTHS)):
            charge(ledger, ledger.plan(plan, 1), epochs=epochs)
        finish(ledger, ledger.plan(PLAN, 2), AttemptState.VOID)
    found = overview(books.where)
    assert found.campaigns == (
        CampaignTotals(PLAN, 0, 0, 2, 1, largest_spent_nano_rho=20),
        CampaignTotals(OTHER_PLAN, 0, 0, 1, 0, largest_spent_nano_rho=10),
    )
    assert found.months == (MonthTotals("2026-01", 30), MonthTotals("2026-02", 10))
    assert found.entries > 0


def test_what_only_looks_makes_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no such ledger"):
        overview(tmp_path / "population.db")
    with pytest.raises(LedgerError, match="no such ledger"):
        outlook(tmp_path / "population.db", claim(), now=NOW)
    assert list(tmp_path.iterdir()) == []
