"""Subjects, attempts, charges of a whole subject, totals by plan."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_INT64 = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """The first schema."""
    op.create_table(
        "nodes",
        sa.Column("node_id", sa.Text, primary_key=True),
        sa.Column("public_key_fingerprint", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("nodes_by_key", "nodes", ["public_key_fingerprint"])
    op.create_table(
        "attempts",
        sa.Column("id", _INT64, primary_key=True),
        sa.Column("plan_hash", sa.Text, nullable=False),
        sa.Column("round", _INT64, nullable=False),
        sa.Column("attempt", _INT64, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("cost_nano_rho", _INT64, nullable=False),
        sa.UniqueConstraint("plan_hash", "round", "attempt"),
        sqlite_strict=True,
    )
    op.create_table(
        "charges",
        sa.Column("attempt_id", _INT64, sa.ForeignKey("attempts.id"), primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "totals",
        sa.Column("plan_hash", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("spent_nano_rho", _INT64, nullable=False),
        sa.CheckConstraint("spent_nano_rho >= 0"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index("totals_by_subject", "totals", ["subject"])
