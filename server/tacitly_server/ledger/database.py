"""The tables of `population.db` and the only way to open a transaction on it.

Every transaction says BEGIN itself: Python's sqlite3 module and SQLAlchemy would otherwise
begin late and deferred, and two writers that both read "one unit left" would both spend it.

    writing(engine)   BEGIN IMMEDIATE: the check and the write are one; commit is durable
                      on return (WAL, synchronous=FULL)
    reading(engine)   BEGIN: one consistent snapshot

Both turn what SQLite refuses into `LedgerError`.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    Engine,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
)
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import ConnectionPoolEntry

from tacitly_common.errors import LedgerError

_LOCK_WAIT_SECONDS: Final = 30
_IMMEDIATE: Final = "tacitly_immediate"

_METADATA = MetaData()

# Flower's node ids are unsigned 64-bit integers, SQLite's integers are signed: kept as text.
NODES = Table(
    "nodes",
    _METADATA,
    Column("node_id", Text, primary_key=True),
    Column("public_key_fingerprint", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Index("nodes_by_key", "public_key_fingerprint"),
    sqlite_strict=True,
)
ATTEMPTS = Table(
    "attempts",
    _METADATA,
    Column("id", Integer, primary_key=True),
    Column("plan_hash", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("cost_nano_rho", Integer, nullable=False),
    UniqueConstraint("plan_hash", "round", "attempt"),
    sqlite_strict=True,
)
CHARGES = Table(
    "charges",
    _METADATA,
    Column("attempt_id", Integer, ForeignKey("attempts.id"), primary_key=True),
    Column("subject", Text, primary_key=True),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
# The sum of a subject's charges by plan, kept so that a charge costs the same at any age.
TOTALS = Table(
    "totals",
    _METADATA,
    Column("plan_hash", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("spent_nano_rho", Integer, nullable=False),
    CheckConstraint("spent_nano_rho >= 0"),
    Index("totals_by_subject", "subject"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)


def open_database(path: Path) -> Engine:
    """The database at `path`, created with mode 0600 if missing. `dispose` it when done.

    Raises:
        LedgerError: the file cannot be created, or is no database.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass  # not even opened: closing it would drop this process's other locks on it
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror}; make its directory writable") from error
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": _LOCK_WAIT_SECONDS})
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    with writing(engine) as connection:
        _METADATA.create_all(connection)
    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that holds the write lock from its first statement.

    Raises:
        LedgerError: locked for too long, damaged, full disk; nothing was written.
    """
    with _ledger_errors(engine), engine.execution_options(**{_IMMEDIATE: True}).begin() as c:
        yield c


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads.

    Raises:
        LedgerError: as `writing`.
    """
    with _ledger_errors(engine), engine.begin() as connection:
        yield connection


def _configure(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    if not isinstance(connection, sqlite3.Connection):
        raise LedgerError("the population ledger is written for SQLite")
    connection.isolation_level = None  # the module begins nothing on its own
    _use_wal(connection)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL. SQLite does not wait for another process that switches at this moment."""
    give_up = time.monotonic() + _LOCK_WAIT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
        else:
            return


def _begin(connection: Connection) -> None:
    immediate = connection.get_execution_options().get(_IMMEDIATE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


@contextmanager
def _ledger_errors(engine: Engine) -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        raise LedgerError(
            f"{engine.url.database}: {error.orig}; stop other writers, free disk space, or restore "
            "the file from a backup"
        ) from error
