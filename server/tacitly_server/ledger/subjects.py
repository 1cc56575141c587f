"""Which subject (person) each of Flower's nodes belongs to.

A subject is named by an HMAC of a stable identifier under the server's secret, never by
Flower's node id: a device that registers anew gets another node id but keeps its budget.
"""

import hashlib
import hmac
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import Connection, insert, select

from tacitly_common.errors import LedgerError, ValidationError
from tacitly_common.validation import sha256_hex
from tacitly_server.ledger.database import open_database, reading, writing
from tacitly_server.ledger.tables import NODES

_MIN_SECRET_BYTES = 16


def subject_name(secret: bytes, person_id: str) -> str:
    """HMAC-SHA256 of the identifier under the enrolment secret: 64 hex digits.

    Raises:
        ValidationError: a secret that can be guessed, or an empty identifier.
    """
    if len(secret) < _MIN_SECRET_BYTES:
        raise ValidationError(
            f"the subject secret has {len(secret)} bytes; use at least {_MIN_SECRET_BYTES}"
        )
    if not person_id:
        raise ValidationError("person_id is empty; give the person's stable identifier")
    return hmac.new(secret, person_id.encode(), hashlib.sha256).hexdigest()


class Subjects:
    """The register of nodes, in the population database. Close it, or use it in a `with` block."""

    def __init__(self, where: Path | str) -> None:
        self._engine = open_database(where)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the database."""
        self._engine.dispose()

    def enrol(self, node_id: int, public_key_fingerprint: str, subject: str) -> None:
        """`bind` in a transaction of its own.

        Raises:
            LedgerError, ValidationError: as `bind`.
        """
        with writing(self._engine) as connection:
            bind(connection, node_id, public_key_fingerprint, subject)

    def enrolled(self) -> dict[int, str]:
        """Every enrolled node and its subject."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(NODES.c.node_id, NODES.c.subject))
            return {int(row.node_id): row.subject for row in rows}


def bind(connection: Connection, node_id: int, public_key_fingerprint: str, subject: str) -> None:
    """Bind a node and its key to a subject, for good. The same binding again is no error.

    A subject may have several nodes, and a key several node ids (registered anew).

    Raises:
        LedgerError: the node or the key belongs to another subject: moving it would give
            its owner a fresh budget.
        ValidationError: `subject` is not what `subject_name` makes.
    """
    sha256_hex(subject=subject)
    known = connection.execute(
        select(NODES.c.node_id, NODES.c.public_key_fingerprint, NODES.c.subject).where(
            (NODES.c.node_id == str(node_id))
            | (NODES.c.public_key_fingerprint == public_key_fingerprint)
        )
    ).all()
    if any(row.subject != subject for row in known):
        raise LedgerError(
            f"node {node_id} or its key is enrolled for another subject; "
            "enrol the device with a new key"
        )
    for row in known:
        if row.node_id == str(node_id):
            if row.public_key_fingerprint == public_key_fingerprint:
                return
            raise LedgerError(f"node {node_id} is enrolled with another key")
    connection.execute(
        insert(NODES).values(
            node_id=str(node_id),
            public_key_fingerprint=public_key_fingerprint,
            subject=subject,
        )
    )
