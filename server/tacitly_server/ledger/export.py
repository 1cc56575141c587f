"""The ledger as records that `tacitly_common.verify_ledger` checks, in a file or at once."""

import os
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from tacitly_common.errors import LedgerError, ValidationError
from tacitly_common.verify_ledger import COUNTED, FORMAT, Record, Replay, canonical
from tacitly_server.ledger.database import open_database, reading
from tacitly_server.ledger.tables import ATTEMPTS, BUDGETS, CHARGES, CHECKPOINTS, JOURNAL
from tacitly_server.ledger.witness import SignedCheckpoint


def export(where: Path | str, path: Path) -> int:
    """Write the whole ledger to a new file (0600), durably; how many records.

    It holds subjects by their HMAC: personal data, for auditors only.

    Raises:
        LedgerError: there is no ledger, or it cannot be read.
        ValidationError: the file exists already, or cannot be written.
    """
    engine = open_database(where, create=False)
    count = 0
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file, reading(engine) as connection:
            for record in records(connection):
                file.write(canonical(record) + b"\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ValidationError(f"{path}: {error.strerror}; name a new file") from error
    finally:
        engine.dispose()
    return count


def verify_database(
    where: Path | str,
    public_keys: Collection[str],
    witnessed: SignedCheckpoint | None = None,
) -> list[str]:
    """Replay the ledger offline; each problem names its place. Empty: all is in order.

    `public_keys` are those whose checkpoints count. `witnessed` is the last line of the witness:
    without it, a ledger that lost its end cannot be told from a whole one.

    Raises:
        LedgerError: there is no ledger, or it cannot be read.
    """
    kept = [] if witnessed is None else [msgspec.structs.asdict(witnessed)]
    replay = Replay(public_keys, kept)
    engine = open_database(where, create=False)
    try:
        with reading(engine) as connection:
            for record in records(connection):
                replay.take(record)
    finally:
        engine.dispose()
    replay.finish()
    return replay.problems


def latest_checkpoint(where: Path | str) -> SignedCheckpoint:
    """The newest signed checkpoint: to publish, or to give an auditor.

    Raises:
        LedgerError: there is no ledger, or nothing was ever charged.
    """
    newest = select(CHECKPOINTS).order_by(CHECKPOINTS.c.sequence.desc()).limit(1)
    engine = open_database(where, create=False)
    try:
        with reading(engine) as connection:
            row = connection.execute(newest).mappings().first()
    finally:
        engine.dispose()
    if row is None:
        raise LedgerError("the ledger has no checkpoint yet: the first is made with a charge")
    return SignedCheckpoint(**row)


def records(connection: Connection) -> Iterator[Record]:
    """Every record of an export, in its order."""
    counts: Counter[str] = Counter()
    yield {"type": "header", "format": FORMAT}
    for record in _records(connection):
        counts[record["type"]] += 1
        yield record
    yield {"type": "end", **{kind: counts[kind] for kind in COUNTED}}


def _records(connection: Connection) -> Iterator[Record]:
    ids = {
        (row.plan_hash, row.round, row.attempt): row.id
        for row in connection.execute(select(ATTEMPTS))
    }
    checkpoints = {
        row["sequence"]: {"type": "checkpoint", **row}
        for row in connection.execute(select(CHECKPOINTS)).mappings()
    }
    exported: set[int] = set()
    for entry in connection.execute(select(JOURNAL).order_by(JOURNAL.c.sequence)).mappings():
        yield {"type": "entry", **entry}
        attempt_id = ids.get((entry["plan_hash"], entry["round"], entry["attempt"]))
        if entry["kind"] == "charged" and attempt_id is not None and attempt_id not in exported:
            exported.add(attempt_id)
            yield from _charges(connection, attempt_id, entry["sequence"])
        if (checkpoint := checkpoints.pop(entry["sequence"], None)) is not None:
            yield checkpoint
    # Nothing may hide by belonging to no entry: the replay says that it does not fit.
    charged = set(connection.execute(select(CHARGES.c.attempt_id).distinct()).scalars())
    for attempt_id in sorted(charged - exported):
        yield from _charges(connection, attempt_id, 0)
    yield from checkpoints.values()
    attempts = select(ATTEMPTS).order_by(ATTEMPTS.c.id)
    for row in connection.execute(attempts).mappings():
        yield {"type": "attempt", **{name: row[name] for name in row if name != "id"}}
    totals = select(BUDGETS).order_by(BUDGETS.c.kind, BUDGETS.c.name, BUDGETS.c.subject)
    for row in connection.execute(totals).mappings():
        yield {"type": "total", **row}


def _charges(connection: Connection, attempt_id: int, sequence: int) -> Iterator[dict[str, Any]]:
    charges = select(CHARGES.c.subject, CHARGES.c.epoch, CHARGES.c.cost_nano_rho).where(
        CHARGES.c.attempt_id == attempt_id
    )
    for row in connection.execute(charges.order_by(CHARGES.c.subject)).mappings():
        yield {"type": "charge", "entry": sequence, **row}
