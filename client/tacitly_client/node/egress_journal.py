"""What left this machine, one JSON line a message, readable by its owner only.

    {"time":...,"plan":...,"round":3,"attempt":0,"code":"OK","bytes":...,"sha256":...}    a reply
    {"time":...,"call":"refresh","bytes":...,"log_length":7,"attempts":3,"ledger_head":...}

A reply is what `egress.py` sealed; one in a phase of a masked attempt has its "phase", of which
UPLOAD alone holds an update. A call goes to the desk: enrol, refresh, model, withdraw;
a refresh also says how many attempts this device's ledger was charged for.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tacitly_common.errors import UNDECODABLE, TacitlyError
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.phases import Phase

if TYPE_CHECKING:
    from tacitly_client.node.egress import SealedReply
    from tacitly_common.wire.messages import Reply


class EgressError(TacitlyError):
    """A reply was not exactly what may leave; nothing was sent. Names the check, no value."""


class _Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of the journal. `bytes` were handed to the network, `sha256` is the payload's."""

    time: float
    plan: str
    round: int
    attempt: int
    code: str
    bytes: int
    sha256: str
    phase: str = ""

    @property
    def holds_update(self) -> bool:
        """Whether an update left, masked or not."""
        return self.code == ReplyCode.OK.name and self.phase in ("", Phase.UPLOAD.name)


class Call(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the desk is told, but for keys and signatures. `bytes` are the request's."""

    time: float
    call: str
    bytes: int
    plan: str | None = None
    log_length: int | None = None
    attempts: int | None = None
    ledger_head: str | None = None


class EgressJournal:
    """The journal's file. Safe with several processes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def record(self, plan_hash: str, reply: "Reply", sealed: "SealedReply", *, now: float) -> None:
        """Write a reply's line, durably, before it is sent. `now`: seconds since the epoch.

        Raises:
            EgressError: it cannot be written (a full disk): then nothing may be sent.
        """
        self._append(
            _Line(
                time=round(now, 3),
                plan=plan_hash,
                round=reply.round,
                attempt=reply.attempt,
                code=reply.code.name,
                bytes=sealed.size_bytes,
                sha256=sealed.payload_sha256,
                phase=reply.step.phase.name if reply.step else "",
            )
        )

    def record_call(self, call: Call) -> None:
        """Write the line of a call to the desk, durably, before it is made.

        Raises:
            EgressError: as `record`.
        """
        self._append(call)

    def answered(self, plan_hash: str) -> dict[int, int]:
        """The rounds of a plan that an update was sent for, and the highest attempt at each."""
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return {}
        answered: dict[int, int] = {}
        for line in map(_read_line, lines):
            if line is not None and line.plan == plan_hash and line.holds_update:
                answered[line.round] = max(line.attempt, answered.get(line.round, 0))
        return answered

    def _append(self, line: _Line | Call) -> None:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "rb+", buffering=0) as file:
                # A line that a power cut tore must not swallow this one.
                end = file.seek(0, os.SEEK_END)
                torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
                file.write(b"\n" * torn + msgspec.json.encode(line) + b"\n")
                os.fsync(descriptor)
        except OSError as error:
            raise EgressError(
                f"{self._path} cannot be written ({error.strerror}), so nothing was sent; "
                "make room or mend its permissions"
            ) from error


def _read_line(line: bytes) -> _Line | None:
    """A line of the journal, None if a power cut tore it."""
    try:
        return msgspec.json.decode(line, type=_Line)
    except UNDECODABLE:
        return None
