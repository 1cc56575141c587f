"""The witness: a file outside the database that remembers what was journaled.

A backup that is put back would give everybody the budget that they spent since, and attempts the
names of others. Therefore each entry of the journal, after it is committed and before anything is
done upon it, leaves a line here: a signed checkpoint, the entry, and the subjects that it charged.
A ledger that does not hold the last line's entry is an older copy, or another one, and nothing
may be written to it until `tacitly_server.ledger.backup.reconcile` has made up for what it lacks.

    line = canonical JSON of {"checkpoint": ..., "entry": ..., "subjects": [...]}

A line that a crash tore is of an entry that nobody acted on; the next writer cuts it off and
writes it whole. The file belongs on another disk than the database, and is never rotated: it is
what a restore is checked against.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, Engine, func, insert, select

from tacitly_common.errors import UNDECODABLE, LedgerError, ValidationError
from tacitly_common.verify_ledger import (
    GENESIS,
    canonical,
    charges_digest,
    checkpoint_message,
    checkpoint_problem,
    entry_hash,
)
from tacitly_server.ledger.database import reading
from tacitly_server.ledger.journal import Kind, timestamp
from tacitly_server.ledger.tables import ATTEMPTS, CHARGES, CHECKPOINTS, JOURNAL
from tacitly_server.private_files import read_private, sync_directory, write_private

_BLOCK_BYTES: Final = 1 << 20
_KEY_BYTES: Final = 32


class SignedCheckpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The journal's head at a moment, signed by the server's ledger key. Hex digits."""

    sequence: int
    hash: str
    time: str
    public_key: str
    signature: str


class WitnessLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A witnessed entry; `subjects` are those that it charged, if it is a charge.

    The first line is of sequence 0, before any entry, and has none.
    """

    checkpoint: SignedCheckpoint
    entry: dict[str, str | int | None]
    subjects: tuple[str, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Witness:
    """The file and the key that signs. See the module."""

    path: Path
    key: Ed25519PrivateKey

    @classmethod
    def open(cls, path: Path, key_file: Path) -> Self:
        """The witness at `path`, with the key that `create_key` made.

        Raises:
            ValidationError: no key there, or one that others can read.
        """
        secret = read_private(key_file)
        if len(secret) != _KEY_BYTES:
            raise ValidationError(f"{key_file} has {len(secret)} bytes, not {_KEY_BYTES}")
        return cls(path, Ed25519PrivateKey.from_private_bytes(secret))

    @property
    def public_key(self) -> str:
        """64 hex digits: what auditors get."""
        return self.key.public_key().public_bytes_raw().hex()

    def check(self, connection: Connection) -> None:
        """Pass if the ledger holds the last witnessed entry. A new ledger begins a new file.

        Raises:
            LedgerError: it does not, or the witness is gone or damaged.
        """
        last = self.last()
        self._compare(connection, last)
        if last is None:
            with self._locked() as descriptor:
                if _tail(descriptor)[0] is None:
                    self._append(descriptor, [self._first_line()])

    def sign(self, connection: Connection, now: datetime) -> None:
        """A checkpoint, in the database, for every entry that has none; the journal is locked."""
        signed = connection.execute(select(func.max(CHECKPOINTS.c.sequence))).scalar() or 0
        entries = connection.execute(
            select(JOURNAL.c.sequence, JOURNAL.c.hash).where(JOURNAL.c.sequence > signed)
        ).all()
        time = timestamp(now)
        for sequence, head in entries:
            connection.execute(insert(CHECKPOINTS).values(**self._signed(sequence, head, time)))

    def catch_up(self, engine: Engine) -> None:
        """Witness every committed checkpoint after the last witnessed one. Durable on return.

        Raises:
            LedgerError: as `check`, or the file cannot be written.
        """
        with self._locked() as descriptor, reading(engine) as connection:
            line, _ = _tail(descriptor)
            last = None if line is None else _parse(line, self.path)
            self._compare(connection, last)
            if last is None:
                self._append(descriptor, [self._first_line()])
            else:
                self._append(descriptor, _unwitnessed(connection, last.checkpoint.sequence))

    def start_anew(self, engine: Engine) -> None:
        """After a reconciliation: witness its checkpoint; in an empty file every checkpoint."""
        with self._locked() as descriptor, reading(engine) as connection:
            newest = connection.execute(select(func.max(CHECKPOINTS.c.sequence))).scalar() or 0
            line, _ = _tail(descriptor)
            self._append(descriptor, _unwitnessed(connection, newest - 1 if line else 0))

    def last(self) -> WitnessLine | None:
        """The last whole line, or None if there is none."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LedgerError(f"{self.path}: {error.strerror}; make it readable") from error
        try:
            line, _ = _tail(descriptor)
        finally:
            os.close(descriptor)
        return None if line is None else _parse(line, self.path)

    def lines(self) -> Iterator[WitnessLine]:
        """Every whole line, checked: signature, entry and subjects belong together.

        Raises:
            LedgerError: a line is damaged, or signed by another key; names it.
        """
        with self.path.open("rb") as file:
            for number, text in enumerate(file, start=1):
                if not text.endswith(b"\n"):
                    return
                line = _parse(text, self.path, number)
                if problem := _line_problem(line, self.public_key):
                    raise LedgerError(f"{self.path} line {number}: {problem}; restore the file")
                yield line

    def _compare(self, connection: Connection, last: WitnessLine | None) -> None:
        if last is None:
            signed = connection.execute(select(func.max(CHECKPOINTS.c.sequence))).scalar()
            if signed is not None:
                raise LedgerError(
                    f"{self.path} is missing or empty, but the ledger was witnessed up to entry "
                    f"{signed}; put it back, or run `tacitly-server ledger reconcile "
                    "--witness-lost` if this ledger is the newest"
                )
            return
        if not holds(connection, last.checkpoint):
            raise LedgerError(
                f"the ledger lacks entry {last.checkpoint.sequence}, which {self.path} witnessed: "
                "it is an older copy; put the newest one back, or run `tacitly-server ledger "
                "reconcile`, which charges the gap"
            )

    def _signed(self, sequence: int, head: str, time: str) -> dict[str, str | int]:
        signature = self.key.sign(checkpoint_message(sequence, head, time)).hex()
        return {
            "sequence": sequence,
            "hash": head,
            "time": time,
            "public_key": self.public_key,
            "signature": signature,
        }

    def _first_line(self) -> bytes:
        """Of no entry yet. A file with it alone may miss a charge; one without it was lost."""
        checkpoint = self._signed(0, GENESIS, "")
        return canonical({"checkpoint": checkpoint, "entry": {}, "subjects": []}) + b"\n"

    @contextmanager
    def _locked(self) -> Iterator[int]:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            descriptor = os.open(self.path, flags, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield descriptor
            finally:
                os.close(descriptor)
        except OSError as error:
            raise LedgerError(
                f"{self.path}: {error.strerror}; the witness must be writable"
            ) from error

    def _append(self, descriptor: int, lines: list[bytes]) -> None:
        if not lines:
            return
        _, whole = _tail(descriptor)
        os.ftruncate(descriptor, whole)
        data = memoryview(b"".join(lines))
        while data:
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
        if whole == 0:
            sync_directory(self.path.parent)


def create_key(key_file: Path) -> None:
    """A new signing key, in a file that only its owner can read."""
    write_private(key_file, Ed25519PrivateKey.generate().private_bytes_raw())


def holds(connection: Connection, checkpoint: SignedCheckpoint) -> bool:
    """Whether the journal has the entry of this checkpoint, and so everything before it."""
    if checkpoint.sequence == 0:
        return checkpoint.hash == GENESIS
    entry = select(JOURNAL.c.hash).where(JOURNAL.c.sequence == checkpoint.sequence)
    return bool(connection.execute(entry).scalar_one_or_none() == checkpoint.hash)


def _unwitnessed(connection: Connection, after: int) -> list[bytes]:
    checkpoints = connection.execute(
        select(CHECKPOINTS).where(CHECKPOINTS.c.sequence > after).order_by(CHECKPOINTS.c.sequence)
    ).mappings()
    lines = []
    for checkpoint in checkpoints.all():
        found = connection.execute(
            select(JOURNAL).where(JOURNAL.c.sequence == checkpoint["sequence"])
        ).mappings()
        entry: dict[str, Any] = dict(found.one())
        entry.pop("hash")
        subjects: list[str] = []
        if entry["kind"] == Kind.CHARGED:
            charged = (
                select(CHARGES.c.subject)
                .join(ATTEMPTS, ATTEMPTS.c.id == CHARGES.c.attempt_id)
                .where(ATTEMPTS.c.plan_hash == entry["plan_hash"])
                .where(ATTEMPTS.c.round == entry["round"], ATTEMPTS.c.attempt == entry["attempt"])
                .where(CHARGES.c.epoch == entry["epochs"].split(",")[0])
                .order_by(CHARGES.c.subject)
            )
            subjects = list(connection.execute(charged).scalars())
        line = {"checkpoint": dict(checkpoint), "entry": entry, "subjects": subjects}
        lines.append(canonical(line) + b"\n")
    return lines


def _line_problem(line: WitnessLine, public_key: str) -> str | None:
    checkpoint, entry = msgspec.structs.asdict(line.checkpoint), line.entry
    if problem := checkpoint_problem(checkpoint, [public_key]):
        return problem
    try:
        if checkpoint["sequence"] == 0:
            return None
        if entry_hash(entry) != checkpoint["hash"]:
            return "its entry is not that of its checkpoint"
        if entry["kind"] != Kind.CHARGED:
            return None
        epochs, cost = str(entry["epochs"]).split(","), int(entry["cost_nano_rho"] or 0)
    except (KeyError, ValueError):
        return "its entry lacks a field"
    rows = ((subject, epoch, cost) for subject in line.subjects for epoch in epochs)
    return None if charges_digest(rows) == entry["digest"] else "its subjects are not the entry's"


def _parse(line: bytes, path: Path, number: int | None = None) -> WitnessLine:
    try:
        return msgspec.json.decode(line, type=WitnessLine)
    except UNDECODABLE as error:
        place = "last line" if number is None else f"line {number}"
        raise LedgerError(f"{path}: {place}: {error}; restore the file") from error


def _tail(descriptor: int) -> tuple[bytes | None, int]:
    """The last line that is whole, and the byte after it."""
    start = os.fstat(descriptor).st_size
    data = b""
    while start > 0:
        end, start = start, max(0, start - _BLOCK_BYTES)
        data = os.pread(descriptor, end - start, start) + data
        whole = data.rfind(b"\n")
        before = data.rfind(b"\n", 0, whole) if whole >= 0 else -1
        if before >= 0 or (start == 0 and whole >= 0):
            return data[before + 1 : whole], start + whole + 1
    return None, 0
