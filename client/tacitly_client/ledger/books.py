"""How an entry changes the tables. Charging, migrating and verifying all go through `enter`."""

import sqlite3
from typing import Final

from tacitly_client.ledger.journal import Entry, Kind, append, pack_rdp, unpack_rdp
from tacitly_client.ledger.schema import Scope
from tacitly_common.accounting.record import NO_RDP, compose
from tacitly_common.errors import LedgerError

_IS_KEY: Final = "(plan_hash, round, attempt) = (?, ?, ?)"


def enter(db: sqlite3.Connection, entry: Entry) -> None:
    """Write the entry and everything that follows from it, in the caller's transaction.

    Whether it may be charged is not asked here.

    Raises:
        LedgerError: it ends an attempt that is not charged, or ended.
        sqlite3.Error: also for an attempt that was charged before, or fields that are missing.
    """
    append(db, entry)
    match entry.kind:
        case Kind.CHARGED:
            _charge(db, entry)
        case Kind.RELEASED | Kind.LOST:
            _end(db, entry)
        case Kind.TRAINED:
            pass
    if entry.rdp is not None:
        _train(db, entry.plan_hash, entry.rdp)


def record_rdp(db: sqlite3.Connection, plan_hash: str | None = None) -> tuple[int, ...]:
    """The record level's pico-RDP of one campaign, or of all together."""
    condition, values = ("", ()) if plan_hash is None else (" WHERE plan_hash = ?", (plan_hash,))
    total = NO_RDP
    for (stored,) in db.execute("SELECT rdp FROM record" + condition, values):  # noqa: S608
        total = compose(total, unpack_rdp(stored))
    return total


def _charge(db: sqlite3.Connection, entry: Entry) -> None:
    key = (entry.plan_hash, entry.round, entry.attempt)
    epochs = (entry.epochs or "").split()
    db.execute(
        "INSERT INTO attempt VALUES (?, ?, ?, ?, ?, ?)",
        (*key, entry.cost_nano_rho, entry.at_seconds, entry.kind),
    )
    db.executemany(
        "INSERT INTO charge VALUES (?, ?, ?, ?, ?)",
        [(*key, epoch, entry.cost_nano_rho) for epoch in epochs],
    )
    scopes = [
        (Scope.LIFETIME, ""),
        (Scope.CAMPAIGN, entry.plan_hash),
        *((Scope.EPOCH, epoch) for epoch in epochs),
    ]
    db.executemany(
        "INSERT INTO total VALUES (?, ?, ?, 1) ON CONFLICT DO UPDATE SET"
        " spent_nano_rho = spent_nano_rho + excluded.spent_nano_rho, attempts = attempts + 1",
        [(scope, name, entry.cost_nano_rho) for scope, name in scopes],
    )


def _end(db: sqlite3.Connection, entry: Entry) -> None:
    key = (entry.plan_hash, entry.round, entry.attempt)
    row = db.execute(f"SELECT state FROM attempt WHERE {_IS_KEY}", key).fetchone()  # noqa: S608
    if row != (Kind.CHARGED,):
        raise LedgerError(
            f"round {entry.round} attempt {entry.attempt} is {row[0] if row else 'not charged'} "
            f"and cannot become {entry.kind}"
        )
    db.execute(f"UPDATE attempt SET state = ? WHERE {_IS_KEY}", (entry.kind, *key))  # noqa: S608


def _train(db: sqlite3.Connection, plan_hash: str, rdp: bytes) -> None:
    total = compose(record_rdp(db, plan_hash), unpack_rdp(rdp))
    db.execute("INSERT OR REPLACE INTO record VALUES (?, ?)", (plan_hash, pack_rdp(total)))
