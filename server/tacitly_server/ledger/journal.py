"""The journal: one entry for every change of the ledger, each with the hash of the one before.

An entry is written in the transaction of the change that it records, and never touched again.
What is hashed is defined in `tacitly_common.verify_ledger`, for auditors to read.

    planned      plan_hash, round, attempt
    charged      those, cost_nano_rho, the three caps in force, epochs (YYYY-MM, comma between),
                 subjects (how many), digest (of all its charges)
    released     the attempt, digest (SHA-256 of the released model)
    lost, void   the attempt
    restored     digest: the head of the backup that replaced the ledger
    reconciled   digest: the witnessed head whose gap is made up for; subjects: attempts charged

Kinds never change meaning; a reader refuses those that it does not know.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, insert, select, text

from tacitly_common.accounting.caps import Caps
from tacitly_common.verify_ledger import ENTRY_FIELDS, GENESIS, charges_digest, entry_hash
from tacitly_server.ledger.budgets import by_scope
from tacitly_server.ledger.tables import JOURNAL


class Kind(StrEnum):
    """See the module's law."""

    PLANNED = "planned"
    CHARGED = "charged"
    RELEASED = "released"
    LOST = "lost"
    VOID = "void"
    RESTORED = "restored"
    RECONCILED = "reconciled"


def lock(connection: Connection) -> None:
    """Be the only one to append until the transaction ends: a chain has one end.

    The last lock that a charge takes, so that who waits here holds nothing another needs.
    SQLite's BEGIN IMMEDIATE is this lock already.
    """
    if connection.dialect.name == "postgresql":
        # The attempts first, as everybody does who changes one: a restore waits for them there.
        connection.execute(text("LOCK TABLE attempts IN ROW EXCLUSIVE MODE"))
        connection.execute(text("LOCK TABLE journal IN EXCLUSIVE MODE"))


def head(connection: Connection) -> tuple[int, str]:
    """Sequence and hash of the newest entry; 0 and zeros before the first."""
    newest = select(JOURNAL.c.sequence, JOURNAL.c.hash).order_by(JOURNAL.c.sequence.desc()).limit(1)
    row = connection.execute(newest).first()
    return (0, GENESIS) if row is None else (row.sequence, row.hash)


def append(connection: Connection, kind: Kind, *, now: datetime, **facts: str | int) -> None:
    """Write the next entry; `lock` is held. `facts` are the journal's columns of this kind."""
    sequence, previous = head(connection)
    entry: dict[str, Any] = dict.fromkeys(ENTRY_FIELDS) | facts
    entry |= {
        "sequence": sequence + 1,
        "time": timestamp(now),
        "kind": kind.value,
        "previous": previous,
    }
    connection.execute(insert(JOURNAL).values(**entry, hash=entry_hash(entry)))


def append_charge(
    connection: Connection,
    key: Mapping[str, str | int],
    rows: Sequence[tuple[str, str, int]],
    caps: Caps | None,
    *,
    now: datetime,
) -> None:
    """The entry that binds the charges (subject, month, nano-ρ) of an attempt."""
    limits: dict[str, int] = {}
    if caps is not None:
        limits = {f"{scope}_cap_nano_rho": cap for scope, cap in by_scope(caps).items()}
    append(
        connection,
        Kind.CHARGED,
        now=now,
        **key,
        **limits,
        cost_nano_rho=rows[0][2],
        epochs=",".join(sorted({epoch for _, epoch, _ in rows})),
        subjects=len({subject for subject, _, _ in rows}),
        digest=charges_digest(rows),
    )


def timestamp(now: datetime) -> str:
    """As the journal and its checkpoints write a time: UTC, whole seconds."""
    return now.isoformat(timespec="seconds")
