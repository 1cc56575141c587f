"""What a process does, for whoever shows it: one small file, replaced when it changes.

The process that wrote it holds a lock on it, and the kernel lets go of that however the process
ends: what a killed one left is no state.
"""

import fcntl
import os
from pathlib import Path
from typing import TypeVar

import msgspec

from tacitly_common.errors import UNDECODABLE

_State = TypeVar("_State", bound=msgspec.Struct)


class LiveFile:
    """Shows states as long as this process lives."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._shown: int | None = None  # the descriptor whose lock says that we live

    def show(self, state: msgspec.Struct) -> None:
        """Replace the state that is shown."""
        new = self._path.with_name(self._path.name + ".new")
        new.unlink(missing_ok=True)
        # Not inherited: a child that outlives this process would keep the lock.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(new, flags, 0o600)
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


def read_live(path: Path, kind: type[_State]) -> _State | None:
    """What the living process shows; None if there is none, or it shows something else."""
    try:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return msgspec.json.decode(file.read(), type=kind)
    except (OSError, *UNDECODABLE):
        pass
    return None
