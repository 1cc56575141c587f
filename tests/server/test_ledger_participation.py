"""Who must rest and who was asked often enough: as the ledger answers on both databases."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from ledgers import MONTH, OTHER_PLAN, PLAN, SUBJECTS, TWO_MONTHS, Books, charge, finish
from tacitly_common.campaign import ParticipationLimits
from tacitly_server.ledger import participation
from tacitly_server.ledger.database import open_database, reading
from tacitly_server.ledger.population import AttemptState, PopulationLedger

BEGIN = datetime(2026, 2, 1, 12, tzinfo=UTC)
FEW = 1_000


@dataclass
class Clocked:
    """A ledger whose clock a test moves."""

    books: Books
    now: datetime = BEGIN
    ledger: PopulationLedger = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = PopulationLedger(self.books.where, self.books.witness, now=lambda: self.now)

    def charge(
        self,
        round_number: int,
        *subjects: int,
        plan: str = PLAN,
        epochs: tuple[str, ...] = MONTH,
        lost: bool = False,
    ) -> None:
        key = self.ledger.plan(plan, round_number)
        names = [SUBJECTS[number] for number in subjects]
        charge(self.ledger, key, names, cap=10**6, epochs=epochs)
        finish(self.ledger, key, AttemptState.LOST if lost else AttemptState.RELEASED)

    def resting(self, round_number: int, *, rounds: int = 0, hours: int = 0) -> set[int]:
        limits = ParticipationLimits(
            per_campaign=FEW, per_epoch=FEW, minimum_gap_rounds=rounds, minimum_gap_hours=hours
        )
        found = self.ledger.resting(PLAN, round_number, limits)
        return {SUBJECTS.index(subject) for subject in found}

    def often(self, epochs: tuple[str, ...], most: int) -> set[int]:
        return {SUBJECTS.index(s) for s in self.ledger.often_asked(epochs, most=most)}


@pytest.fixture
def clocked(books: Books) -> Iterator[Clocked]:
    made = Clocked(books)
    with made.ledger:
        yield made


def test_nobody_rests_without_a_gap(clocked: Clocked) -> None:
    clocked.charge(1, 0, 1)
    assert clocked.resting(2) == set()
    assert clocked.resting(2, rounds=1) == set()


def test_who_was_charged_rests_for_the_rounds_of_the_plan(clocked: Clocked) -> None:
    clocked.charge(1, 0, 1)
    clocked.charge(2, 2, lost=True)
    assert clocked.resting(3, rounds=2) == {2}
    assert clocked.resting(3, rounds=3) == {0, 1, 2}
    assert clocked.resting(4, rounds=2) == set()


def test_another_attempt_at_the_same_round_is_no_other_round(clocked: Clocked) -> None:
    clocked.charge(1, 0, 1, lost=True)
    assert clocked.resting(1, rounds=9, hours=9) == set()


def test_another_plans_rounds_do_not_count(clocked: Clocked) -> None:
    clocked.charge(1, 0, 1, plan=OTHER_PLAN)
    assert clocked.resting(2, rounds=9, hours=9) == set()


def test_who_was_charged_rests_for_the_hours_of_the_plan(clocked: Clocked) -> None:
    clocked.charge(1, 0)
    clocked.now += timedelta(hours=3)
    clocked.charge(2, 1)
    clocked.now = BEGIN + timedelta(hours=5, minutes=59)
    assert clocked.resting(3, hours=6) == {0, 1}
    clocked.now = BEGIN + timedelta(hours=6)
    assert clocked.resting(3, hours=6) == {1}
    # Either gap is enough to rest.
    assert clocked.resting(3, hours=6, rounds=3) == {0, 1}


def test_charges_for_a_month_count_across_plans_and_once_an_attempt(clocked: Clocked) -> None:
    clocked.charge(1, 0, 1, epochs=TWO_MONTHS)
    clocked.charge(1, 0, plan=OTHER_PLAN, epochs=TWO_MONTHS[1:], lost=True)
    assert clocked.often(TWO_MONTHS[:1], 1) == {0, 1}
    assert clocked.often(TWO_MONTHS[:1], 2) == set()
    assert clocked.often(TWO_MONTHS[1:], 2) == {0}
    assert clocked.often(TWO_MONTHS, 2) == {0}
    assert clocked.often(("2025-12",), 1) == set()


def test_an_attempt_that_was_voided_counts_for_nothing(clocked: Clocked) -> None:
    finish(clocked.ledger, clocked.ledger.plan(PLAN, 1), AttemptState.VOID)
    assert clocked.resting(2, rounds=9, hours=9) == set()


def test_neither_question_reads_the_whole_history(tmp_path: Path) -> None:
    clocked = Clocked(Books(tmp_path / "population.db", tmp_path))
    with clocked.ledger:
        clocked.charge(1, 0, 1)
    limits = ParticipationLimits(
        per_campaign=1, per_epoch=1, minimum_gap_rounds=2, minimum_gap_hours=2
    )
    asked = (
        participation.resting(PLAN, 5, limits, now=BEGIN),
        participation.often_asked(TWO_MONTHS, most=2),
    )
    engine = open_database(tmp_path / "population.db")
    with reading(engine) as connection:
        for query in asked:
            words = query.compile(engine, compile_kwargs={"literal_binds": True})
            steps = [s.detail for s in connection.execute(text(f"EXPLAIN QUERY PLAN {words}"))]
            assert any("charges" in step for step in steps)
            assert not [s for s in steps if s.startswith(("SCAN charges", "SCAN journal"))]
    engine.dispose()
