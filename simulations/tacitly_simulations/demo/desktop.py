"""A display that nobody sits at, and a program that types and points there as a person would.

What it does reaches an agent the way a person's input does: from the X server, with that server's
times, to windows of applications. The pace is quicker than a person's: pauses are cut short.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Final, Self

import xcffib
import xcffib.xproto
import xcffib.xtest

from tacitly_common.errors import TacitlyError
from tacitly_common.events import Event, EventKind

_WIDTH: Final = 1280
_HEIGHT: Final = 1024
# Below are the agent's indicator and its menu, which a click must not meet.
_USED_HEIGHT: Final = 900
_LONGEST_GAP_SECONDS: Final = 0.012
_KEY_DOWN, _KEY_UP, _BUTTON_DOWN, _BUTTON_UP, _MOTION = range(2, 7)
_WHEEL_UP, _WHEEL_DOWN = 4, 5
# Keysyms of the keys that have no character.
_NAMED: Final = {
    "Backspace": 0xFF08, "Tab": 0xFF09, "Enter": 0xFF0D, "ArrowLeft": 0xFF51, "ArrowUp": 0xFF52,
    "End": 0xFF57, "Shift": 0xFFE1, "Control": 0xFFE3, "Alt": 0xFFE9, "Delete": 0xFFFF,
}  # fmt: skip


class DesktopError(TacitlyError):
    """There is no X server for the demo; the message says what to install."""


class Desktop:
    """One Xvfb with a window for each application. A context manager."""

    def __init__(self) -> None:
        """Raises:
        DesktopError: Xvfb is not installed, or does not come up.
        """
        program = shutil.which("Xvfb")
        if program is None:
            raise DesktopError(
                "the demo of capture needs an X server without a screen; install Debian's "
                "package xvfb"
            )
        reading, writing = os.pipe()
        self._server = subprocess.Popen(
            [program, "-displayfd", str(writing), "-screen", "0", f"{_WIDTH}x{_HEIGHT}x24",
             "-nolisten", "tcp", "-noreset"],
            pass_fds=[writing],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(writing)
        with os.fdopen(reading) as answer:
            number = answer.readline().strip()
        if not number:
            raise DesktopError("Xvfb ended at once; see whether /tmp can be written")
        self.display = f":{number}"
        self._x: Any = xcffib.Connection(self.display)
        self._test = self._x(xcffib.xtest.key)
        self._root = self._x.setup.roots[0].root
        self._windows: dict[str, int] = {}
        self._codes = self._keycodes()

    def play(self, events: Iterable[Event]) -> None:
        """Do what a recording says: the keys, the pointer's way, clicks, the wheel, the windows."""
        before_ns = 0
        for event in events:
            gap_seconds = (event.wall_ns - before_ns) / 1e9 if before_ns else 0.0
            before_ns = event.wall_ns
            time.sleep(min(max(gap_seconds, 0.0), _LONGEST_GAP_SECONDS))
            self._do(event)
            self._x.flush()

    def close(self) -> None:
        """End the server, and every window with it."""
        self._x.disconnect()
        self._server.terminate()
        self._server.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _do(self, event: Event) -> None:
        match event.kind:
            case EventKind.FOCUS:
                self._x.core.SetInputFocus(0, self._window(event.app), 0)
            case EventKind.KEY_DOWN | EventKind.KEY_UP:
                code = self._codes.get(_NAMED.get(event.key) or ord(event.key))
                if code is not None:  # else no key of this keyboard has it
                    self._fake(_KEY_DOWN if event.kind is EventKind.KEY_DOWN else _KEY_UP, code)
            case EventKind.POINTER_MOVE:
                self._fake(_MOTION, 0, round(event.x * _WIDTH), round(event.y * _USED_HEIGHT))
            case EventKind.BUTTON_DOWN:
                self._fake(_BUTTON_DOWN, event.button)
            case EventKind.BUTTON_UP:
                self._fake(_BUTTON_UP, event.button)
            case EventKind.SCROLL:
                wheel = _WHEEL_DOWN if event.dy > 0 else _WHEEL_UP
                self._fake(_BUTTON_DOWN, wheel)
                self._fake(_BUTTON_UP, wheel)

    def _fake(self, kind: int, detail: int, x: int = 0, y: int = 0) -> None:
        self._test.FakeInput(kind, detail, 0, self._root, x, y, 0)

    def _window(self, app: str) -> int:
        """The application's window; opened when it is first asked for."""
        if app not in self._windows:
            window = self._windows[app] = int(self._x.generate_id())
            self._x.core.CreateWindow(
                0, window, self._root, 0, 0, _WIDTH, _USED_HEIGHT, 0, 1, 0,
                xcffib.xproto.CW.EventMask, [xcffib.xproto.EventMask.KeyPress],
            )  # fmt: skip
            named = f"{app}\0{app.capitalize()}\0".encode()
            self._x.core.ChangeProperty(
                0, window, xcffib.xproto.Atom.WM_CLASS, xcffib.xproto.Atom.STRING, 8,
                len(named), named,
            )  # fmt: skip
            self._x.core.MapWindow(window)
            self._x.core.GetInputFocus().reply()  # until the server has done it
        return self._windows[app]

    def _keycodes(self) -> dict[int, int]:
        """The key that makes each keysym, with Shift or without."""
        first, last = self._x.setup.min_keycode, self._x.setup.max_keycode
        mapping = self._x.core.GetKeyboardMapping(first, last - first + 1).reply()
        columns = mapping.keysyms_per_keycode
        found: dict[int, int] = {}
        for at, keysym in enumerate(mapping.keysyms):
            if keysym and at % columns < 2:
                found.setdefault(keysym, first + at // columns)
        return found
