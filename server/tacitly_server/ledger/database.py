"""The population database, SQLite or PostgreSQL, and the only way to open a transaction on it.

    writing(engine)   SQLite: BEGIN IMMEDIATE, so that the check and the write are one; default
                      transactions begin late, and two writers that both read "one unit left"
                      would both spend it. PostgreSQL: READ COMMITTED with the rows locked that a
                      charge is decided on. Durable on return: WAL and synchronous=FULL;
                      synchronous_commit on.
    reading(engine)   one consistent snapshot

Both turn what the database refuses into `LedgerError`. The schema is Alembic's (`migrations/`): a
new database gets it when it is opened, an older one is brought to it.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DatabaseError
from sqlalchemy.pool import ConnectionPoolEntry

from tacitly_common.errors import LedgerError, ValidationError
from tacitly_server.ledger.tables import ATTEMPTS

# A test holds it to be the newest of migrations/.
HEAD_REVISION: Final = "0003"

_LOCK_WAIT_SECONDS: Final = 30
_IMMEDIATE: Final = "tacitly_immediate"
_MIGRATION_LOCK: Final = 0x7AC1_71E5  # PostgreSQL's advisory locks are named by numbers
_FIRST_REVISION: Final = "0001"


def open_database(where: Path | str, *, create: bool = True) -> Engine:
    """The database at a path or URL (sqlite, postgresql), at the newest schema.

    A missing SQLite file is created with mode 0600. With `create` false nothing is created or
    migrated: what only looks must not change evidence. `dispose` the engine when done.

    Raises:
        LedgerError: cannot be created or reached, is no database, or is of another schema.
        ValidationError: a URL of another kind.
    """
    url = _url(where)
    if url.get_backend_name() == "sqlite":
        path = Path(url.database or "")
        if create:
            _create_private(path)
        elif not path.is_file():
            raise LedgerError(f"{path}: no such ledger; name an existing one")
        engine = create_engine(url, connect_args={"timeout": _LOCK_WAIT_SECONDS})
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        engine = create_engine(url)
        event.listen(engine, "connect", _configure_postgresql)
    try:
        _bring_to_head(engine, create=create)
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that may write.

    Raises:
        LedgerError: locked for too long, damaged, full disk; nothing was written.
    """
    with _ledger_errors(engine), engine.execution_options(**{_IMMEDIATE: True}).begin() as c:
        yield c


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads, all of it at one moment.

    Raises:
        LedgerError: as `writing`.
    """
    if engine.dialect.name == "postgresql":
        engine = engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
    with _ledger_errors(engine), engine.begin() as connection:
        yield connection


def _url(where: Path | str) -> URL:
    if isinstance(where, Path) or "://" not in where:
        return URL.create("sqlite", database=str(where))
    try:
        url = make_url(where)
    except ArgumentError as error:
        raise ValidationError(
            "the database's URL cannot be read; write postgresql://user@host/name"
        ) from error
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "postgresql+psycopg"):
        raise ValidationError(
            f"{url.drivername} is no database for the ledger; use sqlite or postgresql"
        )
    return url


def _create_private(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass  # not even opened: closing it would drop this process's other locks on it
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror}; make its directory writable") from error


def _bring_to_head(engine: Engine, *, create: bool) -> None:
    with reading(engine) as connection:
        revision = _revision(connection)
    if revision == HEAD_REVISION:
        return
    if not create:
        raise LedgerError(
            f"{engine.url.database} has schema {revision}, not {HEAD_REVISION}: it is no ledger, "
            "or an older one, which `tacitly-server up` brings up to date"
        )
    with writing(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
        revision = _revision(connection)  # another process may have been faster
        if revision is not None and revision > HEAD_REVISION:
            raise LedgerError(
                f"{engine.url.database} has schema {revision}, newer than {HEAD_REVISION}; use the "
                "Tacitly that wrote it"
            )
        if revision != HEAD_REVISION:
            _migrate(connection, revision)


def _revision(connection: Connection) -> str | None:
    """The schema's revision; None of an empty database."""
    tables = inspect(connection)
    if tables.has_table("alembic_version"):
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return None if found is None else str(found)
    # The first ledgers did not say what they are.
    return _FIRST_REVISION if tables.has_table(ATTEMPTS.name) else None


def _migrate(connection: Connection, revision: str | None) -> None:
    from alembic import command  # 0.2 s: only a new or an older database pays
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    if revision == _FIRST_REVISION:
        command.stamp(config, revision)
    command.upgrade(config, "head")


def _configure_sqlite(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    assert isinstance(connection, sqlite3.Connection)  # noqa: S101 - what the type checker lacks
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


def _begin_sqlite(connection: Connection) -> None:
    immediate = connection.get_execution_options().get(_IMMEDIATE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _configure_postgresql(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("SET synchronous_commit = on")
    cursor.execute(f"SET lock_timeout = '{_LOCK_WAIT_SECONDS}s'")
    cursor.close()
    connection.commit()


@contextmanager
def _ledger_errors(engine: Engine) -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        raise LedgerError(
            f"{engine.url.database}: {str(error.orig).strip()}; stop other writers, free disk "
            "space, start the database, or restore it from a backup"
        ) from error
