"""What is published of every finished attempt: one JSON line, appended and synced.

A receipt counts; it names no device and no subject.
"""

import hashlib
import os
from decimal import Decimal
from enum import StrEnum
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from tacitly_common.errors import UNDECODABLE, TacitlyError
from tacitly_server.private_files import sync_directory


class ReceiptError(TacitlyError):
    """The file of receipts cannot be read or written."""


class Outcome(StrEnum):
    """How an attempt ended. Both cost every selected subject the same."""

    RELEASED = "released"
    LOST = "lost"


class Loss(StrEnum):
    """Why an attempt was lost."""

    TOO_FEW = "fewer usable answers than the minimum"
    NOT_PERMITTED = "the round was not permitted any more"
    CRASHED = "the process that ran it ended"


class PhaseTraffic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one phase of a masked attempt moved: how many devices answered it as agreed, and the
    bytes of payloads to and from all devices (`bytes_down` holds the model once a device).
    """

    answered: int
    bytes_down: int
    bytes_up: int


class AdaptedClip(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A simulated attempt's clip `norm` where the lab lets it adapt, and the noised share of
    updates `within` it, from which the next one follows. No deployed plan has it.
    """

    norm: float
    within: float


class Receipt(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """One attempt. `refusals` counts by the names of `Refusal`, `usable` whose updates are in it.

    `model_sha256` is the hash of the released float32 vector, None if nothing was released. An
    attempt that a crash ended has no answers, seconds or bytes: nobody lived to count them.
    `phases` and `groups` (how many were unmasked, of how many) are a masked attempt's.
    """

    plan_hash: str
    round: int
    attempt: int
    outcome: Outcome
    selected: int
    usable: int
    refusals: dict[str, int]
    noise_multiplier: Decimal
    cost_nano_rho: int
    model_sha256: str | None
    seconds: float
    bytes_up: int
    bytes_down: int = 0
    lost_because: Loss | None = None
    phases: dict[str, PhaseTraffic] = {}
    groups: int = 0
    groups_unmasked: int = 0
    clip: AdaptedClip | None = None


def model_sha256(model: NDArray[np.float32]) -> str:
    """SHA-256, hex, of the flat vector's little-endian float32 bytes."""
    return hashlib.sha256(model.astype("<f4", copy=False).tobytes()).hexdigest()


def append_receipt(path: Path, receipt: Receipt) -> None:
    """Append one line. Durable on return.

    Raises:
        ReceiptError: full disk, no permission.
    """
    line = msgspec.json.encode(receipt) + b"\n"
    try:
        first = not path.exists()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "ab") as stream:
            stream.write(line)
            stream.flush()  # all of it: one write to a disk that fills up may take a part
            os.fsync(stream.fileno())
        if first:
            sync_directory(path.parent)
    except OSError as error:
        raise ReceiptError(f"{path}: {error.strerror}") from error


def read_receipts(path: Path) -> list[Receipt]:
    """Every receipt, in order. A line without its end (a crash while writing) is left out.

    Raises:
        ReceiptError: a whole line that is no receipt; the message names the line.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ReceiptError(f"{path}: {error.strerror}") from error
    receipts = []
    for number, line in enumerate(lines, start=1):
        try:
            receipts.append(msgspec.json.decode(line, type=Receipt))
        except UNDECODABLE as error:
            raise ReceiptError(
                f"{path}, line {number}: {error}; restore the file from a backup or remove the line"
            ) from error
    return receipts


def cut_torn_line(path: Path) -> None:
    """Remove what a crash left after the last whole line, so that the next append starts anew."""
    if not path.exists():
        return
    with path.open("r+b") as stream:
        content = stream.read()
        stream.truncate(content.rfind(b"\n") + 1)
        os.fsync(stream.fileno())
