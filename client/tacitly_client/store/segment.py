"""One file of the store.

    header   magic (8) | key id (8) | sealed key (80)
    frame    length (4, little-endian) | AES-256-GCM(events as JSON lines, padded)
    frame    ...

A segment has a fresh random key, sealed to the store's public key (HPKE, RFC 9180: X25519,
HKDF-SHA256, AES-256-GCM), so whoever appends cannot read what other segments hold. A frame's
nonce and associated data are its number: frames cannot be exchanged, reordered or repeated, nor
moved to another segment, whose key is another. Line breaks fill it up to a multiple of 512 bytes,
so its length tells little of how much was typed. No nonce repeats: no key outlives its writer, and
a writer ends with its first failed write (what that left on the medium used the nonce already).

When the store's key is replaced, a segment's key is sealed anew and written over the old header,
which lies within one sector; the frames stay as they are, also under a writer's hands.

A damaged frame costs itself; a damaged length or a torn end costs the rest of that file.

Segments of the first version ("TACITLY1") bound their frames to the whole header, so they cannot
be sealed anew; they are read, to be written as ones of this version.
"""

import hashlib
import os
import secrets
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tacitly_client.files import sync_directory
from tacitly_common.errors import TacitlyError, ValidationError
from tacitly_common.events import Event, from_json_line, to_json_line

_MAGIC: Final = b"TACITLY2"
_FIRST_MAGIC: Final = b"TACITLY1"
_KEY_ID_BYTES: Final = 8
_SEALED_KEY_BYTES: Final = 80
_HEADER_BYTES: Final = len(_MAGIC) + _KEY_ID_BYTES + _SEALED_KEY_BYTES
_LENGTH: Final = struct.Struct("<I")
_MAX_FRAME_BYTES: Final = 16 * 2**20
_TAG_BYTES: Final = 16
_PAD_BYTES: Final = 512
_INFO: Final = b"tacitly event segment 1"
_SUITE: Final = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)

OpenKey = Callable[[bytes], X25519PrivateKey]


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
    return hashlib.sha256(public_key.public_bytes_raw()).digest()[:_KEY_ID_BYTES]


class SegmentWriter:
    """Appends frames to one new file of mode 0600. Each `append` is durable when it returns.

    After an error of `append` the writer must be closed and not be used again.
    """

    def __init__(self, path: Path, public_key: X25519PublicKey) -> None:
        key = secrets.token_bytes(32)
        self._aead = AESGCM(key)
        self._frames = 0
        self._path = path
        try:
            # Unbuffered: a failed write must leave nothing behind that close() would retry.
            self._file = os.fdopen(_new_private(path), "wb", buffering=0)
            self._write(_header(key, public_key))
        except OSError as error:
            path.unlink(missing_ok=True)
            raise write_error(path, error) from error
        sync_directory(path.parent)

    @property
    def size_bytes(self) -> int:
        """How long the file is."""
        return self._file.tell()

    def append(self, events: Sequence[Event]) -> bool:
        """Write one frame and wait until it is on the disk; False if the file was erased.

        Raises:
            StoreError: the disk is full or broken, or the frame would be longer than a reader
                accepts; the file is as it was before the call.
            ValidationError: an event that JSON cannot say.
        """
        plain = b"\n".join(to_json_line(event) for event in events)
        plain += b"\n" * (-len(plain) % _PAD_BYTES)
        if len(plain) + _TAG_BYTES > _MAX_FRAME_BYTES:
            raise StoreError(
                f"{self._path}: {len(events)} events of {len(plain)} bytes exceed a frame of "
                f"{_MAX_FRAME_BYTES} bytes and were not stored; leave the overlong ones out"
            )
        if os.fstat(self._file.fileno()).st_nlink == 0:
            return False
        sealed = self._aead.encrypt(_nonce(self._frames), plain, _aad(_MAGIC, self._frames))
        end = self._file.tell()
        try:
            self._write(_LENGTH.pack(len(sealed)) + sealed)
        except OSError as error:
            self._file.truncate(end)
            raise write_error(self._path, error) from error
        self._frames += 1
        return True

    def close(self) -> None:
        """Close the file; its key is gone with this object."""
        self._file.close()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        os.fdatasync(self._file.fileno())


