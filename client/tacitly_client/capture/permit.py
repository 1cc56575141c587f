"""The permission to capture: without it not even a connection to the desktop is opened.

Capture asks its `Permit` after every read, before anything that was read is looked at. A
`PermitFile` is one that another process keeps up with a heartbeat: the tray, as long as it shows
that capture is on and the person's consent stands. Whatever is odd about the file is no permission.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from tacitly_client.capture.clock import Clock, boot_id
from tacitly_common.errors import UNDECODABLE

# A heart that beats each 0.2 s may miss two beats. What comes 0.7 s after the last sign of life is
# never looked at, and capture, which looks each half second at least, deselects soon after.
BEAT_SECONDS: Final = 0.2
_LONGEST_SILENCE_NS: Final = 700 * 10**6
_MOST_BYTES: Final = 1_024


class Permission(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is permitted.

    | field     | meaning                                                                     |
    |-----------|-----------------------------------------------------------------------------|
    | capturing | False: paused. Nothing is selected, the connection may stay                  |
    | since_ns  | monotonic time of the last change; input from before it does not count       |
    | motion    | whether the pointer's motion may be captured too                             |
    """

    capturing: bool
    since_ns: int
    motion: bool = False


Permit = Callable[[], Permission | None]


class _Beat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file: a permission, when it was last affirmed and since which start of the machine."""

    permission: Permission
    beat_ns: int
    boot: str


class PermitFile:
    """A permission in a file. The one process calls `beat`, the other the object itself."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._boot = boot_id()

    def beat(self, permission: Permission) -> None:
        """Affirm; to be called each `BEAT_SECONDS`."""
        beat = _Beat(permission, self._clock.monotonic_ns(), self._boot)
        new = self._path.with_name(self._path.name + ".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(beat))
        new.replace(self._path)

    def withdraw(self) -> None:
        """Permit nothing from now on."""
        self._path.unlink(missing_ok=True)

    def __call__(self) -> Permission | None:
        """The permission that stands; None if there is none, or no recent sign of life."""
        try:
            beat = self._read()
        except (OSError, *UNDECODABLE):
            return None
        if beat is None:
            return None
        silence_ns = self._clock.monotonic_ns() - beat.beat_ns
        alive = 0 <= silence_ns <= _LONGEST_SILENCE_NS and beat.boot == self._boot
        return beat.permission if alive else None

    def _read(self) -> _Beat | None:
        """The file; None if it is not ours. Read several times a second: without a file object,
        which costs as much again."""
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if not _is_ours(os.fstat(descriptor)):
                return None
            return msgspec.json.decode(os.read(descriptor, _MOST_BYTES), type=_Beat)
        finally:
            os.close(descriptor)


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
