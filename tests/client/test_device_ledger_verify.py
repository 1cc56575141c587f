"""`verify`: one changed byte anywhere in a ledger is found, and the place is named."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from device_ledgers import charge, limits
from tacitly_client.ledger import AttemptKey, AttemptState, DeviceLedger, Head, verify
from tacitly_client.ledger.journal import NO_ENTRY, Entry, Kind, next_head
from tacitly_common.errors import LedgerError

PLAN, OTHER = "a" * 64, "b" * 64
COLUMNS = {
    "journal": [
        "counter", "kind", "plan_hash", "round", "attempt", "cost_nano_rho", "epochs",
        "at_seconds", "noise_multiplier", "sample_rate", "steps", "rdp", "hash",
    ],
    "attempt": ["plan_hash", "round", "attempt", "cost_nano_rho", "at_seconds", "state"],
    "charge": ["plan_hash", "round", "attempt", "epoch", "cost_nano_rho"],
    "total": ["scope", "name", "spent_nano_rho", "attempts"],
    "record": ["plan_hash", "rdp"],
}  # fmt: skip
EVERY_COLUMN = [(table, column) for table, columns in COLUMNS.items() for column in columns]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with every kind of entry but those of the first form, and all of it in one file."""
    place = tmp_path / "ledger.db"
    with DeviceLedger.create(place) as ledger:
        for number, plan in enumerate((PLAN, PLAN, OTHER)):
            charge(ledger, AttemptKey(plan, number + 1, 7), limits=limits(minimum_gap_rounds=1))
        ledger.mark(AttemptKey(PLAN, 1, 7), AttemptState.RELEASED)
        ledger.mark(AttemptKey(PLAN, 2, 7), AttemptState.LOST)
        assert verify(place) == ledger.head()
    return place


def change(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA ignore_check_constraints = ON")
        assert db.execute(statement, values).rowcount == 1


def flipped(value: object) -> object:
    match value:
        case int():
            return value ^ 1
        case str():
            return chr(ord(value[0]) ^ 1) + value[1:] if value else "\x01"
        case bytes():
            return bytes([value[0] ^ 1]) + value[1:]
    raise AssertionError(value)


def test_it_names_the_head_that_the_device_reports(path: Path) -> None:
    with DeviceLedger.open(path) as ledger:
        assert verify(path) == ledger.head() == Head(5, ledger.head().hash)


def test_an_empty_ledger_is_sound(tmp_path: Path) -> None:
    DeviceLedger.create(tmp_path / "ledger.db").close()
    assert verify(tmp_path / "ledger.db") == NO_ENTRY


def test_no_column_is_forgotten_below(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        assert sorted(COLUMNS) == sorted(name for (name,) in tables)
        for table, columns in COLUMNS.items():
            assert [row[1] for row in db.execute(f"PRAGMA table_info({table})")] == columns


@pytest.mark.parametrize(("table", "column"), EVERY_COLUMN)
def test_a_flipped_byte_in_any_column_is_found_and_its_place_named(
    path: Path, table: str, column: str
) -> None:
    key = ", ".join(COLUMNS[table][:4])
    with closing(sqlite3.connect(path)) as db:
        *row, value = db.execute(
            f"SELECT {key}, {column} FROM {table} WHERE {column} IS NOT NULL LIMIT 1"
        ).fetchone()
    condition = " AND ".join(f"{name} IS ?" for name in COLUMNS[table][:4])
    change(path, f"UPDATE {table} SET {column} = ? WHERE {condition}", flipped(value), *row)
    place = "journal entry [01]:" if table == "journal" else f"table {table}, row "
    with pytest.raises(LedgerError, match=f"ledger.db: {place}"):
        verify(path)


@pytest.mark.parametrize("table", COLUMNS)
def test_a_row_taken_out_is_found(path: Path, table: str) -> None:
    key = COLUMNS[table][0] if table == "journal" else ", ".join(COLUMNS[table][:4])
    row = 2 if table == "journal" else 1
    one = f"SELECT {key} FROM {table} LIMIT 1 OFFSET {row - 1}"
    change(path, f"DELETE FROM {table} WHERE ({key}) = ({one})")
    with pytest.raises(LedgerError, match=r"journal entry 3: it follows entry 1|holds nothing"):
        verify(path)


def test_a_journal_cut_short_is_found_by_what_it_no_longer_says(path: Path) -> None:
    change(path, "DELETE FROM journal WHERE counter = 5")
    with pytest.raises(LedgerError, match=r"table attempt, row a+/2/7: it holds .*, lost, should"):
        verify(path)


def test_entries_that_fit_the_chain_and_cannot_have_happened_are_found(path: Path) -> None:
    entry = Entry(kind=Kind.RELEASED, plan_hash=PLAN, round=2, attempt=7)
    with DeviceLedger.open(path) as ledger:
        forged = next_head(ledger.head(), entry)
    change(
        path,
        "INSERT INTO journal (counter, kind, plan_hash, round, attempt, hash)"
        " VALUES (?, 'released', ?, 2, 7, ?)",
        forged.counter, PLAN, forged.hash,
    )  # fmt: skip
    message = "journal entry 6: it cannot have happened: round 2 attempt 7 is lost"
    with pytest.raises(LedgerError, match=message):
        verify(path)


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("CREATE TRIGGER t AFTER INSERT ON charge BEGIN DELETE FROM total; END", "trigger/t"),
        ("DROP INDEX attempt_by_time", "index/attempt_by_time"),
        ("CREATE TABLE more (x) STRICT", "table/more"),
    ],
)
def test_tables_that_are_not_this_versions_are_found(path: Path, statement: str, name: str) -> None:
    statement = statement.replace("(x)", "(x ANY)")
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement)
    with pytest.raises(LedgerError, match=f"table sqlite_master, row {name}"):
        verify(path)


@pytest.mark.parametrize("version", [0, 1, 3])
def test_another_version_is_not_verified(path: Path, version: int) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(LedgerError, match=f"version: it is {version}, this Tacitly verifies 2"):
        verify(path)


def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="is missing"):
        verify(tmp_path / "ledger.db")
    assert not list(tmp_path.iterdir())


def test_verifying_changes_nothing(path: Path) -> None:
    before = path.read_bytes()
    verify(path)
    assert path.read_bytes() == before


def content(path: Path) -> list[list[tuple[object, ...]]]:
    with closing(sqlite3.connect(path)) as db:
        return [db.execute(f"SELECT * FROM {table}").fetchall() for table in COLUMNS]


def test_a_byte_flipped_anywhere_in_the_file_is_found_or_changes_nothing(path: Path) -> None:
    """SQLite keeps some bytes that mean nothing: free space, counters of its own."""
    sound, expected = path.read_bytes(), content(path)
    rng = random.Random(6)
    found = 0
    for _ in range(1_000):
        place = rng.randrange(len(sound))
        path.write_bytes(
            sound[:place] + bytes([sound[place] ^ 1 << rng.randrange(8)]) + sound[place + 1 :]
        )
        try:
            verify(path)
        except LedgerError:
            found += 1
        else:
            assert content(path) == expected, f"byte {place}"
    assert found > 100
