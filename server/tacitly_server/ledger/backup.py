"""Copies of the ledger, and what must happen before an old one is used.

    backup      a consistent copy while charges go on: one SQLite file, whatever the database is;
                it is a ledger itself and can be verified
    restore     the copy becomes the ledger, in one transaction
    reconcile   what the witness saw charged and the ledger does not hold is charged, as it was

After `restore`, or when a database file was replaced by hand, the ledger is behind its witness:
nothing can be written to it until `reconcile`. Whoever was charged in the gap has spent exactly
that again; the attempts come back as CHARGED, and the campaign's recovery decides whether their
results are there.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, delete, insert, select, text

from tacitly_common.accounting.caps import Caps
from tacitly_common.errors import LedgerError, ValidationError
from tacitly_server.ledger import journal
from tacitly_server.ledger.database import open_database, reading, writing
from tacitly_server.ledger.export import verify_database
from tacitly_server.ledger.journal import Kind
from tacitly_server.ledger.population import (
    AttemptKey,
    AttemptState,
    check_same_charge,
    find,
    journal_charge,
    write_charge,
)
from tacitly_server.ledger.tables import ATTEMPTS, METADATA
from tacitly_server.ledger.witness import Witness, WitnessLine, holds

_BATCH: Final = 5_000

Now = Callable[[], datetime]


def backup(where: Path | str, path: Path, witness: Witness) -> None:
    """Copy the ledger, and who is who, to a new file (0600).

    What is in the copy is witnessed first: else a charge that a crash kept from the witness could
    come back under a name that was given to another one meanwhile.

    Raises:
        LedgerError: there is no ledger, it is behind its witness, or a file cannot be written.
        ValidationError: the file exists already.
    """
    if path.exists():
        raise ValidationError(f"{path} exists already; name a new file")
    source = open_database(where, create=False)
    try:
        witness.catch_up(source)
        target = open_database(path)
        try:
            with reading(source) as old, writing(target) as new:
                _copy(old, new)
        finally:
            target.dispose()
    finally:
        source.dispose()


def restore(
    path: Path,
    where: Path | str,
    witness: Witness,
    *,
    now: Now = lambda: datetime.now(UTC),
) -> bool:
    """Make a backup the ledger. False: it is behind the witness, and `reconcile` must follow.

    Raises:
        LedgerError: the backup is damaged (nothing was changed), or cannot be read or written.
    """
    problems = verify_database(path, [witness.public_key])
    if problems:
        raise LedgerError(f"{path} has {len(problems)} problems ({problems[0]}); use another one")
    source, target = open_database(path, create=False), open_database(where)
    try:
        with reading(source) as old, writing(target) as new:
            _lock_all(new)
            for table in reversed(METADATA.sorted_tables):
                new.execute(delete(table))
            _copy(old, new)
            _, head = journal.head(new)
            journal.append(new, Kind.RESTORED, now=now(), digest=head)
            last = witness.last()
            return last is None or holds(new, last.checkpoint)
    finally:
        source.dispose()
        target.dispose()


def reconcile(
    where: Path | str,
    witness: Witness,
    *,
    witness_lost: bool = False,
    now: Now = lambda: datetime.now(UTC),
) -> int:
    """Charge what the ledger lacks; how many attempts that were. Doing it twice charges once.

    `witness_lost` is the operator's word that the witness is gone for good and that this ledger
    is the newest: a new witness is begun.

    Raises:
        LedgerError: the witness is missing, damaged, or contradicts the ledger; nothing changed.
    """
    engine = open_database(where)
    try:
        with writing(engine) as connection:
            _lock_all(connection)
            last = witness.last()
            try:
                witness.check(connection)
            except LedgerError:
                if last is None and not witness_lost:
                    raise
            else:
                return 0
            lines = () if last is None else witness.lines()
            charged = sum(_charge_again(connection, line, now) for line in lines)
            _, head = journal.head(connection)
            journal.append(
                connection,
                Kind.RECONCILED,
                now=now(),
                digest=head if last is None else last.checkpoint.hash,
                subjects=charged,
            )
            witness.sign(connection, now())
        witness.start_anew(engine)
    finally:
        engine.dispose()
    return charged


def _charge_again(connection: Connection, line: WitnessLine, now: Now) -> bool:
    """Charge a witnessed attempt as it was, unless the ledger holds it. True if charged now."""
    entry = line.entry
    if entry.get("kind") != Kind.CHARGED:
        return False
    key = AttemptKey(str(entry["plan_hash"]), int(entry["round"] or 0), int(entry["attempt"] or 0))
    cost = int(entry["cost_nano_rho"] or 0)
    rows = [(s, epoch, cost) for s in line.subjects for epoch in str(entry["epochs"]).split(",")]
    if connection.execute(select(ATTEMPTS.c.id).where(key.row)).first() is None:
        connection.execute(
            insert(ATTEMPTS).values(**key.facts, state=AttemptState.PLANNED, cost_nano_rho=0)
        )
        journal.append(connection, Kind.PLANNED, now=now(), **key.facts)
    attempt = find(connection, key)
    if attempt.state != AttemptState.PLANNED:
        check_same_charge(connection, key, attempt.id, rows)
        return False
    write_charge(connection, key, attempt.id, rows, caps=None)
    journal_charge(connection, key, rows, _caps(entry), now=now())
    return True


def _caps(entry: dict[str, str | int | None]) -> Caps | None:
    """Those in force when it was charged; an older Tacitly kept none."""
    if entry["lifetime_cap_nano_rho"] is None:
        return None
    scopes = ("lifetime", "epoch", "campaign")
    return Caps(*(int(entry[f"{scope}_cap_nano_rho"] or 0) for scope in scopes))


def _copy(old: Connection, new: Connection) -> None:
    for table in METADATA.sorted_tables:
        rows = old.execute(select(table)).mappings()
        while batch := rows.fetchmany(_BATCH):
            new.execute(insert(table), [dict(row) for row in batch])
    if new.dialect.name == "postgresql":  # its counter does not see ids that were given
        new.execute(
            text(
                "SELECT setval(pg_get_serial_sequence('attempts', 'id'), max(id)) FROM attempts "
                "HAVING max(id) IS NOT NULL"
            )
        )


def _lock_all(connection: Connection) -> None:
    """Nobody else writes until the transaction ends; SQLite's BEGIN IMMEDIATE says so already."""
    if connection.dialect.name == "postgresql":
        names = ", ".join(table.name for table in METADATA.sorted_tables)
        connection.execute(text(f"LOCK TABLE {names} IN EXCLUSIVE MODE"))
