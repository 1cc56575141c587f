"""How long to wait when the server cannot be used, and how to wait through a laptop's sleep.

No trouble ends the agent: each has a ceiling that doubles up to a cap, and the wait is drawn
evenly below it ("full jitter"), so that thousands of devices do not come back in one second.

| trouble | comes from | first ceiling | cap |
|---|---|---|---|
| STILL_ONLINE | 412: an unclean restart; the server waits for two heartbeats | 5 s | 60 s |
| UNAUTHENTICATED | 401: unknown key, or the clock and the Date header both wrong | 5 s | 900 s |
| FORBIDDEN | 403 that is not Flower's own: a filter on the way | 5 s | 900 s |
| PROXY | 407, or a proxy that does not answer | 10 s | 900 s |
| THROTTLED | 429: at least what Retry-After asks, at most an hour | 5 s | 900 s |
| SERVER | 5xx | 2 s | 60 s |
| TRANSPORT | no connection, reset, timeout | 1 s | 60 s |
| TLS | the certificate does not verify: a person must act | 30 s | 3600 s |
| PENDING | the server announced an object it does not have yet | 0.2 s | 2 s |
| PROTOCOL | an answer that is not the protocol's | 5 s | 900 s |
| UNKNOWN | an exception nobody foresaw | 5 s | 900 s |
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

_LONGEST_RETRY_AFTER_SECONDS: Final = 3_600.0
# Below this a draw of the jitter would be a busy loop.
_SHORTEST_WAIT_SECONDS: Final = 0.1
# A wait is cut into slices: the kernel's timeout stands still while the machine sleeps.
_SLICE_SECONDS: Final = 10.0
# A slice that took so much longer than asked for means that the machine slept.
_SLEPT_SECONDS: Final = 30.0


class Trouble(Enum):
    """Why the server could not be used."""

    STILL_ONLINE = auto()
    UNAUTHENTICATED = auto()
    FORBIDDEN = auto()
    PROXY = auto()
    THROTTLED = auto()
    SERVER = auto()
    TRANSPORT = auto()
    TLS = auto()
    PENDING = auto()
    PROTOCOL = auto()
    UNKNOWN = auto()


_FIRST_AND_CAP_SECONDS: Final = {
    Trouble.STILL_ONLINE: (5.0, 60.0),
    Trouble.UNAUTHENTICATED: (5.0, 900.0),
    Trouble.FORBIDDEN: (5.0, 900.0),
    Trouble.PROXY: (10.0, 900.0),
    Trouble.THROTTLED: (5.0, 900.0),
    Trouble.SERVER: (2.0, 60.0),
    Trouble.TRANSPORT: (1.0, 60.0),
    Trouble.TLS: (30.0, 3_600.0),
    Trouble.PENDING: (0.2, 2.0),
    Trouble.PROTOCOL: (5.0, 900.0),
    Trouble.UNKNOWN: (5.0, 900.0),
}


class Backoff:
    """Counts failures of each kind since the last success and says how long to wait after one.

    Of each kind: a minute without network must not make the first refusal after it look like
    the tenth, and two kinds in turn still grow.

    `uniform(a, b)` draws evenly from [a, b].
    """

    def __init__(self, uniform: Callable[[float, float], float]) -> None:
        self._uniform = uniform
        self._failures: Counter[Trouble] = Counter()

    def wait_after(self, trouble: Trouble, retry_after_seconds: float | None = None) -> float:
        """Seconds to wait after one more failure."""
        first, cap = _FIRST_AND_CAP_SECONDS[trouble]
        # 2^30 x the smallest first ceiling is beyond every cap; larger powers would overflow.
        ceiling = min(cap, first * 2.0 ** min(self._failures[trouble], 30))
        self._failures[trouble] += 1
        asked = min(max(retry_after_seconds or 0.0, 0.0), _LONGEST_RETRY_AFTER_SECONDS)
        return max(_SHORTEST_WAIT_SECONDS, asked + self._uniform(0.0, ceiling))

    def reset(self) -> None:
        """The server answered, or the machine woke up somewhere else: start again small."""
        self._failures.clear()


class Wake(Enum):
    """Why a wait ended."""

    ELAPSED = auto()
    STOPPED = auto()
    RESUMED = auto()


class Pause:
    """Waiting that a stop ends at once and that notices when the machine slept.

    `elapsed` must count the time asleep; `wait(seconds)` returns True if the agent is to stop.
    """

    def __init__(
        self, wait: Callable[[float], bool], elapsed: Callable[[], float] | None = None
    ) -> None:
        self._wait = wait
        self._elapsed = elapsed or seconds_since_boot

    @classmethod
    def on(cls, stop: threading.Event) -> "Pause":
        """A pause that setting `stop` ends."""
        return cls(stop.wait)

    def for_seconds(self, seconds: float) -> Wake:
        """Wait; return early if stopped, or if the machine was asleep meanwhile."""
        now = self._elapsed()
        end = now + seconds
        while now < end:
            asked = min(_SLICE_SECONDS, end - now)
            if self._wait(asked):
                return Wake.STOPPED
            before, now = now, self._elapsed()
            if now - before > asked + _SLEPT_SECONDS:
                return Wake.RESUMED
        return Wake.ELAPSED


def seconds_since_boot() -> float:
    """Seconds that only grow and count the time asleep (where the system has such a clock)."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()
