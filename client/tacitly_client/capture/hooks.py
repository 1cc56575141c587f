"""Windows and macOS through pynput. Experimental: written to its documentation, not run there.

It cannot leave out motion at the system's side, sees no grabs, no focus and no time but that of
its callbacks; every focus is unknown. macOS keeps keys of secure fields from every listener by
itself, and delivers nothing at all without the rights for Input Monitoring and Accessibility.
"""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from tacitly_client.capture.clock import Clock
from tacitly_client.capture.source import Anchor, Health, RawEvent, UnsupportedError
from tacitly_common.events import EventKind

_TICK_SECONDS: Final = 0.05
_MOST_WAITING: Final = 100_000
_MS_NS: Final = 10**6
_WRAP_MS: Final = 2**32
_BUTTONS: Final = {"left": 1, "middle": 2, "right": 3, "x1": 8, "x2": 9}
_NAMES: Final = {
    "alt": "Alt", "alt_gr": "AltGraph", "backspace": "Backspace", "caps_lock": "CapsLock",
    "cmd": "Meta", "ctrl": "Control", "delete": "Delete", "down": "ArrowDown", "end": "End",
    "enter": "Enter", "esc": "Escape", "home": "Home", "insert": "Insert", "left": "ArrowLeft",
    "menu": "ContextMenu", "num_lock": "NumLock", "page_down": "PageDown", "page_up": "PageUp",
    "pause": "Pause", "print_screen": "PrintScreen", "right": "ArrowRight", "shift": "Shift",
    "scroll_lock": "ScrollLock", "space": " ", "tab": "Tab", "up": "ArrowUp",
}  # fmt: skip
_MODIFIERS: Final = ("Alt", "Control", "Meta", "Shift")

Bounds = tuple[float, float, float, float]  # left, top, width, height


class HookSource:
    """A `Source` over pynput's listeners, which run in threads of their own."""

    def __init__(
        self, clock: Clock, *, motion: bool, bounds: Callable[[], Bounds] | None = None
    ) -> None:
        """`bounds` tells the rectangle around all monitors; the system's if None."""
        self._clock = clock
        self._motion = motion
        self._bounds = bounds or _desktop_bounds
        self._listeners: list[Any] = []
        self._waiting: deque[RawEvent] = deque(maxlen=_MOST_WAITING)
        self._happened = threading.Event()
        self._held: set[str] = set()
        self._desktop: Bounds = (0.0, 0.0, 1.0, 1.0)

    def start(self) -> None:
        if self._listeners:
            return
        try:
            from pynput import keyboard, mouse
        except ImportError as error:
            raise UnsupportedError(
                f"pynput cannot be used here ({type(error).__name__}); install tacitly[client]"
            ) from None
        self._desktop = self._bounds()
        moves = {"on_move": self.on_move} if self._motion else {}
        self._listeners = [
            keyboard.Listener(on_press=self.on_press, on_release=self.on_release),
            mouse.Listener(on_click=self.on_click, on_scroll=self.on_scroll, **moves),
        ]
        for listener in self._listeners:
            listener.start()

    def stop(self) -> None:
        for listener in self._listeners:
            listener.stop()
        self._listeners = []
        self._waiting.clear()
        self._held.clear()

    def poll(self, timeout_seconds: float) -> list[RawEvent]:
        if self._happened.wait(timeout_seconds):
            time.sleep(_TICK_SECONDS)
            self._happened.clear()
        return [self._waiting.popleft() for _ in range(len(self._waiting))]

    def anchor(self) -> Anchor:
        return Anchor(0, 0)

    def health(self) -> Health:
        if not self._listeners:
            return Health.STOPPED
        alive = all(listener.is_alive() for listener in self._listeners)
        return Health.RECEIVING if alive else Health.NOT_RECEIVING

    def close(self) -> None:
        self.stop()

    def on_press(self, key: Any, injected: bool = False) -> None:
        """pynput's callback."""
        self._key(EventKind.KEY_DOWN, key, injected)
        if (name := w3c_key(key)) in _MODIFIERS:
            self._held.add(name)

    def on_release(self, key: Any, injected: bool = False) -> None:
        """pynput's callback."""
        self._held.discard(w3c_key(key))
        self._key(EventKind.KEY_UP, key, injected)

    def on_move(self, x: float, y: float, injected: bool = False) -> None:
        """pynput's callback."""
        self._add(EventKind.POINTER_MOVE, injected, **self._place(x, y))

    def on_click(
        self, x: float, y: float, button: Any, pressed: bool, injected: bool = False
    ) -> None:
        """pynput's callback."""
        kind = EventKind.BUTTON_DOWN if pressed else EventKind.BUTTON_UP
        number = _BUTTONS.get(button.name, 0)
        self._add(kind, injected, button=number, **self._place(x, y))

    def on_scroll(self, x: float, y: float, dx: float, dy: float, injected: bool = False) -> None:
        """pynput's callback; its dy points up."""
        self._add(EventKind.SCROLL, injected, dx=float(dx), dy=-float(dy), **self._place(x, y))

    def _key(self, kind: EventKind, key: Any, injected: bool) -> None:
        held = tuple(sorted(self._held))
        self._add(kind, injected, code=_code(key), key=w3c_key(key), modifiers=held)

    def _place(self, x: float, y: float) -> dict[str, float]:
        left, top, width, height = self._desktop
        return {
            "x": min(max((x - left) / width, 0.0), 1.0),
            "y": min(max((y - top) / height, 0.0), 1.0),
        }

    def _add(self, kind: EventKind, injected: bool, **fields: Any) -> None:
        now_ms = self._clock.monotonic_ns() // _MS_NS % _WRAP_MS
        self._waiting.append(RawEvent(kind, now_ms, injected, **fields))
        self._happened.set()


def w3c_key(key: Any) -> str:
    """The W3C key of pynput's `Key` (which has a name) or `KeyCode` (which may have a char)."""
    name: str | None = getattr(key, "name", None)
    if name is None:
        return _character(getattr(key, "char", None))
    if name[0] == "f" and name[1:].isdigit():
        return name.upper()
    base = name.removesuffix("_l").removesuffix("_r")
    return _NAMES.get(name) or _NAMES.get(base) or "Unidentified"


def _code(key: Any) -> int:
    """A number that tells physical keys apart: the system's, where pynput has it."""
    virtual_key = getattr(getattr(key, "value", key), "vk", None)
    return hash(w3c_key(key)) if virtual_key is None else int(virtual_key)


def _character(char: str | None) -> str:
    if not char:
        return "Unidentified"
    if len(char) == 1 and 1 <= ord(char) <= 26:
        return chr(ord(char) + 96)  # Windows has Control+c as U+0003
    return char


def _desktop_bounds() -> Bounds:
    """The rectangle around all monitors, in the units of pynput's coordinates."""
    if sys.platform == "win32":
        import ctypes

        metrics = ctypes.windll.user32.GetSystemMetrics
        return tuple(float(metrics(index)) for index in (76, 77, 78, 79))
    import Quartz

    rectangles = [
        Quartz.CGDisplayBounds(display)
        for display in Quartz.CGGetActiveDisplayList(16, None, None)[1]
    ]
    left = min(r.origin.x for r in rectangles)
    top = min(r.origin.y for r in rectangles)
    right = max(r.origin.x + r.size.width for r in rectangles)
    bottom = max(r.origin.y + r.size.height for r in rectangles)
    return left, top, right - left, bottom - top
