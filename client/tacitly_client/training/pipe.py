"""The frames between the node process and its trainer process, over one connection.

    node -> vault     TRAIN, once: then the connection is a trainer's (daemon/vault.py)
    trainer -> node   READY, once: it has loaded what it needs
    node -> trainer   Job:    which attempt, and the model as float32 bytes
    trainer -> node   Result: a reply code, and the update as int32 bytes if the code is OK

A frame is an 8-byte little-endian length of the header, the header as JSON, an 8-byte length
of the body, the body. Torch-free: the node imports it too. Each side bounds what it accepts.
"""

import struct
from typing import BinaryIO, Final, TypeVar

import msgspec

from tacitly_common.errors import UNDECODABLE, TacitlyError
from tacitly_common.wire.codes import ReplyCode

# A job that is in the pipe gets done, however late; so none is sent to who cannot begin yet.
READY: Final = b"R"
# What the vault is asked for: a trainer, or the ledger's report (which is JSON until the end).
TRAIN: Final = b"T"
REPORT: Final = b"L"

_LENGTH: Final = struct.Struct("<Q")
_MAX_HEADER_BYTES: Final = 4_096


class PipeError(TacitlyError):
    """The other process sent something that is not a frame, or ended in the middle of one."""


class Job(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Train one attempt. The body is the model, float32[parameters]."""

    plan_hash: str
    round: int
    attempt: int


class Result(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The answer to a job. The body is the update, int32[trainable_parameters], or empty.

    If the plan masks, it is uint32[trainable_parameters] in its field, not masked yet.
    """

    round: int
    attempt: int
    code: ReplyCode


Header = TypeVar("Header", Job, Result)


def write_frame(stream: BinaryIO, header: Job | Result, body: bytes) -> None:
    """Write and flush one frame."""
    encoded = msgspec.json.encode(header)
    stream.write(_LENGTH.pack(len(encoded)) + encoded + _LENGTH.pack(len(body)))
    stream.write(body)
    stream.flush()


def read_frame(
    stream: BinaryIO, header_type: type[Header], *, max_body_bytes: int
) -> tuple[Header, bytes] | None:
    """The next frame, or None if the stream ended before one began.

    Raises:
        PipeError: a length out of bounds, a malformed header, an end in the middle.
    """
    prefix = stream.read(_LENGTH.size)
    if not prefix:
        return None
    try:
        header = msgspec.json.decode(
            _read_exactly(stream, _length(prefix, _MAX_HEADER_BYTES)), type=header_type
        )
    except UNDECODABLE:
        raise PipeError("malformed frame header") from None
    length = _length(_read_exactly(stream, _LENGTH.size), max_body_bytes)
    return header, _read_exactly(stream, length)


def _length(prefix: bytes, limit: int) -> int:
    if len(prefix) != _LENGTH.size:
        raise PipeError("the stream ended inside a frame")
    length = int(_LENGTH.unpack(prefix)[0])
    if length > limit:
        raise PipeError(f"a frame part of {length} bytes exceeds the limit of {limit}")
    return length


def _read_exactly(stream: BinaryIO, length: int) -> bytes:
    data = stream.read(length)
    if len(data) != length:
        raise PipeError("the stream ended inside a frame")
    return data
