"""One-time tokens, the devices that they admitted, and charges found by person."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_INT64 = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """New tables, empty: devices that were registered before have no certificate to keep."""
    op.create_table(
        "invitations",
        sa.Column("token_hash", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("expires_unix_seconds", _INT64, nullable=False),
        sa.Column("keys_digest", sa.Text),
        sqlite_strict=True,
    )
    op.create_table(
        "devices",
        sa.Column("node_id", sa.Text, sa.ForeignKey("nodes.node_id"), primary_key=True),
        sa.Column(
            "token_hash",
            sa.Text,
            sa.ForeignKey("invitations.token_hash"),
            nullable=False,
            unique=True,
        ),
        sa.Column("device_key", sa.Text, nullable=False, unique=True),
        sa.Column("certificate", sa.LargeBinary, nullable=False),
        sa.Column("ended", sa.Text),
        sa.Column("attempts", _INT64, nullable=False),
        sa.Column("ledger_head", sa.Text, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("charges_by_subject", "charges", ["subject"])
