"""What the capture process does, for whoever shows it: one small file, replaced when it changes.

The process that wrote it holds a lock on it, and the kernel lets go of that however the process
ends: what a killed one left is no state.
"""

import fcntl
import os
from enum import StrEnum
from pathlib import Path

import msgspec


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


class StateFile:
    """Shows states as long as this process lives."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._shown: int | None = None  # the descriptor whose lock says that we live

    def show(self, state: CaptureState) -> None:
        """Replace the state that is shown."""
        new = self._path.with_name(self._path.name + ".new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, msgspec.json.encode(state))
        new.replace(self._path)
        self.close()
        self._shown = descriptor

    def close(self) -> None:
        """Show nothing any more."""
        if self._shown is not None:
            os.close(self._shown)
            self._shown = None


def read_state(path: Path) -> CaptureState:
    """The present state."""
    try:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return msgspec.json.decode(file.read(), type=CaptureState)
    except (FileNotFoundError, msgspec.MsgspecError):
        pass
    return CaptureState(Doing.NOTHING)
