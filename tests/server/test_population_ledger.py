from collections.abc import Iterator
from decimal import Decimal
from itertools import product
from pathlib import Path

import pytest

from ledgers import (
    MONTH,
    OTHER_PLAN,
    PLAN,
    RESULT,
    SUBJECTS,
    TWO_MONTHS,
    Books,
    caps,
    charge,
    finish,
    open_ledger,
    witness_in,
)
from tacitly_common.accounting.caps import Caps
from tacitly_common.accounting.subject import cap_nano_rho, nano_rho_per_participation
from tacitly_common.errors import BudgetExceededError, LedgerError, ValidationError
from tacitly_server.ledger.population import AttemptKey, AttemptState, PopulationLedger


@pytest.fixture
def ledger(books: Books) -> Iterator[PopulationLedger]:
    with books.open() as opened:
        yield opened
    assert books.problems() == []


def test_a_charge_takes_the_cost_from_every_subject(ledger: PopulationLedger) -> None:
    key = ledger.plan(PLAN, 1)
    assert charge(ledger, key)
    assert [ledger.spent_nano_rho(s) for s in SUBJECTS] == [10] * 5
    assert ledger.state(key) is AttemptState.CHARGED


def test_the_same_charge_again_costs_nothing(ledger: PopulationLedger) -> None:
    key = ledger.plan(PLAN, 1)
    charge(ledger, key)
    assert not charge(ledger, key, SUBJECTS[::-1])
    finish(ledger, key, AttemptState.RELEASED)
    assert not charge(ledger, key)
    assert {ledger.spent_nano_rho(subject, PLAN) for subject in SUBJECTS} == {10}


@pytest.mark.parametrize(("subjects", "cost"), [(SUBJECTS[:4], 10), (SUBJECTS, 11)])
def test_another_charge_under_the_same_key_is_refused(
    ledger: PopulationLedger, subjects: list[str], cost: int
) -> None:
    key = ledger.plan(PLAN, 1)
    charge(ledger, key)
    with pytest.raises(LedgerError, match="charged otherwise"):
        charge(ledger, key, subjects, cost=cost)
    assert {ledger.spent_nano_rho(subject, PLAN) for subject in SUBJECTS} == {10}


def test_one_subject_without_budget_leaves_everyone_uncharged(ledger: PopulationLedger) -> None:
    for round_number in (1, 2, 3):
        charge(ledger, ledger.plan(PLAN, round_number), SUBJECTS[:1])
    key = ledger.plan(PLAN, 4)
    with pytest.raises(BudgetExceededError, match="1 of 5"):
        charge(ledger, key)
    assert ledger.state(key) is AttemptState.PLANNED
    assert [ledger.spent_nano_rho(s) for s in SUBJECTS] == [30, 0, 0, 0, 0]
    finish(ledger, key, AttemptState.VOID)


def test_the_cap_is_each_plans_own_and_spending_adds_up(ledger: PopulationLedger) -> None:
    for plan in (PLAN, OTHER_PLAN):
        for round_number in (1, 2, 3):
            charge(ledger, ledger.plan(plan, round_number))
    assert ledger.spent_nano_rho(SUBJECTS[0], PLAN) == 30
    assert ledger.spent_nano_rho(SUBJECTS[0]) == 60


def test_the_worked_example_fits_ten_participations_and_no_eleventh(
    ledger: PopulationLedger,
) -> None:
    cap, cost = cap_nano_rho(4.0, 1e-6), nano_rho_per_participation(Decimal("3.78"))
    for round_number in range(1, 11):
        key = ledger.plan(PLAN, round_number)
        assert charge(ledger, key, cost=cost, limits=Caps(cap, cap, cap))
    with pytest.raises(BudgetExceededError):
        charge(ledger, ledger.plan(PLAN, 11), cost=cost, limits=Caps(cap, cap, cap))
    assert ledger.spent_nano_rho(SUBJECTS[0]) == 349_934_220


def test_exhausted_names_exactly_who_cannot_pay_again(ledger: PopulationLedger) -> None:
    for round_number in (1, 2):
        charge(ledger, ledger.plan(PLAN, round_number), SUBJECTS[:2])
    charge(ledger, ledger.plan(PLAN, 3), SUBJECTS[1:])
    assert exhausted(ledger, PLAN, 10, caps()) == {SUBJECTS[1]}
    assert exhausted(ledger, PLAN, 11, caps()) == set(SUBJECTS[:2])
    assert exhausted(ledger, OTHER_PLAN, 10, caps()) == set()