def read_segment(
    path: Path, open_key: OpenKey, on_damage: Callable[[Damage], None]
) -> Iterator[Event]:
    """The events of one file in the order they were appended.

    `open_key` gives the private key of an id, and raises StoreError where it has none. Damage is
    handed to `on_damage` as it is met; reading goes on unless that raises.
    """
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
        if not header:
            return  # the writer was killed before its first byte
        aead = _open_header(path, header, open_key, on_damage)
        if aead is None:
            return
        bound = _MAGIC if header.startswith(_MAGIC) else header
        for frame, sealed in _frames(path, file, on_damage):
            try:
                plain = aead.decrypt(_nonce(frame), sealed, _aad(bound, frame))
                events = [from_json_line(line) for line in plain.rstrip(b"\n").split(b"\n")]
            except InvalidTag:
                on_damage(Damage(path, frame, "does not authenticate: changed or corrupt"))
            except ValidationError as error:
                on_damage(Damage(path, frame, str(error)))
            else:
                yield from events


def sealed_to(path: Path) -> bytes | None:
    """The id of the key that a segment is sealed to; None if its header cannot be read."""
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    return _named_key(header)


def seal_anew(path: Path, private_key: X25519PrivateKey, public_key: X25519PublicKey) -> bool:
    """Seal a segment's key to another public key, in place; durable on return.

    False if nothing was done: it is of the first version, or its header is corrupt.
    """
    with path.open("r+b", buffering=0) as file:
        header = file.read(_HEADER_BYTES)
        if not header.startswith(_MAGIC):
            return False
        try:
            key = _SUITE.decrypt(header[-_SEALED_KEY_BYTES:], private_key, info=_INFO)
        except InvalidTag:
            return False
        times = os.fstat(file.fileno())
        os.pwrite(file.fileno(), _header(key, public_key), 0)
        # When the person was at work last stays what orders segments by age.
        os.utime(file.fileno(), ns=(times.st_atime_ns, times.st_mtime_ns))
        os.fsync(file.fileno())
    return True


def fingerprints(path: Path) -> Iterator[bytes]:
    """Eight bytes of the sealed key and of each frame's ciphertext, to find copies by."""
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
        if len(header) == _HEADER_BYTES:
            yield header[-_SEALED_KEY_BYTES:][:8]
        for _, sealed in _frames(path, file, lambda _damage: None):
            yield sealed[:8]


def _header(key: bytes, public_key: X25519PublicKey) -> bytes:
    return _MAGIC + key_id(public_key) + _SUITE.encrypt(key, public_key, info=_INFO)


def _named_key(header: bytes) -> bytes | None:
    if len(header) < _HEADER_BYTES or not header.startswith((_MAGIC, _FIRST_MAGIC)):
        return None
    return header[len(_MAGIC) :][:_KEY_ID_BYTES]


def _open_header(
    path: Path, header: bytes, open_key: OpenKey, on_damage: Callable[[Damage], None]
) -> AESGCM | None:
    named = _named_key(header)
    if named is None:
        on_damage(Damage(path, 0, "not a segment of this version, or its header is cut off"))
        return None
    private_key = open_key(named)
    try:
        return AESGCM(_SUITE.decrypt(header[-_SEALED_KEY_BYTES:], private_key, info=_INFO))
    except InvalidTag:
        on_damage(Damage(path, 0, "its sealed key is corrupt"))
        return None


def _frames(
    path: Path, file: BinaryIO, on_damage: Callable[[Damage], None]
) -> Iterator[tuple[int, bytes]]:
    """Each frame's number and ciphertext, as far as they can be found."""
    frame = 0
    while prefix := file.read(_LENGTH.size):
        length = int(_LENGTH.unpack(prefix)[0]) if len(prefix) == _LENGTH.size else 0
        sealed = file.read(length) if 0 < length <= _MAX_FRAME_BYTES else b""
        if not sealed or len(sealed) < length:
            on_damage(Damage(path, frame, "cut off here; the rest of this file is unreadable"))
            return
        yield frame, sealed
        frame += 1


def _nonce(frame: int) -> bytes:
    return frame.to_bytes(12, "big")


def _aad(bound: bytes, frame: int) -> bytes:
    return bound + frame.to_bytes(8, "big")


def write_error(path: Path, error: OSError) -> StoreError:
    """What is said of events that could not be written."""
    return StoreError(
        f"{path}: {error.strerror}; the events of this call were not stored, earlier ones are. "
        "Free some space and go on"
    )


def _new_private(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
