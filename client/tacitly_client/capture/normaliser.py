"""A source's events -> the common form: both clocks, wheels, repeats; and what is dropped.

Pure but for the injected clock. Dropped, each counted by its rule:

    injected   made by a program: a password manager's auto-type among them
    grabbed    a program had the keyboard to itself: lockers, password prompts
    early      older than the permission to capture: what a stalled process finds when it goes on
"""

from collections import Counter
from enum import StrEnum
from typing import Final

import msgspec

from tacitly_client.capture.clock import Clock
from tacitly_client.capture.source import Anchor, Focus, RawEvent
from tacitly_common.events import Event, EventKind

_MS_NS: Final = 10**6
_WRAP_MS: Final = 2**32
_SLEW_NS: Final = 100 * _MS_NS  # less is the clocks' own noise, more a clock that was set
_SET_BACK_NS: Final = 10**9
_WHEEL: Final = {4: (0.0, -1.0), 5: (0.0, 1.0), 6: (-1.0, 0.0), 7: (1.0, 0.0)}
_BUTTONS: Final = (EventKind.BUTTON_DOWN, EventKind.BUTTON_UP)


class Rule(StrEnum):
    """Why an event was dropped before anything looked at its content."""

    INJECTED = "injected"
    GRABBED = "grabbed"
    EARLY = "early"


class Observation(msgspec.Struct, frozen=True, gc=False):
    """An event in the common form, and what had the focus: None if that was not known."""

    event: Event
    focus: Focus | None

    def __repr__(self) -> str:
        """As little as the event's own."""
        return f"Observation({self.event.kind.value})"


class Normaliser:
    """Makes observations of raw events. Remembers which keys are held and the clocks' distance."""

    def __init__(self, clock: Clock, *, keep_injected: bool = False) -> None:
        """`keep_injected` is for machines whose keyboard is a program: test displays."""
        self._clock = clock
        self._keep_injected = keep_injected
        self._held: set[int] = set()
        self._wall_offset_ns = _wall_offset_ns(clock)
        self._latest_wall_ns = 0
        self.dropped: Counter[Rule] = Counter()

    def normalise(
        self, raw: list[RawEvent], anchor: Anchor, *, since_ns: int = 0
    ) -> list[Observation]:
        """The events that may be looked at further, in their order.

        Args:
            raw: what a source's poll gave.
            anchor: that source's.
            since_ns: the monotonic time from which capture is permitted.
        """
        if not raw:
            return []
        now_ns = self._clock.monotonic_ns()
        self._follow_wall_clock(now_ns)
        observations = []
        for event in raw:
            monotonic_ns = _monotonic_ns(event.server_ms, anchor, now_ns)
            rule = self._rule(event, monotonic_ns, since_ns)
            if rule is not None:
                self.dropped[rule] += 1
            elif common := self._common(event, monotonic_ns):
                observations.append(Observation(common, event.focus))
        return observations

    def forget(self) -> None:
        """No key is held: what happened from here on was not seen."""
        self._held.clear()

    def _rule(self, event: RawEvent, monotonic_ns: int, since_ns: int) -> Rule | None:
        if monotonic_ns < since_ns:
            return Rule.EARLY
        if event.injected and not self._keep_injected:
            return Rule.INJECTED
        if event.grabbed and event.kind in (EventKind.KEY_DOWN, EventKind.KEY_UP):
            return Rule.GRABBED
        return None

    def _common(self, raw: RawEvent, monotonic_ns: int) -> Event | None:
        """The event in the common form; None for the release of a wheel's notch."""
        kind, button, dx, dy = raw.kind, raw.button, raw.dx, raw.dy
        repeat = False
        if kind in _BUTTONS and button in _WHEEL:
            if kind is EventKind.BUTTON_UP:
                return None
            kind, button, (dx, dy) = EventKind.SCROLL, 0, _WHEEL[button]
        elif kind is EventKind.KEY_DOWN:
            repeat = raw.code in self._held
            self._held.add(raw.code)
        elif kind is EventKind.KEY_UP:
            self._held.discard(raw.code)
        return Event(
            kind,
            monotonic_ns,
            self._wall_ns(monotonic_ns),
            key=raw.key,
            modifiers=_without_choosing_shift(raw.key, raw.modifiers),
            repeat=repeat,
            button=button,
            x=raw.x,
            y=raw.y,
            dx=dx,
            dy=dy,
            app=raw.focus.app if raw.focus else "",
        )

    def _follow_wall_clock(self, now_ns: int) -> None:
        """Keep the distance of the clocks while it only trembles, or events would change places."""
        if abs(self._clock.wall_ns() - now_ns - self._wall_offset_ns) >= _SLEW_NS:
            self._wall_offset_ns = _wall_offset_ns(self._clock)

    def _wall_ns(self, monotonic_ns: int) -> int:
        wall_ns = monotonic_ns + self._wall_offset_ns
        if 0 < self._latest_wall_ns - wall_ns < _SET_BACK_NS:
            wall_ns = self._latest_wall_ns
        self._latest_wall_ns = wall_ns
        return wall_ns


def _wall_offset_ns(clock: Clock) -> int:
    """Wall less monotonic time, by the reading of both that was interrupted least."""
    readings = [(clock.monotonic_ns(), clock.wall_ns(), clock.monotonic_ns()) for _ in range(3)]
    before_ns, wall_ns, after_ns = min(readings, key=lambda reading: reading[2] - reading[0])
    return wall_ns - (before_ns + after_ns) // 2


def _monotonic_ns(server_ms: int, anchor: Anchor, now_ns: int) -> int:
    """The moment of `server_ms` nearest to now: the server's clock returns each 49.7 days."""
    server_now_ms = anchor.server_ms + (now_ns - anchor.monotonic_ns) // _MS_NS
    difference_ms = (server_ms - server_now_ms + _WRAP_MS // 2) % _WRAP_MS - _WRAP_MS // 2
    return anchor.monotonic_ns + (server_now_ms + difference_ms - anchor.server_ms) * _MS_NS


def _without_choosing_shift(key: str, modifiers: tuple[str, ...]) -> tuple[str, ...]:
    """Shift that only makes a capital or symbol is part of the key."""
    return () if len(key) == 1 and modifiers == ("Shift",) else modifiers
