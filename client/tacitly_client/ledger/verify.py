"""Whether a ledger is what its journal says, offline and without changing the file.

    1. Its tables are the ones this version makes.
    2. Each entry has the next counter and the hash of the chain.
    3. The entries, entered one by one into an empty ledger, give the tables that are in the file.
    4. SQLite finds its pages and indexes whole.

The first place that does not fit is named. What cannot be seen from the file alone: that it is an
older copy, or was rewritten from end to end. The head that the server was told shows both.
"""

import hashlib
import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from tacitly_client.ledger import schema
from tacitly_client.ledger.books import enter
from tacitly_client.ledger.journal import COLUMNS, NO_ENTRY, Entry, Head, next_head
from tacitly_common.errors import LedgerError

# Each table with the number of its first columns that name a row.
_TABLES: Final = {"attempt": 3, "charge": 4, "total": 2, "record": 1}

_Rows = dict[tuple[Any, ...], tuple[Any, ...]]


def verify(path: Path) -> Head:
    """The head of a sound ledger.

    Raises:
        LedgerError: it is not sound; the message names the first bad place.
    """
    if not path.exists():
        raise LedgerError(f"{path} is missing; restore it from your backup")
    with (
        schema.ledger_errors(path),
        closing(schema.connect(path, read_only=True)) as db,
        closing(sqlite3.connect(":memory:", isolation_level=None)) as expected,
    ):
        db.execute("BEGIN")  # one state of the file, also while an agent writes
        schema.create_tables(expected)
        _check_definitions(path, db, expected)
        head = _replay(path, db, expected)
        for table, key_columns in _TABLES.items():
            _compare(path, table, *(_rows(each, table, key_columns) for each in (db, expected)))
        whole = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if whole != "ok":
            raise LedgerError(f"{path}: pages: {whole}")
    return head


def _check_definitions(path: Path, db: sqlite3.Connection, expected: sqlite3.Connection) -> None:
    found = schema.version(db)
    if found != schema.SCHEMA_VERSION:
        raise LedgerError(
            f"{path}: version: it is {found}, this Tacitly verifies {schema.SCHEMA_VERSION}"
        )
    definitions = [
        _rows(each, "sqlite_master", 2, "type, name, tbl_name, sql") for each in (db, expected)
    ]
    _compare(path, "sqlite_master", *definitions)


def _replay(path: Path, db: sqlite3.Connection, expected: sqlite3.Connection) -> Head:
    head = NO_ENTRY
    columns = ", ".join(COLUMNS)
    for counter, stored_hash, *values in db.execute(
        f"SELECT counter, hash, {columns} FROM journal ORDER BY counter"  # noqa: S608
    ):
        place = f"{path}: journal entry {counter}"
        if counter != head.counter + 1:
            raise LedgerError(f"{place}: it follows entry {head.counter}; entries are missing")
        entry = Entry(**dict(zip(COLUMNS, values, strict=True)))
        head = next_head(head, entry)
        if head.hash != stored_hash:
            raise LedgerError(f"{place}: its hash does not fit it and what comes before")
        try:
            enter(expected, entry)
        except (LedgerError, sqlite3.Error, struct.error) as error:
            raise LedgerError(f"{place}: it cannot have happened: {error}") from error
    return head


def _rows(db: sqlite3.Connection, table: str, key_columns: int, columns: str = "*") -> _Rows:
    rows = db.execute(f"SELECT {columns} FROM {table}")  # noqa: S608
    return {row[:key_columns]: row[key_columns:] for row in rows}


def _compare(path: Path, table: str, found: _Rows, expected: _Rows) -> None:
    # By repr: in a damaged file a value may be of another type than its column.
    for key in sorted(found.keys() | expected.keys(), key=repr):
        if found.get(key) != expected.get(key):
            raise LedgerError(
                f"{path}: table {table}, row {'/'.join(map(str, key))}: it holds "
                f"{_shown(found.get(key))}, should hold {_shown(expected.get(key))}"
            )


def _shown(values: tuple[Any, ...] | None) -> str:
    if values is None:
        return "nothing"
    return ", ".join(
        f"SHA-256 {hashlib.sha256(v).hexdigest():.16}" if isinstance(v, bytes) else str(v)
        for v in values
    )
