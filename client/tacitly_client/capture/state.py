"""What the capture process does, for whoever shows it: one small file, written when it changes.

A state counts only while the process holds its lock: after a kill the file is still there.
"""

import os
from enum import StrEnum

import msgspec

from tacitly_client.home import AgentHome
from tacitly_client.processes import is_running


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


def write_state(home: AgentHome, state: CaptureState) -> None:
    """Show a state."""
    new = home.capture_state.with_name(home.capture_state.name + ".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(state))
    new.replace(home.capture_state)


def read_state(home: AgentHome) -> CaptureState:
    """The present state."""
    if not is_running(home.capture_lock):
        return CaptureState(Doing.NOTHING)
    try:
        return msgspec.json.decode(home.capture_state.read_bytes(), type=CaptureState)
    except (OSError, msgspec.MsgspecError):
        return CaptureState(Doing.NOTHING, "its state file cannot be read")
