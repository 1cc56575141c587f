"""What the capture process does, for whoever shows it."""

from enum import StrEnum
from pathlib import Path

import msgspec

from tacitly_client.live_file import read_live


class Doing(StrEnum):
    """What the capture process does."""

    NOTHING = "not running"
    NOT_PERMITTED = "not permitted"
    PAUSED = "paused"
    AWAY = "locked or suspended"
    CAPTURING = "capturing"
    NOT_RECEIVING = "not receiving"
    NOT_STORING = "capturing, but the store cannot be written"
    UNSUPPORTED = "not supported on this desktop"


class CaptureState(msgspec.Struct, frozen=True):
    """What, and in a sentence why if that is not plain. Holds no content."""

    doing: Doing
    reason: str = ""


def read_state(path: Path) -> CaptureState:
    """The present state."""
    return read_live(path, CaptureState) or CaptureState(Doing.NOTHING)
