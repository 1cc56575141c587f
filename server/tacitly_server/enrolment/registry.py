"""Tokens and devices in the population database: who may enrol, who has, and who has left.

A token is known by its SHA-256 alone. The first device that uses it claims it: the token then
admits those keys and no others, so that the same request again gets the same answer however
often a crash, or the network, loses it.

    claim    the token and these keys belong together         before anything is registered
    admit    node, subject and certificate, all or nothing    after
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Row, func, insert, select, update

from tacitly_common.errors import LedgerError
from tacitly_common.wire.desk_errors import DeskConflictError, DeskNotAuthorisedError
from tacitly_server.ledger.database import open_database, reading, writing
from tacitly_server.ledger.subjects import bind
from tacitly_server.ledger.tables import CHARGES, DEVICES, INVITATIONS, NODES


class Ending(StrEnum):
    """Why a device is no longer enrolled."""

    WITHDRAWN = "withdrawn"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Keys:
    """The public keys of a device that asks to enrol: Flower's by its fingerprint, and its own."""

    node_fingerprint: str
    device_key: str

    @property
    def digest(self) -> str:
        """SHA-256, hex, of both."""
        return hashlib.sha256(f"{self.node_fingerprint} {self.device_key}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Admitted:
    """A device that is enrolled."""

    node_id: int
    certificate: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """A token in the hands of its device; `admitted` if that is enrolled already."""

    subject: str
    admitted: Admitted | None


@dataclass(frozen=True, slots=True)
class Enrolled:
    """An enrolled device: whose it is, and the attempts that it last said it paid for."""

    node_id: int
    subject: str
    device_key: str
    ended: Ending | None
    attempts: int


def token_hash(token: str) -> str:
    """How a token is stored."""
    return hashlib.sha256(token.encode()).hexdigest()


class Registry:
    """The registry in the database at a path or URL. Close it, or use it in a `with` block."""

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

    def invite(self, token: str, subject: str, *, expires: datetime) -> None:
        """Let one device enrol for a subject. Durable on return."""
        with writing(self._engine) as connection:
            connection.execute(
                insert(INVITATIONS).values(
                    token_hash=token_hash(token),
                    subject=subject,
                    expires_unix_seconds=int(expires.timestamp()),
                )
            )

    def claim(self, token: str, keys: Keys, *, now: datetime) -> Claim:
        """Give a token to these keys, for good. The same keys again get the same answer.

        Raises:
            DeskNotAuthorisedError: the token is unknown, has expired or is another device's, or
                the device has left.
            DeskConflictError: one of the keys was enrolled before, with another token.
        """
        # Who has no token does not get the write lock, for which rounds wait.
        with reading(self._engine) as connection:
            _check_claim(connection, token, keys, now)
        with writing(self._engine) as connection:
            invitation, admitted = _check_claim(connection, token, keys, now, lock=True)
            connection.execute(
                update(INVITATIONS)
                .where(INVITATIONS.c.token_hash == invitation.token_hash)
                .values(keys_digest=keys.digest)
            )
        return Claim(invitation.subject, admitted)

    def admit(
        self, token: str, keys: Keys, node_id: int, certificate: bytes, *, now: datetime
    ) -> Admitted:
        """Enrol the node that a claimed token's keys were registered as. Durable on return.

        Of two that try at once the first is kept, and both get it.

        Raises:
            DeskNotAuthorisedError, DeskConflictError: as `claim`.
        """
        with writing(self._engine) as connection:
            invitation, admitted = _check_claim(connection, token, keys, now, lock=True)
            if admitted is not None:
                return admitted
            bind(connection, node_id, keys.node_fingerprint, invitation.subject)
            connection.execute(
                insert(DEVICES).values(
                    node_id=str(node_id),
                    token_hash=invitation.token_hash,
                    device_key=keys.device_key,
                    certificate=certificate,
                    attempts=0,
                    ledger_head="",
                )
            )
        return Admitted(node_id, certificate)

    def device(self, node_id: int) -> Enrolled | None:
        """A device that was enrolled, also one that has left."""
        with reading(self._engine) as connection:
            row = connection.execute(
                select(DEVICES, NODES.c.subject)
                .join(NODES, NODES.c.node_id == DEVICES.c.node_id)
                .where(DEVICES.c.node_id == str(node_id))
            ).one_or_none()
        if row is None:
            return None
        ended = None if row.ended is None else _ending(row.ended)
        return Enrolled(node_id, row.subject, row.device_key, ended, row.attempts)

    def attempts_charged(self, subject: str) -> int:
        """For how many attempts the population ledger has charged a subject, ever."""
        with reading(self._engine) as connection:
            return connection.execute(
                select(func.count(CHARGES.c.attempt_id.distinct())).where(
                    CHARGES.c.subject == subject
                )
            ).scalar_one()

    def report(self, node_id: int, *, attempts: int, ledger_head: str) -> None:
        """Keep what a device says of its ledger."""
        with writing(self._engine) as connection:
            connection.execute(
                update(DEVICES)
                .where(DEVICES.c.node_id == str(node_id))
                .values(attempts=attempts, ledger_head=ledger_head)
            )

    def end(self, node_id: int, ending: Ending) -> None:
        """Let a device be enrolled no longer. How it ended first is kept. Durable on return."""
        with writing(self._engine) as connection:
            connection.execute(
                update(DEVICES)
                .where(DEVICES.c.node_id == str(node_id), DEVICES.c.ended.is_(None))
                .values(ended=ending)
            )


def _check_claim(
    connection: Connection, token: str, keys: Keys, now: datetime, *, lock: bool = False
) -> tuple[Row[Any], Admitted | None]:
    """The invitation, which these keys may use, and the device that they enrolled."""
    query = select(INVITATIONS).where(INVITATIONS.c.token_hash == token_hash(token))
    if lock:
        query = query.with_for_update()
    invitation = connection.execute(query).one_or_none()
    if invitation is None:
        raise DeskNotAuthorisedError(
            "the token is not one of this server's; ask for a new invitation"
        )
    expires = datetime.fromtimestamp(invitation.expires_unix_seconds, UTC)
    if now >= expires:
        raise DeskNotAuthorisedError(
            f"the invitation expired on {expires:%Y-%m-%d %H:%M} UTC; ask for a new one"
        )
    if invitation.keys_digest not in {None, keys.digest}:
        raise DeskNotAuthorisedError(
            "the invitation was used with other keys; ask for a new one, and tell the operator if "
            "it was not you"
        )
    device = connection.execute(
        select(DEVICES).where(DEVICES.c.token_hash == invitation.token_hash)
    ).one_or_none()
    if device is not None:
        if device.ended is not None:
            raise DeskNotAuthorisedError(
                f"this device was {_ending(device.ended)}; ask for a new invitation"
            )
        return invitation, Admitted(int(device.node_id), device.certificate)
    used = (
        connection.execute(
            select(NODES.c.node_id).where(NODES.c.public_key_fingerprint == keys.node_fingerprint)
        ).first()
        or connection.execute(
            select(DEVICES.c.node_id).where(DEVICES.c.device_key == keys.device_key)
        ).first()
    )
    if used:
        raise DeskConflictError("one of the keys was enrolled before; make new ones")
    return invitation, None


def _ending(value: str) -> Ending:
    try:
        return Ending(value)
    except ValueError:
        raise LedgerError(
            f"the registry holds the ending {value!r}; use a Tacitly that knows it"
        ) from None
