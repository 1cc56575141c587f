"""The one clock of capture, injected wherever time matters."""

import time
from pathlib import Path
from typing import Final, Protocol

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """Two times: one that never goes back, one that says which day it is."""

    def monotonic_ns(self) -> int:
        """Nanoseconds that only grow, from an unknown start; the same for every process."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970-01-01 UTC, as far as this machine knows."""


class SystemClock:
    """This machine's."""

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        return time.time_ns()


def boot_id() -> str:
    """Which start of the machine this is; "" where that is not known.

    Monotonic times of two starts cannot be compared, but may look as if they could.
    """
    return _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""
