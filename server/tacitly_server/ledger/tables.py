"""The tables of the population database, as they are at the newest revision.

`migrations/` makes them and brings older ones here; a test compares the two.

    nodes        which subject each of Flower's nodes belongs to
    invitations  whom each one-time token admits, by the token's hash
    devices      the enrolled nodes: their own keys, what they last said, whether they have left
    attempts     where each attempt stands
    charges      what each attempt took from whom, for the data of which month
    budgets      running totals of the charges: a charge costs the same at any age
    journal      every change of attempts, charges and budgets, hash-chained, append-only
    checkpoints  signed heads of the journal
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

METADATA: Final = MetaData()

# SQLite's INTEGER has 64 bits, and its strict tables know no BIGINT.
INT64: Final = BigInteger().with_variant(Integer, "sqlite")

# Names are compared byte by byte, whatever the database's language: one order everywhere.
NAME: Final = Text().with_variant(Text(collation="C"), "postgresql")

# Flower's node ids are unsigned 64-bit integers, a database's are signed: kept as text.
NODES: Final = Table(
    "nodes",
    METADATA,
    Column("node_id", Text, primary_key=True),
    Column("public_key_fingerprint", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Index("nodes_by_key", "public_key_fingerprint"),
    sqlite_strict=True,
)
# `keys_digest` is None until a device has used the token; then it admits those keys alone.
INVITATIONS: Final = Table(
    "invitations",
    METADATA,
    Column("token_hash", Text, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("expires_unix_seconds", INT64, nullable=False),
    Column("keys_digest", Text),
    sqlite_strict=True,
)
# `ended` is None, "withdrawn" or "revoked"; `attempts` and `ledger_head` are what the device last
# said of its own ledger.
DEVICES: Final = Table(
    "devices",
    METADATA,
    Column("node_id", Text, ForeignKey("nodes.node_id"), primary_key=True),
    Column("token_hash", Text, ForeignKey("invitations.token_hash"), nullable=False, unique=True),
    Column("device_key", Text, nullable=False, unique=True),
    Column("certificate", LargeBinary, nullable=False),
    Column("ended", Text),
    Column("attempts", INT64, nullable=False),
    Column("ledger_head", Text, nullable=False),
    sqlite_strict=True,
)
ATTEMPTS: Final = Table(
    "attempts",
    METADATA,
    Column("id", INT64, primary_key=True),
    Column("plan_hash", Text, nullable=False),
    Column("round", INT64, nullable=False),
    Column("attempt", INT64, nullable=False),
    Column("state", Text, nullable=False),
    Column("cost_nano_rho", INT64, nullable=False),
    UniqueConstraint("plan_hash", "round", "attempt"),
    sqlite_strict=True,
)
CHARGES: Final = Table(
    "charges",
    METADATA,
    Column("attempt_id", INT64, ForeignKey("attempts.id"), primary_key=True),
    Column("subject", NAME, primary_key=True),
    Column("epoch", NAME, primary_key=True),
    Column("cost_nano_rho", INT64, nullable=False),
    Index("charges_by_epoch", "epoch", "subject"),
    # For how many attempts a person was charged is asked when a device says it paid for more.
    Index("charges_by_subject", "subject"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
# kind and name of a scope: campaign and the plan's hash, epoch and YYYY-MM, lifetime and nothing.
BUDGETS: Final = Table(
    "budgets",
    METADATA,
    Column("kind", NAME, primary_key=True),
    Column("name", NAME, primary_key=True),
    Column("subject", NAME, primary_key=True),
    Column("spent_nano_rho", INT64, nullable=False),
    CheckConstraint("spent_nano_rho >= 0", name="spent_is_not_negative"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
# The columns but `hash` are what `verify_ledger.entry_hash` covers.
JOURNAL: Final = Table(
    "journal",
    METADATA,
    Column("sequence", INT64, primary_key=True, autoincrement=False),
    Column("time", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("plan_hash", Text),
    Column("round", INT64),
    Column("attempt", INT64),
    Column("cost_nano_rho", INT64),
    Column("lifetime_cap_nano_rho", INT64),
    Column("epoch_cap_nano_rho", INT64),
    Column("campaign_cap_nano_rho", INT64),
    Column("epochs", Text),
    Column("subjects", INT64),
    Column("digest", Text),
    Column("previous", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Index("journal_by_attempt", "plan_hash", "round", "attempt"),
    sqlite_strict=True,
)
CHECKPOINTS: Final = Table(
    "checkpoints",
    METADATA,
    Column("sequence", INT64, ForeignKey("journal.sequence"), primary_key=True),
    Column("hash", Text, nullable=False),
    Column("time", Text, nullable=False),
    Column("public_key", Text, nullable=False),
    Column("signature", Text, nullable=False),
    sqlite_strict=True,
)
