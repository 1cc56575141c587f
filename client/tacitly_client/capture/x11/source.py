"""The source for X11: keeps a `Listener` while it is started, and finds the server again.

Stopped, nothing is selected but the connection stays; closed, it is gone. A server that went away
(a restart, the end of a session) is looked for after 0.25 s, 0.5 s ... at most each 10 s.
"""

import time
from collections.abc import Callable
from typing import Final, TypeVar

from tacitly_client.capture.clock import Clock
from tacitly_client.capture.source import Anchor, Health, RawEvent
from tacitly_client.capture.x11.display import DisplayLostError
from tacitly_client.capture.x11.listener import Listener

TICK_SECONDS: Final = 0.05
_FIRST_RETRY_SECONDS: Final = 0.25
_LAST_RETRY_SECONDS: Final = 10.0
_T = TypeVar("_T")


class X11Source:
    """A `Source` for one display. Not for several threads."""

    def __init__(
        self, display: str, clock: Clock, *, motion: bool, tick_seconds: float = TICK_SECONDS
    ) -> None:
        """A source that has not connected yet.

        Args:
            display: as in DISPLAY.
            clock: ties the server's time to this process's.
            motion: whether to ask for the pointer's motion; without it none costs anything.
            tick_seconds: how long after the first event all that came meanwhile is read.
        """
        self._name = display
        self._clock = clock
        self._motion = motion
        self._tick_seconds = tick_seconds
        self._listener: Listener | None = None
        self._started = False
        self._retry_seconds = _FIRST_RETRY_SECONDS
        self._retry_ns = 0

    def start(self) -> None:
        if not self._started:
            self._started = True
            self._retry_seconds = _FIRST_RETRY_SECONDS
            self._guarded(self._listen)

    def stop(self) -> None:
        self._started = False
        if self._listener is not None:
            self._guarded(self._listener.stop)

    def poll(self, timeout_seconds: float) -> list[RawEvent]:
        if not self._started:
            return []
        if self._listener is not None:
            listener = self._listener
            return self._guarded(lambda: listener.poll(timeout_seconds, self._tick_seconds)) or []
        until_retry_seconds = (self._retry_ns - self._clock.monotonic_ns()) / 1e9
        time.sleep(max(min(until_retry_seconds, timeout_seconds), 0))
        if self._clock.monotonic_ns() >= self._retry_ns:
            self._guarded(self._listen)
        return []

    def anchor(self) -> Anchor:
        return Anchor(0, 0) if self._listener is None else self._listener.anchor

    def health(self) -> Health:
        if not self._started:
            return Health.STOPPED
        return Health.NOT_RECEIVING if self._listener is None else Health.RECEIVING

    def selected(self) -> int:
        """What the server says we have selected: an XInput2 event mask, 0 without a connection."""
        return 0 if self._listener is None else self._listener.display.selected()

    def close(self) -> None:
        self._started = False
        if self._listener is not None:
            self._listener.display.close()
            self._listener = None

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = Listener.connect(self._name, self._clock, motion=self._motion)
        self._listener.start()
        self._retry_seconds = _FIRST_RETRY_SECONDS

    def _guarded(self, action: Callable[[], _T]) -> _T | None:
        """The action's result; None if the server went away, which is tried again later."""
        try:
            return action()
        except DisplayLostError:
            if self._listener is not None:
                self._listener.display.close()
                self._listener = None
            self._retry_ns = self._clock.monotonic_ns() + round(self._retry_seconds * 1e9)
            self._retry_seconds = min(2 * self._retry_seconds, _LAST_RETRY_SECONDS)
            return None
