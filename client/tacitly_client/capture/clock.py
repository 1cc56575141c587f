"""The one clock of capture, injected wherever time matters."""

import time
from typing import Protocol


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
