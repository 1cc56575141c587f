"""The hash chain of everything that changed the ledger, each entry written with its change.

    hash of an entry = SHA-256 of the JSON array [_DOMAIN, hash before it, counter, its fields...]

The counter begins at 1 and has no gap; before the first entry the hash is 64 zeros. The chain has
no key: whoever can write the file can write another chain. What gives that away is the head that
the server was told before.

| kind     | when                                  | fields beside plan_hash                   |
|----------|---------------------------------------|-------------------------------------------|
| charged  | an attempt was paid for               | all; the record level's are null where it |
|          |                                       | comes from a ledger of the first form     |
| trained  | record-level steps of no attempt that | noise_multiplier, sample_rate, steps, rdp |
|          | is known: a ledger of the first form  |                                           |
| released | its result is durable                 | round, attempt                            |
| lost     | it will have none                     | round, attempt                            |
"""

import hashlib
import sqlite3
import struct
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from tacitly_common.accounting.record import ORDERS

_DOMAIN: Final = "tacitly device ledger 2"
_BEFORE_THE_FIRST: Final = "0" * 64
_RDP: Final = struct.Struct(f">{len(ORDERS)}q")


class Kind(StrEnum):
    """What an entry says happened."""

    CHARGED = "charged"
    TRAINED = "trained"
    RELEASED = "released"
    LOST = "lost"


class Head(NamedTuple):
    """How many entries there are, and the hash of the last: it stands for all of them."""

    counter: int
    hash: str


NO_ENTRY: Final = Head(0, _BEFORE_THE_FIRST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One change. `epochs` are months apart by a space, `rdp` is `pack_rdp` of the steps."""

    kind: Kind
    plan_hash: str
    round: int | None = None
    attempt: int | None = None
    cost_nano_rho: int | None = None
    epochs: str | None = None
    at_seconds: int | None = None
    noise_multiplier: str | None = None
    sample_rate: str | None = None
    steps: int | None = None
    rdp: bytes | None = None


COLUMNS: Final = tuple(field.name for field in fields(Entry))


def append(db: sqlite3.Connection, entry: Entry) -> None:
    """Add an entry, in the transaction of the change it is about."""
    new = next_head(head(db), entry)
    values = (new.counter, *astuple(entry), new.hash)
    db.execute(
        f"INSERT INTO journal VALUES ({', '.join('?' * len(values))})",  # noqa: S608
        values,
    )


def head(db: sqlite3.Connection) -> Head:
    """The last entry's counter and hash."""
    row = db.execute("SELECT counter, hash FROM journal ORDER BY counter DESC LIMIT 1").fetchone()
    return NO_ENTRY if row is None else Head(*row)


def next_head(before: Head, entry: Entry) -> Head:
    """The head with `entry` added."""
    counter = before.counter + 1
    hashed = msgspec.json.encode([_DOMAIN, before.hash, counter, *astuple(entry)])
    return Head(counter, hashlib.sha256(hashed).hexdigest())


def pack_rdp(rdp: Sequence[int]) -> bytes:
    """Pico-RDP, one an order, as it is stored."""
    return _RDP.pack(*rdp)


def unpack_rdp(stored: bytes) -> tuple[int, ...]:
    """What `pack_rdp` stored.

    Raises:
        struct.error: it is of another length.
    """
    return _RDP.unpack(stored)
