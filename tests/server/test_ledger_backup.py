"""Backup, restore, and the reconciliation without which an old copy takes no write."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from ledgers import (
    PLAN,
    SUBJECTS,
    TWO_MONTHS,
    Books,
    charge,
    finish,
    open_ledger,
    witness_in,
)
from tacitly_common.accounting.caps import Caps
from tacitly_common.errors import BudgetExceededError, LedgerError, ValidationError
from tacitly_server.ledger.backup import backup, reconcile, restore
from tacitly_server.ledger.database import open_database, reading
from tacitly_server.ledger.population import AttemptKey, AttemptState, PopulationLedger
from tacitly_server.ledger.subjects import Subjects
from tacitly_server.ledger.tables import JOURNAL
from tacitly_server.ledger.witness import Witness


def spend(books: Books, *rounds: int) -> list[AttemptKey]:
    """A charge of everybody in each round."""
    with books.open() as ledger:
        keys = [ledger.plan(PLAN, r) for r in rounds]
        for key in keys:
            charge(ledger, key, cap=10**6)
    return keys


def spent(books: Books) -> set[int]:
    with PopulationLedger(books.where) as ledger:
        return {ledger.spent_nano_rho(subject) for subject in SUBJECTS}


def journal(books: Books) -> list[str]:
    engine = open_database(books.where)
    with reading(engine) as connection:
        entries = select(JOURNAL.c.kind).order_by(JOURNAL.c.sequence)
        kinds = list(connection.execute(entries).scalars())
    engine.dispose()
    return kinds


def copy_of(books: Books) -> Path:
    path = books.directory / "backup.db"
    backup(books.where, path, books.witness)
    return path


def test_a_backup_holds_everything_and_is_a_ledger_itself(books: Books) -> None:
    with Subjects(books.where) as subjects:
        subjects.enrol(2**64 - 1, "key", SUBJECTS[0])
    spend(books, 1, 2)
    copy = Books(copy_of(books), books.directory)
    assert copy.problems() == []
    assert spent(copy) == {20}
    with Subjects(copy.where) as subjects:
        assert subjects.enrolled() == {2**64 - 1: SUBJECTS[0]}
    assert Path(copy.where).stat().st_mode & 0o777 == 0o600


def test_a_backup_replaces_no_file(books: Books) -> None:
    spend(books, 1)
    (books.directory / "backup.db").touch()
    with pytest.raises(ValidationError, match="exists already"):
        copy_of(books)


def test_the_newest_backup_needs_no_reconciliation(books: Books) -> None:
    keys = spend(books, 1)
    copy = copy_of(books)
    books.tamper("UPDATE budgets SET spent_nano_rho = 0")
    assert restore(copy, books.where, books.witness)
    assert books.problems() == []
    assert journal(books)[-1] == "restored"
    with books.open() as ledger:
        finish(ledger, keys[0], AttemptState.RELEASED)
        assert charge(ledger, ledger.plan(PLAN, 2))
    assert books.problems() == []


WRITES: dict[str, Callable[[PopulationLedger, AttemptKey], object]] = {
    "plan": lambda ledger, _: ledger.plan(PLAN, 9),
    "charge": lambda ledger, key: charge(ledger, key, cap=10**6),
    "mark": lambda ledger, key: ledger.mark(key, AttemptState.VOID),
}


@pytest.mark.parametrize("write", WRITES)
def test_an_older_backup_takes_no_write_until_it_is_reconciled(books: Books, write: str) -> None:
    with books.open() as ledger:
        planned = ledger.plan(PLAN, 5)
    spend(books, 1)
    copy = copy_of(books)
    lost = spend(books, 2, 3)
    assert not restore(copy, books.where, books.witness)
    assert spent(books) == {10}
    with books.open() as ledger, pytest.raises(LedgerError, match="ledger reconcile") as caught:
        WRITES[write](ledger, planned)
    assert caught.value.exit_code == 5
    assert any("older copy" in problem for problem in books.problems())

    assert reconcile(books.where, books.witness) == 2
    assert spent(books) == {30}
    assert books.problems() == []
    assert journal(books)[-6:] == [
        "restored", "planned", "planned", "charged", "charged", "reconciled",
    ]  # fmt: skip
    with books.open() as ledger:
        assert [ledger.state(key) for key in lost] == [AttemptState.CHARGED] * 2
        WRITES[write](ledger, planned)
    assert reconcile(books.where, books.witness) == 0
    assert books.problems() == []


def test_the_gap_is_charged_to_whom_it_was_charged_in_each_scope(books: Books) -> None:
    with books.open() as ledger:
        charge(ledger, ledger.plan(PLAN, 1), SUBJECTS[:1])
        planned = ledger.plan(PLAN, 2)
    copy = copy_of(books)
    newcomer = "f" * 64
    with books.open() as ledger:
        charge(ledger, planned, [SUBJECTS[0], newcomer], cost=7, epochs=TWO_MONTHS)
    restore(copy, books.where, books.witness)
    reconcile(books.where, books.witness)
    with books.open() as ledger:
        assert ledger.spent_nano_rho(newcomer) == 7  # whom the backup never knew
        assert ledger.spent_nano_rho(SUBJECTS[0], PLAN) == 17
        assert ledger.spent_nano_rho(SUBJECTS[0], epoch="2026-02") == 7
        assert ledger.spent_nano_rho(SUBJECTS[1]) == 0
        with pytest.raises(BudgetExceededError):
            charge(ledger, ledger.plan(PLAN, 3), [newcomer], limits=Caps(16, 16, 16))


def test_restoring_the_same_old_backup_twice_charges_the_gap_once_each_time(books: Books) -> None:
    spend(books, 1)
    copy = copy_of(books)
    spend(books, 2)
    for _ in range(2):
        assert not restore(copy, books.where, books.witness)
        assert reconcile(books.where, books.witness) == 1
        assert spent(books) == {20}
    spend(books, 3)
    assert not restore(copy, books.where, books.witness)
    assert reconcile(books.where, books.witness) == 2
    assert spent(books) == {30}
    assert books.problems() == []


def test_a_file_put_back_by_hand_is_noticed_as_well(tmp_path: Path) -> None:
    books = Books(tmp_path / "population.db", tmp_path)
    spend(books, 1)
    old = books.where.read_bytes() if isinstance(books.where, Path) else b""
    spend(books, 2)
    (tmp_path / "population.db").write_bytes(old)
    with books.open() as ledger, pytest.raises(LedgerError, match="older copy"):
        ledger.plan(PLAN, 3)
    (tmp_path / "population.db").unlink()
    with books.open() as ledger, pytest.raises(LedgerError, match="older copy"):
        ledger.plan(PLAN, 3)
    assert reconcile(books.where, books.witness) == 2
    assert spent(books) == {20}


def test_a_damaged_backup_is_refused_and_changes_nothing(books: Books) -> None:
    spend(books, 1)
    copy = Books(copy_of(books), books.directory)
    copy.tamper("UPDATE charges SET cost_nano_rho = 1 WHERE subject = :s", s=SUBJECTS[0])
    spend(books, 2)
    with pytest.raises(LedgerError, match=r"backup\.db has \d+ problems \(charge at entry 2"):
        restore(Path(copy.where), books.where, books.witness)
    assert spent(books) == {20}
    assert books.problems() == []


def test_a_backup_of_another_ledger_is_refused(books: Books, tmp_path: Path) -> None:
    spend(books, 1)
    (tmp_path / "other").mkdir()
    other = Books(tmp_path / "other" / "population.db", tmp_path / "other")
    spend(other, 1)
    with pytest.raises(LedgerError, match="not among the 1 given"):
        restore(copy_of(other), books.where, books.witness)


def test_a_lost_witness_stops_everything_until_the_operator_says_so(books: Books) -> None:
    spend(books, 1, 2)
    books.witness.path.unlink()
    with books.open() as ledger, pytest.raises(LedgerError, match="missing or empty"):
        ledger.plan(PLAN, 3)
    with pytest.raises(LedgerError, match="--witness-lost"):
        reconcile(books.where, books.witness)
    assert reconcile(books.where, books.witness, witness_lost=True) == 0
    spend(books, 3)
    assert books.problems() == []
    assert sum(1 for line in books.witness.lines() if line.subjects) == 3


def test_a_torn_line_of_the_witness_is_written_anew(books: Books) -> None:
    spend(books, 1, 2)
    path = books.witness.path
    content = path.read_bytes()
    path.write_bytes(content[:-50])
    spend(books, 3)
    assert path.read_bytes().startswith(content)
    charged = [line.entry["round"] for line in books.witness.lines() if line.subjects]
    assert charged == [1, 2, 3]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"cost_nano_rho":10', b'"cost_nano_rho":11', "its entry is not that of its checkpoint"),
        (SUBJECTS[4].encode(), b"f" * 64, "its subjects are not the entry's"),
        (b'"signature":"', b'"signature":"00', "lower-case hex"),
        (b'"subjects":[', b'"persons":[', "unknown field"),
    ],
)
def test_a_changed_line_of_the_witness_is_named_and_charges_nobody(
    books: Books, old: bytes, new: bytes, message: str
) -> None:
    spend(books, 1)
    copy = copy_of(books)
    spend(books, 2, 3)
    restore(copy, books.where, books.witness)
    lines = books.witness.path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(old, new, 1)
    books.witness.path.write_bytes(b"".join(lines))
    with pytest.raises(LedgerError, match=f"line 3: .*{message}"):
        reconcile(books.where, books.witness)
    assert spent(books) == {10}


def test_a_witness_that_cannot_be_written_stops_before_anything_is_done(tmp_path: Path) -> None:
    books = Books(tmp_path / "population.db", tmp_path)
    witness = Witness(tmp_path / "missing" / "witness.jsonl", books.witness.key)
    with PopulationLedger(books.where, witness) as ledger:
        with pytest.raises(LedgerError, match="the witness must be writable"):
            ledger.plan(PLAN, 1)
        assert ledger.attempts(PLAN) == []


def test_the_witness_is_its_owners_only_and_shows_no_key(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "population.db") as ledger:
        charge(ledger, ledger.plan(PLAN, 1))
    witness = witness_in(tmp_path)
    assert witness.path.stat().st_mode & 0o777 == 0o600
    assert "Private" not in repr(witness)
    (tmp_path / "ledger.key").chmod(0o644)
    with pytest.raises(ValidationError, match="read by others"):
        witness_in(tmp_path)


def test_each_attempt_of_the_gap_stands_where_it_stood(books: Books) -> None:
    keys = spend(books, 1, 2, 3, 4)
    copy = copy_of(books)
    with books.open() as ledger:
        finish(ledger, keys[0], AttemptState.RELEASED)
        finish(ledger, keys[1], AttemptState.LOST)
        void = ledger.plan(PLAN, 5)
        finish(ledger, void, AttemptState.VOID)
    assert not restore(copy, books.where, books.witness)
    assert reconcile(books.where, books.witness) == 0  # no charge was missing
    with books.open() as ledger:
        assert [ledger.state(key) for key in (*keys, void)] == [
            AttemptState.RELEASED,
            AttemptState.LOST,
            AttemptState.CHARGED,
            AttemptState.CHARGED,
            AttemptState.VOID,
        ]
        assert ledger.plan(PLAN, 5).attempt == 2  # a number is given once, through any restore
    assert books.problems() == []
    with PopulationLedger(books.where) as ledger:
        assert {ledger.spent_nano_rho(subject) for subject in SUBJECTS} == {40}


def test_a_copy_of_the_whole_home_can_be_used_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    books = Books(tmp_path / "home" / "population.db", tmp_path / "home")
    spend(books, 1)
    shutil.copytree(tmp_path / "home", tmp_path / "moved")
    moved = Books(tmp_path / "moved" / "population.db", tmp_path / "moved")
    spend(moved, 2)
    assert spent(moved) == {20}
    assert moved.problems() == []
