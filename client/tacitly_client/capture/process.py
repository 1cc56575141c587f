"""The capture process: from the desktop to sealed segments. It reads no store and has no network.

1. No permission: nothing is connected or selected. Look again soon.
2. Paused, or the person is away: deselected; what was held back is forgotten.
3. Otherwise read, and ask for the permission again: what was read counts only if it still
   stands, from the time on that it stands.
4. Normalise; the filter says what may be stored.
5. Store at 256 events or after five seconds, whichever is first. A kill loses no more.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from tacitly_client.capture.clock import Clock
from tacitly_client.capture.content import ContentFilter
from tacitly_client.capture.normaliser import Normaliser
from tacitly_client.capture.permit import Permission, Permit
from tacitly_client.capture.source import Health, Source, UnsupportedError
from tacitly_client.capture.state import CaptureState, Doing
from tacitly_client.store import EventStore, StoreError
from tacitly_common.events import Event

FRAME_EVENTS: Final = 256
FLUSH_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.25
# When nothing has come for so long that nothing is held back either, waking up is all that costs.
_IDLE_NS: Final = 10 * 10**9
_IDLE_LOOK_SECONDS: Final = 0.5

log = logging.getLogger(__name__)


class Writer:
    """Collects events for the store. What cannot be stored is dropped, never kept in memory."""

    def __init__(self, store: EventStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._events: list[Event] = []
        self._since_ns = 0
        self.problem = ""

    def add(self, events: list[Event]) -> None:
        """Store them in time; now, if they fill a frame or the first has waited long enough."""
        if events and not self._events:
            self._since_ns = self._clock.monotonic_ns()
        self._events += events
        waited_ns = self._clock.monotonic_ns() - self._since_ns
        if len(self._events) >= FRAME_EVENTS or (self._events and waited_ns >= FLUSH_SECONDS * 1e9):
            self.flush()

    def flush(self) -> None:
        """Store what was added; durable on return, unless `problem` says why not."""
        events, self._events = self._events, []
        if not events:
            return
        try:
            self._store.append(events)
            self.problem = ""
        except StoreError as error:
            if not self.problem:
                log.error("%d events were dropped: %s", len(events), error)
            self.problem = str(error)


class Capture:
    """The loop of the module's text, over its parts."""

    def __init__(
        self,
        *,
        permit: Permit,
        away: Callable[[], bool],
        source: Callable[[bool], Source],
        normaliser: Normaliser,
        content: ContentFilter,
        writer: Writer,
        clock: Clock,
        show: Callable[[CaptureState], None],
    ) -> None:
        """Nothing happens yet.

        Args:
            permit: what is permitted at the moment; None: nothing.
            away: whether the screen is locked or the machine goes to sleep.
            source: makes the source, given whether motion is wanted. May raise UnsupportedError.
            normaliser, content, writer: what events pass, in this order.
            clock: this machine's.
            show: told each change of what this does.
        """
        self._permit = permit
        self._person_away = away
        self._make_source = source
        self._normaliser = normaliser
        self._content = content
        self._writer = writer
        self._clock = clock
        self._show = show
        self._shown: CaptureState | None = None
        self._source: Source | None = None
        self._motion = False
        self._started_ns = 0
        self._permitted_ns = 0
        self._latest_ns = clock.monotonic_ns()
        self._asked: Permission | None = None  # at the end of the last turn, which is just now
        self._unsupported = ""

    def run(self, stop: threading.Event) -> None:
        """Capture until stopped; what was accepted is stored then."""
        with ExitStack() as stack:
            stack.callback(self._writer.flush)
            stack.callback(self._close)
            while not stop.is_set():
                if not self._step():
                    self._writer.flush()
                    stop.wait(_LOOK_SECONDS)

    def _step(self) -> bool:
        """One turn of the loop; False if there was nothing to wait for."""
        permission, self._asked = self._asked or self._permit(), None
        if permission is None:
            self._close()
            self._unsupported = ""
            return self._say(Doing.NOT_PERMITTED)
        if self._unsupported:
            return self._say(Doing.UNSUPPORTED, self._unsupported)
        away = self._person_away()
        if away or not permission.capturing:
            self._rest()
            return self._say(Doing.AWAY if away else Doing.PAUSED)
        try:
            source = self._started(permission)
        except UnsupportedError as error:
            self._close()
            self._unsupported = str(error)
            return False
        raw = source.poll(_LOOK_SECONDS if self._active() else _IDLE_LOOK_SECONDS)
        after = self._asked = self._permit()
        if after is None or not after.capturing:
            return self._step()  # which acts on it
        if after.since_ns != self._permitted_ns:
            # Paused or withdrawn and given again, unseen: a stalled process has slept through it.
            self._permitted_ns = after.since_ns
            self._forget()
        if raw:
            self._latest_ns = self._clock.monotonic_ns()
        since_ns = max(after.since_ns, self._started_ns)
        seen = self._normaliser.normalise(raw, source.anchor(), since_ns=since_ns)
        self._writer.add(self._content.accept(seen))
        if source.health() is not Health.RECEIVING:
            self._say(Doing.NOT_RECEIVING, "the desktop cannot be reached; trying again")
        elif self._writer.problem:
            self._say(Doing.NOT_STORING, self._writer.problem)
        else:
            self._say(Doing.CAPTURING)
        return True

    def _active(self) -> bool:
        return self._clock.monotonic_ns() - self._latest_ns < _IDLE_NS

    def _started(self, permission: Permission) -> Source:
        if self._source is not None and self._motion != permission.motion:
            self._close()
        if self._source is None:
            self._motion = permission.motion
            self._source = self._make_source(permission.motion)
        if self._source.health() is Health.STOPPED:
            self._started_ns = self._clock.monotonic_ns()
            self._source.start()
        return self._source

    def _rest(self) -> None:
        if self._source is not None and self._source.health() is not Health.STOPPED:
            self._source.stop()
            self._forget()

    def _close(self) -> None:
        if self._source is not None:
            self._source.close()
            self._source = None
            self._forget()

    def _forget(self) -> None:
        self._content.discard()
        self._normaliser.forget()

    def _say(self, doing: Doing, reason: str = "") -> bool:
        """Show a state if it is another one. False, for `_step`."""
        state = CaptureState(doing, reason)
        if state != self._shown:
            self._shown = state
            log.info("%s%s", doing.value, f": {reason}" if reason else "")
            self._show(state)
        return False
