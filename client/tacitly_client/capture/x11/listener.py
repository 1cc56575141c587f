"""Reading XInput2 raw events over one connection, on a tick.

Raw events reach every client that asks, whatever window they are for, with the server's time in
milliseconds. A tick after the first one everything that came meanwhile is read at once: waking up,
not reading, is what costs. Nothing wakes up while nothing happens.

A read is:

    1. Take what has arrived, in order; keep up the keyboard's state, the focus and grabs.
    2. Ask where the pointer is, if it moved or clicked: raw events tell relative motion only. The
       way since the last read is given to its motions in equal shares.
    3. Ask whether the keyboard is grabbed, if keys came.
    4. Settle the focus, if it was lost.

Wheels are buttons 4 to 7, which the server also sends for smooth scrolling, a notch each. Xorg
sends no raw events for the repeats it makes of a key that is held.
"""

import select
import struct
import time
from collections.abc import Iterator
from itertools import chain
from typing import Final, NamedTuple, Self

from tacitly_client.capture.clock import Clock
from tacitly_client.capture.source import Anchor, Focus, RawEvent
from tacitly_client.capture.x11 import display as x
from tacitly_client.capture.x11.display import Arrived, Display, DisplayLostError
from tacitly_client.capture.x11.focus import FocusTracker
from tacitly_client.capture.x11.keyboard import Keyboard
from tacitly_common.events import EventKind

_KINDS: Final = {
    x.RAW_KEY_PRESS: EventKind.KEY_DOWN,
    x.RAW_KEY_RELEASE: EventKind.KEY_UP,
    x.RAW_BUTTON_PRESS: EventKind.BUTTON_DOWN,
    x.RAW_BUTTON_RELEASE: EventKind.BUTTON_UP,
    x.RAW_MOTION: EventKind.POINTER_MOVE,
}
_KEY_KINDS: Final = frozenset((EventKind.KEY_DOWN, EventKind.KEY_UP))
_MS_NS: Final = 10**6
_WRAP_MS: Final = 1 << 32
_COARSE_MS: Final = 11  # a tick of the coarsest kernel, and the rounding of both
_configure = struct.Struct("=8xI8xHH").unpack_from  # window, width, height


class _Seen(NamedTuple):
    """An event as it was read, without what is asked once for the whole read."""

    kind: EventKind
    server_ms: int
    injected: bool
    grabbed: bool
    focus: Focus | None
    detail: int
    key: str
    modifiers: tuple[str, ...]


