"""The officers' log on the server's disk: appended to, never changed.

A server that altered it would be found out by every device; this module only sees to it that an
honest one keeps it whole. One line an entry; what a crash tore is cut off before the next one.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tacitly_common.contract.acts import ConflictError, Entry, Genesis, parse_entry
from tacitly_common.contract.log import Contract, advance, read_log
from tacitly_common.errors import ValidationError
from tacitly_common.wire.codes import ReplyCode
from tacitly_server.private_files import sync_directory


@dataclass(frozen=True, slots=True)
class OfficersLog:
    """The log in one file. Safe with several processes."""

    path: Path

    def begin(self, first: Entry) -> Contract:
        """Write the first entry.

        Raises:
            ConflictError: there is a log already.
            ContractError: it is no genesis.
        """
        contract = advance(None, first)
        with self._locked() as descriptor:
            if _whole(descriptor):
                raise ConflictError(
                    ReplyCode.LOG_FORGED, f"{self.path} has begun already; it is never begun again"
                )
            _append(descriptor, first)
        sync_directory(self.path.parent)
        return contract

    def append(self, entry: Entry) -> Contract:
        """Append an entry that may follow; durable on return.

        Raises:
            ContractError: it may not; nothing was written.
            ValidationError: there is no log yet.
        """
        if isinstance(entry.statement.act, Genesis):
            raise ConflictError(ReplyCode.LOG_FORGED, "a log has one beginning")
        with self._locked() as descriptor:
            contract = advance(self._read(_whole(descriptor)), entry)
            _append(descriptor, entry)
        return contract

    def lines(self, first: int = 0) -> list[bytes]:
        """The entries from number `first` on, each in canonical JSON."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        return content[: content.rfind(b"\n") + 1].splitlines()[first:]

    def contract(self) -> Contract:
        """What the log amounts to.

        Raises:
            ValidationError: there is none yet.
            ContractError: the file was altered; the place.
        """
        return self._read(b"".join(line + b"\n" for line in self.lines()))

    def later(self, contract: Contract | None) -> Contract:
        """`contract` and what was appended since: whoever asks often checks each entry once.

        Raises:
            ValidationError: there is none yet.
            ContractError: what follows does not follow.
        """
        if contract is None:
            return self.contract()
        for line in self.lines(contract.length):
            contract = advance(contract, parse_entry(line))
        return contract

    def _read(self, content: bytes) -> Contract:
        if not content:
            raise ValidationError(
                f"{self.path} has no entry; run `tacitly-server contract begin` first"
            )
        return read_log(content.splitlines())

    @contextmanager
    def _locked(self) -> Iterator[int]:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


def _whole(descriptor: int) -> bytes:
    """The whole lines of an open log; what a crash tore after them is cut off."""
    content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    end = content.rfind(b"\n") + 1
    if end < len(content):
        os.ftruncate(descriptor, end)
    return content[:end]


def _append(descriptor: int, entry: Entry) -> None:
    line = entry.to_json() + b"\n"
    if os.write(descriptor, line) < len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(descriptor)