def test_exhausted_looks_at_every_scope(ledger: PopulationLedger) -> None:
    charge(ledger, ledger.plan(PLAN, 1), SUBJECTS[:3])
    charge(ledger, ledger.plan(OTHER_PLAN, 1), SUBJECTS[:2], epochs=("2026-03",))
    assert exhausted(ledger, PLAN, 10, caps(lifetime=29)) == set(SUBJECTS[:2])
    assert exhausted(ledger, PLAN, 10, caps(epoch=19)) == set(SUBJECTS[:3])
    assert exhausted(ledger, PLAN, 10, caps(epoch=19), ("2026-03", "2026-04")) == set(SUBJECTS[:2])
    assert exhausted(ledger, PLAN, 10, caps(epoch=19), ("2026-04",)) == set()


def test_a_cost_above_a_cap_is_no_question_of_who(ledger: PopulationLedger) -> None:
    with pytest.raises(ValidationError, match="costs 10 nano-ρ, more than the cap 9"):
        exhausted(ledger, PLAN, 10, caps(epoch=9))


def exhausted(
    ledger: PopulationLedger,
    plan_hash: str,
    cost: int,
    limits: Caps,
    epochs: tuple[str, ...] = MONTH,
) -> frozenset[str]:
    return ledger.exhausted(plan_hash, epochs=epochs, cost_nano_rho=cost, caps=limits)


def test_each_scope_pays_once_and_every_month_of_the_plan(ledger: PopulationLedger) -> None:
    charge(ledger, ledger.plan(PLAN, 1), epochs=TWO_MONTHS)
    charge(ledger, ledger.plan(OTHER_PLAN, 1), SUBJECTS[:1])
    first = SUBJECTS[0]
    assert ledger.spent_nano_rho(first) == 20
    assert ledger.spent_nano_rho(first, PLAN) == 10
    assert ledger.spent_nano_rho(first, epoch="2026-01") == 20
    assert ledger.spent_nano_rho(first, epoch="2026-02") == 10
    assert ledger.spent_nano_rho(first, epoch="2026-03") == 0


@pytest.mark.parametrize(
    ("limits", "scope"),
    [
        (caps(lifetime=19), "lifetime cap of 19"),
        (caps(epoch=19), "epoch cap of 19"),
        (caps(campaign=19), "campaign cap of 19"),
    ],
)
def test_a_charge_beyond_any_one_cap_is_refused_whole(
    ledger: PopulationLedger, limits: Caps, scope: str
) -> None:
    charge(ledger, ledger.plan(PLAN, 1), SUBJECTS[:1], epochs=("2026-02",))
    key = ledger.plan(PLAN, 2)
    with pytest.raises(BudgetExceededError, match=f"1 of 5 subjects beyond the {scope}"):
        charge(ledger, key, epochs=TWO_MONTHS, limits=limits)
    assert [ledger.spent_nano_rho(s) for s in SUBJECTS] == [10, 0, 0, 0, 0]
    assert ledger.spent_nano_rho(SUBJECTS[0], epoch="2026-01") == 0
    assert ledger.state(key) is AttemptState.PLANNED


def test_a_charge_up_to_every_cap_fits(ledger: PopulationLedger) -> None:
    charge(ledger, ledger.plan(PLAN, 1))
    assert charge(ledger, ledger.plan(PLAN, 2), limits=Caps(20, 20, 20))


def test_attempt_numbers_go_up_by_round_and_are_never_given_again(ledger: PopulationLedger) -> None:
    keys = [ledger.plan(PLAN, r) for r in (1, 1, 2)]
    finish(ledger, keys[1], AttemptState.VOID)
    keys.append(ledger.plan(PLAN, 1))
    assert [(k.round, k.attempt) for k in keys] == [(1, 1), (1, 2), (2, 1), (1, 3)]


def test_open_attempts_are_those_a_crash_would_leave(ledger: PopulationLedger) -> None:
    keys = [ledger.plan(PLAN, r) for r in (1, 2, 3, 4)]
    for key in keys[:3]:
        charge(ledger, key)
    finish(ledger, keys[0], AttemptState.RELEASED)
    finish(ledger, keys[1], AttemptState.LOST)
    found = ledger.open_attempts(PLAN)
    assert [(a.key, a.state, a.subjects) for a in found] == [
        (keys[2], AttemptState.CHARGED, 5),
        (keys[3], AttemptState.PLANNED, 0),
    ]


ALLOWED = {
    (AttemptState.PLANNED, AttemptState.VOID),
    (AttemptState.CHARGED, AttemptState.RELEASED),
    (AttemptState.CHARGED, AttemptState.LOST),
}


