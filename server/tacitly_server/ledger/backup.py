"""Copies of the ledger, and what must happen before an old one is used.

    backup      a consistent copy while charges go on: one SQLite file, whatever the database is;
                it is a ledger itself and can be verified
    restore     the copy becomes the ledger, in one transaction
    reconcile   what the witness saw and the ledger does not hold is done again, as it was

After `restore`, or when a database file was replaced by hand, the ledger is behind its witness:
nothing can be written to it until `reconcile`. Then each attempt of the gap stands where it stood,
and whoever was charged has spent exactly that again.
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
    FOLLOWS,
    AttemptKey,
    AttemptState,
    check_same_charge,
    find,
    finish,
    write_charge,
)
from tacitly_server.ledger.tables import ATTEMPTS, METADATA
from tacitly_server.ledger.witness import Witness, WitnessLine, holds
from tacitly_server.private_files import sync_directory

_BATCH: Final = 5_000

Now = Callable[[], datetime]


def backup(where: Path | str, path: Path, witness: Witness) -> None:
    """Copy the ledger, and who is who, to a new file (0600), which appears when it is whole.

    Whatever is in the copy is witnessed before: else an entry that a crash kept from the witness
    could come back under a name that was given to another attempt meanwhile.

    Raises:
        LedgerError: there is no ledger, it is behind its witness, or a file cannot be written.
        ValidationError: the file exists already.
    """
    if path.exists():
        raise ValidationError(f"{path} exists already; name a new file")
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    source = open_database(where, create=False)
    try:
        target = open_database(partial)
        try:
            with reading(source) as old, writing(target) as new:
                _copy(old, new)
        finally:
            target.dispose()
        witness.catch_up(source)
        partial.rename(path)
        sync_directory(path.parent)
    finally:
        source.dispose()
        partial.unlink(missing_ok=True)


def restore(
    path: Path,
    where: Path | str,
    witness: Witness,
    *,
    now: Now = lambda: datetime.now(UTC),
) -> bool:
    """Make a backup the ledger. False: it is behind its witness, and `reconcile` must follow.

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
            witness.sign(new, now())
            last = witness.last()
            in_order = last is not None and holds(new, last.checkpoint)
        if in_order:
            witness.catch_up(target)
        return in_order
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
    """Make up for what the ledger lacks; how many attempts were charged. Twice charges once.

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
            charged = sum(_take_again(connection, line, now) for line in lines)
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


def _take_again(connection: Connection, line: WitnessLine, now: Now) -> bool:
    """Take a witnessed step of an attempt, unless the ledger holds it. True if it charged.

    A name is given to one attempt ever, for each is witnessed before it is used: what the ledger
    has of an attempt is the beginning of what the witness has, or the other way round.
    """
    entry = line.entry
    if entry.get("kind") not in set(AttemptState):
        return False
    key = AttemptKey(str(entry["plan_hash"]), int(entry["round"] or 0), int(entry["attempt"] or 0))
    step = AttemptState(str(entry["kind"]))
    if step is AttemptState.PLANNED:
        if connection.execute(select(ATTEMPTS.c.id).where(key.row)).first() is None:
            connection.execute(insert(ATTEMPTS).values(**key.facts, state=step, cost_nano_rho=0))
            journal.append(connection, Kind.PLANNED, now=now(), **key.facts)
        return False
    attempt = find(connection, key)
    if step is AttemptState.CHARGED:
        cost, epochs = int(entry["cost_nano_rho"] or 0), str(entry["epochs"]).split(",")
        rows = [(subject, epoch, cost) for subject in line.subjects for epoch in epochs]
        if attempt.state != AttemptState.PLANNED:
            check_same_charge(connection, key, attempt.id, rows)
            return False
        write_charge(connection, key, attempt.id, rows, caps=None)
        journal.append_charge(connection, key.facts, rows, _caps(entry), now=now())
        return True
    if attempt.state == FOLLOWS[step]:
        result = None if entry["digest"] is None else str(entry["digest"])
        finish(connection, key, step, result, now=now())
    elif attempt.state != step:
        raise LedgerError(
            f"round {key.round} attempt {key.attempt} is {attempt.state} in the ledger and {step} "
            "in the witness: they are not of the same ledger"
        )
    return False


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