class Listener:
    """What is known while one connection lasts. Any call may raise `DisplayLostError`."""

    def __init__(self, display: Display, anchor: Anchor, *, motion: bool) -> None:
        self.display = display
        self.anchor = anchor
        self._motion = motion
        self._backlog: list[Arrived] = []
        self._place = (0.0, 0.0)

    @classmethod
    def connect(cls, name: str, clock: Clock, *, motion: bool) -> Self:
        """Connect; nothing is selected yet.

        Raises:
            UnsupportedError: not a display that can be listened to.
        """
        display = Display(name)
        try:
            before_ns = clock.monotonic_ns()
            display.mark()
            display.sync()
            after_ns = clock.monotonic_ns()
            for code, head, _ in display.events():
                if code == x.PROPERTY and (server_ms := display.mark_time(head)) is not None:
                    return cls(display, anchor_of(server_ms, before_ns, after_ns), motion=motion)
            raise DisplayLostError("the server did not tell its time")
        except BaseException:
            display.close()
            raise

    def start(self) -> None:
        """Select, and learn the present state; input from before it is known is dropped."""
        self.display.select(motion=self._motion)
        self._keyboard = Keyboard.read(self.display)
        self._injectors = self.display.injectors()
        self._focus = FocusTracker(self.display)
        self._place = self.display.pointer()
        for _ in self._take():
            pass
        self._focus.settle()
        self._backlog = list(self.display.events())

    def stop(self) -> None:
        """Deselect; what was delivered and not read is dropped."""
        self.display.deselect()
        for _ in self.display.events():
            pass
        self._backlog.clear()

    def poll(self, timeout_seconds: float, tick_seconds: float) -> list[RawEvent]:
        """The read of the module's text; waits at most `timeout_seconds` for a first event."""
        if self._backlog or select.select([self.display], [], [], timeout_seconds)[0]:
            time.sleep(tick_seconds)
        seen = list(self._take())
        kinds = {event.kind for event in seen}
        before = self._place
        if kinds - _KEY_KINDS:
            self._place = self.display.pointer()
        grabbed = not kinds.isdisjoint(_KEY_KINDS) and self._focus.untold_grab()
        self._focus.settle()
        # The answers to these questions may have brought more events with them.
        self._backlog = list(self.display.events())
        return list(_finish(seen, before, self._place, keys_grabbed=grabbed))

    def _take(self) -> Iterator[_Seen]:
        """Step 1."""
        focus = self._focus
        for code, head, numbers in chain(self._backlog, self.display.events()):
            if code == x.GENERIC:
                extension, event, server_ms, detail, source = numbers
                if extension != self.display.xinput_opcode:
                    continue
                if kind := _KINDS.get(event):
                    key = self._keyboard.press(detail) if kind in _KEY_KINDS else ("", ())
                    injected = source in self._injectors
                    yield _Seen(kind, server_ms, injected, focus.grabbed, focus.focus, detail, *key)
                elif event == x.HIERARCHY:
                    self._injectors = self.display.injectors()
            elif code == self.display.xkb_event:
                self._on_keyboard(head)
            elif code == x.FOCUS_OUT:
                focus.on_focus_out(head)
            elif code == x.FOCUS_IN:
                focus.on_focus_in(head)
            elif code == x.PROPERTY and (time_ms := self.display.mark_time(head)) is not None:
                if settled := focus.on_mark():
                    yield _Seen(EventKind.FOCUS, time_ms, False, False, settled, 0, "", ())
            elif code == x.CONFIGURE:
                window, width, height = _configure(head)
                if window == self.display.root:
                    self.display.size = (width, height)

    def _on_keyboard(self, head: bytes) -> None:
        if head[1] == x.XKB_STATE:
            self._keyboard.on_state(head)
        elif head[1] in (x.XKB_NEW_KEYBOARD, x.XKB_MAP):
            self._keyboard = Keyboard.read(self.display)


def _finish(
    seen: list[_Seen],
    start: tuple[float, float],
    end: tuple[float, float],
    *,
    keys_grabbed: bool,
) -> Iterator[RawEvent]:
    """Give each event its place between `start` and `end`, and keys what was found about grabs."""
    motions = sum(event.kind is EventKind.POINTER_MOVE for event in seen)
    done = 0
    x_now, y_now = start if motions else end
    for kind, server_ms, injected, grabbed, focus, detail, key, modifiers in seen:
        if kind in _KEY_KINDS:
            yield RawEvent(
                kind, server_ms, injected, grabbed or keys_grabbed, detail, key, modifiers,
                focus=focus,
            )  # fmt: skip
            continue
        if kind is EventKind.POINTER_MOVE:
            done += 1
            share = done / motions
            x_now = start[0] + (end[0] - start[0]) * share
            y_now = start[1] + (end[1] - start[1]) * share
        yield RawEvent(
            kind, server_ms, injected, grabbed, button=detail, x=x_now, y=y_now, focus=focus
        )


def anchor_of(server_ms: int, before_ns: int, after_ns: int) -> Anchor:
    """Ties the server's time to ours, given that it was taken between two moments.

    Servers on this machine count the milliseconds of the very clock that ours is (GetTimeInMillis
    of os/utils.c), of which they keep 32 bits and may read a coarse copy. Then the tie is exact,
    also across a restart of either: events keep their order though a busy machine answers late.
    """
    lag_ms = (after_ns // _MS_NS - server_ms) % _WRAP_MS
    if lag_ms <= (after_ns - before_ns) // _MS_NS + _COARSE_MS:
        return Anchor(server_ms, (after_ns // _MS_NS - lag_ms) * _MS_NS)
    return Anchor(server_ms, after_ns)