@pytest.mark.parametrize(("start", "end"), list(product(AttemptState, AttemptState)))
def test_only_the_laws_steps_are_taken(
    ledger: PopulationLedger, start: AttemptState, end: AttemptState
) -> None:
    key = ledger.plan(PLAN, 1)
    if start not in (AttemptState.PLANNED, AttemptState.VOID):
        charge(ledger, key)
    if start not in (AttemptState.PLANNED, AttemptState.CHARGED):
        finish(ledger, key, start)
    if (start, end) in ALLOWED:
        finish(ledger, key, end)
        assert ledger.state(key) is end
    else:
        with pytest.raises(LedgerError, match="cannot become"):
            finish(ledger, key, end)
        assert ledger.state(key) is start


def test_a_void_attempt_is_never_charged(ledger: PopulationLedger) -> None:
    key = ledger.plan(PLAN, 1)
    finish(ledger, key, AttemptState.VOID)
    with pytest.raises(LedgerError, match="voided"):
        charge(ledger, key)


def test_an_attempt_that_was_not_planned_is_refused(ledger: PopulationLedger) -> None:
    with pytest.raises(LedgerError, match="never planned"):
        charge(ledger, AttemptKey(PLAN, 1, 1))
    with pytest.raises(LedgerError, match="never planned"):
        finish(ledger, AttemptKey(PLAN, 1, 1), AttemptState.VOID)
    assert ledger.state(AttemptKey(PLAN, 1, 1)) is None


@pytest.mark.parametrize("subjects", [[], [SUBJECTS[0], SUBJECTS[0]]])
def test_nobody_or_the_same_subject_twice_is_refused(
    ledger: PopulationLedger, subjects: list[str]
) -> None:
    with pytest.raises(ValidationError, match="charge each once"):
        charge(ledger, ledger.plan(PLAN, 1), subjects)


@pytest.mark.parametrize("cost", [0, -1, 10.0, True, Decimal(10)])
def test_only_positive_integers_enter_the_ledger(ledger: PopulationLedger, cost: int) -> None:
    with pytest.raises(ValidationError, match="positive integer"):
        charge(ledger, ledger.plan(PLAN, 1), cost=cost)


@pytest.mark.parametrize("epochs", [(), ("2026-13",), ("2026-01", "2026-01"), ("every",)])
def test_only_different_months_are_charged(
    ledger: PopulationLedger, epochs: tuple[str, ...]
) -> None:
    with pytest.raises(ValidationError, match="epochs"):
        charge(ledger, ledger.plan(PLAN, 1), epochs=epochs)


def test_a_release_names_its_result_and_nothing_else_does(ledger: PopulationLedger) -> None:
    key = ledger.plan(PLAN, 1)
    charge(ledger, key)
    with pytest.raises(ValidationError, match="give the SHA-256"):
        ledger.mark(key, AttemptState.RELEASED)
    with pytest.raises(ValidationError, match="result"):
        ledger.mark(key, AttemptState.LOST, result_sha256=RESULT)
    with pytest.raises(ValidationError, match="64 lower-case hex"):
        ledger.mark(key, AttemptState.RELEASED, result_sha256="model")


def test_a_state_of_another_version_is_refused(books: Books) -> None:
    with books.open() as ledger:
        key = ledger.plan(PLAN, 1)
        books.tamper("UPDATE attempts SET state = 'refunded'")
        with pytest.raises(LedgerError, match="refunded"):
            ledger.state(key)


def test_without_its_witness_a_ledger_can_only_be_read(books: Books) -> None:
    with books.open() as ledger:
        key = ledger.plan(PLAN, 1)
    with PopulationLedger(books.where) as ledger:
        assert ledger.state(key) is AttemptState.PLANNED
        for write in (
            lambda: ledger.plan(PLAN, 2),
            lambda: charge(ledger, key),
            lambda: ledger.mark(key, AttemptState.VOID),
        ):
            with pytest.raises(LedgerError, match="can only be read"):
                write()


@pytest.mark.parametrize("where", ["mysql://localhost/ledger", "://"])
def test_a_database_of_another_kind_is_refused(tmp_path: Path, where: str) -> None:
    with pytest.raises(ValidationError, match="postgresql"):
        PopulationLedger(where, witness_in(tmp_path))


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "population.db"
    path.write_bytes(b"not a database" * 1_000)
    with pytest.raises(LedgerError, match=r"population\.db.*restore"):
        open_ledger(path)
    assert path.read_bytes() == b"not a database" * 1_000


def test_the_file_is_its_owners_only_and_survives_power_loss(tmp_path: Path) -> None:
    path = tmp_path / "population.db"
    with open_ledger(path) as ledger:
        with ledger._engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
        assert path.stat().st_mode & 0o777 == 0o600
