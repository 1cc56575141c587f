"""The tables of `ledger.db`, and connections to it.

`journal` is what happened. The other tables are what follows from it, kept so that a charge costs
the same at any age; `verify` computes them again.

    attempt   one row an attempt, with its state
    charge    one row an attempt and data epoch, each of the full cost
    total     the sums of a scope: of one's life (name ""), a data epoch, or a campaign
    record    the record level's pico-RDP of a campaign: int64, big-endian, one an order

The data epoch `EVERY_EPOCH` is of attempts of the ledger's first form, which kept none: they count
in each epoch.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Final

from tacitly_common.errors import LedgerError

# 0 is the first form (`former.py`), which did not say.
SCHEMA_VERSION: Final = 2
EVERY_EPOCH: Final = "*"
SCHEMA: Final = (
    """CREATE TABLE journal (
        counter INTEGER PRIMARY KEY CHECK (counter > 0),
        kind TEXT NOT NULL CHECK (kind IN ('charged', 'trained', 'released', 'lost')),
        plan_hash TEXT NOT NULL,
        round INTEGER,
        attempt INTEGER,
        cost_nano_rho INTEGER,
        epochs TEXT,
        at_seconds INTEGER,
        noise_multiplier TEXT,
        sample_rate TEXT,
        steps INTEGER,
        rdp BLOB,
        hash TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE attempt (
        plan_hash TEXT NOT NULL,
        round INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        cost_nano_rho INTEGER NOT NULL CHECK (cost_nano_rho > 0),
        at_seconds INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('charged', 'released', 'lost')),
        PRIMARY KEY (plan_hash, round, attempt)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX attempt_by_time ON attempt (plan_hash, at_seconds)",
    """CREATE TABLE charge (
        plan_hash TEXT NOT NULL,
        round INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        epoch TEXT NOT NULL,
        cost_nano_rho INTEGER NOT NULL CHECK (cost_nano_rho > 0),
        PRIMARY KEY (plan_hash, round, attempt, epoch)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE total (
        scope TEXT NOT NULL CHECK (scope IN ('lifetime', 'epoch', 'campaign')),
        name TEXT NOT NULL,
        spent_nano_rho INTEGER NOT NULL CHECK (spent_nano_rho > 0),
        attempts INTEGER NOT NULL CHECK (attempts > 0),
        PRIMARY KEY (scope, name)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE record (
        plan_hash TEXT NOT NULL PRIMARY KEY,
        rdp BLOB NOT NULL
    ) STRICT, WITHOUT ROWID""",
)
_BUSY_TIMEOUT_SECONDS: Final = 30.0


class Scope(StrEnum):
    """What a total is over. Its name: "", the month, the plan's hash."""

    LIFETIME = "lifetime"
    EPOCH = "epoch"
    CAMPAIGN = "campaign"


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection to an existing file that begins no transaction by itself.

    Raises:
        sqlite3.Error: missing, or not a database.
    """
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}",
        uri=True,
        timeout=_BUSY_TIMEOUT_SECONDS,
        isolation_level=None,
    )
    try:
        if not read_only:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error:
        db.close()
        raise
    return db


def version(db: sqlite3.Connection) -> int:
    """The form of the ledger that the file says it has."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def create_tables(db: sqlite3.Connection) -> None:
    """The empty ledger, in the caller's transaction."""
    for statement in SCHEMA:
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, alone from its first statement, durable when it is left."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if db.in_transaction:  # SQLite may have rolled back itself, on a full disk
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


@contextmanager
def ledger_errors(path: Path) -> Iterator[None]:
    """What SQLite refuses, as a `LedgerError` that says what to do."""
    try:
        yield
    except (sqlite3.Error, UnicodeError) as error:  # SQLite quotes a damaged file in its messages
        raise LedgerError(
            f"{path}: {error}; nothing is released without a sound ledger, "
            "restore it from your backup"
        ) from error
