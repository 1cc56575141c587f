"""One file of the store.

    header   magic (8) | key id (8) | sealed key (80)
    frame    length (4, little-endian) | AES-256-GCM(events as JSON lines)
    frame    ...

A segment has a fresh random key, sealed to the store's public key (HPKE, RFC 9180: X25519,
HKDF-SHA256, AES-256-GCM), so whoever appends cannot read what other segments hold. A frame's
nonce is its number and its associated data the header and that number: frames cannot be
exchanged, reordered or repeated. No nonce repeats: no key outlives its writer, and a writer ends
with its first failed write (what a failed write left on the medium used that nonce already).

A damaged frame costs itself; a damaged length or a torn end costs the rest of that file.
"""

import fcntl
import hashlib
import os
import secrets
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tacitly_common.errors import TacitlyError, ValidationError
from tacitly_common.events import Event, from_json_line, to_json_line

_MAGIC: Final = b"TACITLY1"
_SEALED_KEY_BYTES: Final = 80
_HEADER_BYTES: Final = len(_MAGIC) + 8 + _SEALED_KEY_BYTES
_LENGTH: Final = struct.Struct("<I")
_MAX_FRAME_BYTES: Final = 16 * 2**20
_TAG_BYTES: Final = 16
_INFO: Final = b"tacitly event segment 1"
_SUITE: Final = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


class StoreError(TacitlyError):
    """The event store cannot be read or written. Never holds event content."""

    exit_code = 5


@dataclass(frozen=True, slots=True)
class Damage:
    """A part of a segment that cannot be read; everything else can."""

    segment: Path
    frame: int
    reason: str

    def __str__(self) -> str:
        return f"{self.segment}: frame {self.frame}: {self.reason}"


def key_id(public_key: X25519PublicKey) -> bytes:
    """Eight bytes that tell keys apart."""
    return hashlib.sha256(public_key.public_bytes_raw()).digest()[:8]


class SegmentWriter:
    """Appends frames to one new file. Each `append` is durable when it returns.

    After an error of `append` the writer must be closed and not be used again.
    """

    def __init__(self, path: Path, public_key: X25519PublicKey) -> None:
        key = secrets.token_bytes(32)
        sealed = _SUITE.encrypt(key, public_key, info=_INFO)
        self._header = _MAGIC + key_id(public_key) + sealed
        self._aead = AESGCM(key)
        self._frames = 0
        self._path = path
        try:
            # Unbuffered: a failed write must leave nothing behind that close() would retry.
            self._file = path.open("xb", buffering=0)
            self._write(self._header)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise _write_error(path, error) from error
        sync_directory(path.parent)

    def append(self, events: Sequence[Event]) -> bool:
        """Write one frame and wait until it is on the disk; False if the file was erased.

        Raises:
            StoreError: the disk is full or broken, or the frame would be longer than a reader
                accepts; the file is as it was before the call.
            ValidationError: an event that JSON cannot say.
        """
        plain = b"\n".join(to_json_line(event) for event in events)
        if len(plain) + _TAG_BYTES > _MAX_FRAME_BYTES:
            raise StoreError(
                f"{self._path}: {len(events)} events of {len(plain)} bytes exceed a frame of "
                f"{_MAX_FRAME_BYTES} bytes and were not stored; leave the overlong ones out"
            )
        # Held until the frame is written: an erasure by another process comes before or after.
        with locked(self._file):
            if os.fstat(self._file.fileno()).st_nlink == 0:
                return False
            self._append_frame(plain)
        return True

    def _append_frame(self, plain: bytes) -> None:
        sealed = self._aead.encrypt(_nonce(self._frames), plain, _aad(self._header, self._frames))
        end = self._file.tell()
        try:
            self._write(_LENGTH.pack(len(sealed)) + sealed)
        except OSError as error:
            self._file.truncate(end)
            raise _write_error(self._path, error) from error
        self._frames += 1

    def close(self) -> None:
        """Close the file; its key is gone with this object."""
        self._file.close()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        os.fdatasync(self._file.fileno())


def read_segment(
    path: Path, private_key: X25519PrivateKey, on_damage: Callable[[Damage], None]
) -> Iterator[Event]:
    """The events of one file in the order they were appended.

    Damage is handed to `on_damage` as it is met; reading goes on unless that raises.

    Raises:
        StoreError: the segment was sealed to another key.
    """
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
        if not header:
            return  # the writer was killed before its first byte
        aead = _open_header(path, header, private_key, on_damage)
        if aead is None:
            return
        frame = 0
        while sealed := _next_frame(path, file, frame, on_damage):
            try:
                plain = aead.decrypt(_nonce(frame), sealed, _aad(header, frame))
                events = [from_json_line(line) for line in plain.split(b"\n")]
            except InvalidTag:
                on_damage(Damage(path, frame, "does not authenticate: changed or corrupt"))
            except ValidationError as error:
                on_damage(Damage(path, frame, str(error)))
            else:
                yield from events
            frame += 1


def _open_header(
    path: Path,
    header: bytes,
    private_key: X25519PrivateKey,
    on_damage: Callable[[Damage], None],
) -> AESGCM | None:
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        on_damage(Damage(path, 0, "not a segment of this version, or its header is cut off"))
        return None
    named = header[len(_MAGIC) : len(_MAGIC) + 8]
    own = key_id(private_key.public_key())
    if named != own:
        raise StoreError(
            f"{path} is sealed to key {named.hex()}, not to this store's key {own.hex()}; "
            "put the right store.key back"
        )
    try:
        return AESGCM(_SUITE.decrypt(header[-_SEALED_KEY_BYTES:], private_key, info=_INFO))
    except InvalidTag:
        on_damage(Damage(path, 0, "its sealed key is corrupt"))
        return None


def _next_frame(
    path: Path, file: BinaryIO, frame: int, on_damage: Callable[[Damage], None]
) -> bytes | None:
    """The next frame's ciphertext; None at the end or where the rest cannot be found."""
    prefix = file.read(_LENGTH.size)
    if not prefix:
        return None
    if len(prefix) == _LENGTH.size:
        length = int(_LENGTH.unpack(prefix)[0])
        if 0 < length <= _MAX_FRAME_BYTES:
            sealed = file.read(length)
            if len(sealed) == length:
                return sealed
    on_damage(Damage(path, frame, "cut off here; the rest of this file is unreadable"))
    return None


def _nonce(frame: int) -> bytes:
    return frame.to_bytes(12, "big")


def _aad(header: bytes, frame: int) -> bytes:
    return header + frame.to_bytes(8, "big")


def _write_error(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{path}: {error.strerror}; the events of this call were not stored, earlier ones are. "
        "Free some space and go on"
    )


@contextmanager
def locked(file: BinaryIO | FileIO) -> Iterator[None]:
    """Hold the file for one process at a time: who appends a frame, and who erases."""
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def sync_directory(directory: Path) -> None:
    """Make the directory's new, renamed and removed names durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
