"""Charges by month, running totals by scope, journal, checkpoints.

The first schema kept no month of the data, so its charges count in every month: the epoch
`EVERY_EPOCH`. Its history becomes the journal's beginning, in the order in which it was planned.
"""

from collections import Counter
from datetime import UTC, datetime
from itertools import groupby

import sqlalchemy as sa
from alembic import op

from tacitly_common.errors import LedgerError
from tacitly_common.verify_ledger import (
    ENTRY_FIELDS,
    EVERY_EPOCH,
    GENESIS,
    charges_digest,
    entry_hash,
)

revision = "0002"
down_revision = "0001"

_INT64 = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_STATES = {
    "planned": ("planned",),
    "charged": ("planned", "charged"),
    "released": ("planned", "charged", "released"),
    "lost": ("planned", "charged", "lost"),
    "void": ("planned", "void"),
}


def upgrade() -> None:
    """New tables, filled from the old ones, which go."""
    op.rename_table("charges", "old_charges")
    _create_tables()
    connection = op.get_bind()
    # The order of the subjects within an attempt does not matter: their digest sorts.
    rows = connection.execute(
        sa.text(
            "SELECT id, plan_hash, round, attempt, state, cost_nano_rho, subject FROM attempts "
            "LEFT JOIN old_charges ON attempt_id = id ORDER BY id"
        )
    ).all()
    journal: list[dict[str, object]] = []
    charges: list[dict[str, object]] = []
    budgets: Counter[tuple[str, str, str]] = Counter()
    time = datetime.now(UTC).isoformat(timespec="seconds")
    for _, group in groupby(rows, key=lambda row: row.id):
        attempt = list(group)
        first, subjects = attempt[0], [row.subject for row in attempt if row.subject is not None]
        cost = first.cost_nano_rho
        for subject in subjects:
            charges.append({"a": first.id, "subject": subject, "epoch": EVERY_EPOCH, "cost": cost})
            budgets["lifetime", "", subject] += cost
            budgets["campaign", first.plan_hash, subject] += cost
            budgets["epoch", EVERY_EPOCH, subject] += cost
        if first.state not in _STATES:
            raise LedgerError(
                f"attempt {first.id} has the state {first.state!r:.80}, which no Tacitly wrote; "
                "restore the ledger from a backup"
            )
        for kind in _STATES[first.state]:
            entry: dict[str, object] = dict.fromkeys(ENTRY_FIELDS) | {
                "sequence": len(journal) + 1,
                "time": time,
                "kind": kind,
                "plan_hash": first.plan_hash,
                "round": first.round,
                "attempt": first.attempt,
                "previous": journal[-1]["hash"] if journal else GENESIS,
            }
            if kind == "charged":
                entry["cost_nano_rho"] = cost
                entry["epochs"] = EVERY_EPOCH
                entry["subjects"] = len(subjects)
                entry["digest"] = charges_digest((s, EVERY_EPOCH, cost) for s in subjects)
            journal.append({**entry, "hash": entry_hash(entry)})
    names = ", ".join((*ENTRY_FIELDS, "hash"))
    values = ", ".join(f":{name}" for name in (*ENTRY_FIELDS, "hash"))
    for statement, parameters in (
        (f"INSERT INTO journal ({names}) VALUES ({values})", journal),  # noqa: S608
        ("INSERT INTO charges VALUES (:a, :subject, :epoch, :cost)", charges),
        (
            "INSERT INTO budgets VALUES (:kind, :name, :subject, :spent)",
            [
                {"kind": kind, "name": name, "subject": subject, "spent": spent}
                for (kind, name, subject), spent in budgets.items()
            ],
        ),
    ):
        if parameters:
            connection.execute(sa.text(statement), parameters)
    op.drop_table("old_charges")
    op.drop_table("totals")


def _create_tables() -> None:
    op.create_table(
        "charges",
        sa.Column("attempt_id", _INT64, sa.ForeignKey("attempts.id"), primary_key=True),
        sa.Column("subject", _NAME, primary_key=True),
        sa.Column("epoch", _NAME, primary_key=True),
        sa.Column("cost_nano_rho", _INT64, nullable=False),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "budgets",
        sa.Column("kind", _NAME, primary_key=True),
        sa.Column("name", _NAME, primary_key=True),
        sa.Column("subject", _NAME, primary_key=True),
        sa.Column("spent_nano_rho", _INT64, nullable=False),
        sa.CheckConstraint("spent_nano_rho >= 0", name="spent_is_not_negative"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "journal",
        sa.Column("sequence", _INT64, primary_key=True, autoincrement=False),
        sa.Column("time", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("plan_hash", sa.Text),
        sa.Column("round", _INT64),
        sa.Column("attempt", _INT64),
        sa.Column("cost_nano_rho", _INT64),
        sa.Column("lifetime_cap_nano_rho", _INT64),
        sa.Column("epoch_cap_nano_rho", _INT64),
        sa.Column("campaign_cap_nano_rho", _INT64),
        sa.Column("epochs", sa.Text),
        sa.Column("subjects", _INT64),
        sa.Column("digest", sa.Text),
        sa.Column("previous", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "checkpoints",
        sa.Column("sequence", _INT64, sa.ForeignKey("journal.sequence"), primary_key=True),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("time", sa.Text, nullable=False),
        sa.Column("public_key", sa.Text, nullable=False),
        sa.Column("signature", sa.Text, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("charges_by_epoch", "charges", ["epoch", "subject"])
    op.create_index("journal_by_attempt", "journal", ["plan_hash", "round", "attempt"])
