"""A real X server for tests, and somebody who types and points at it through XTEST.

`display()` starts Xvfb on a free display. Where it is not installed tests are skipped, and fail
where TACITLY_REQUIRE_X11=1 says that it must be there.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import xcffib
import xcffib.xproto
import xcffib.xtest

KEY_DOWN, KEY_UP, BUTTON_DOWN, BUTTON_UP, MOTION = 2, 3, 4, 5, 6
WIDTH, HEIGHT = 1280, 1024
# Keycodes of the "us" layout on a PC keyboard.
CODES: Final = (
    dict(zip("1234567890", range(10, 20), strict=True))
    | dict(zip("qwertyuiop", range(24, 34), strict=True))
    | dict(zip("asdfghjkl", range(38, 47), strict=True))
    | dict(zip("zxcvbnm", range(52, 59), strict=True))
    | {"Escape": 9, "Backspace": 22, "Tab": 23, "Enter": 36, "Control": 37, "Shift": 50, " ": 65}
    | {"Alt": 64, "CapsLock": 66, "F1": 67, ".": 60, ",": 59, "ArrowLeft": 113, "AltGraph": 108}
)


def wait_for(condition: Callable[[], bool], what: str = "") -> None:
    """Wait until something is so; fail the test after as long as no machine needs."""
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, f"not within a minute: {what or condition}"
        time.sleep(0.05)


def need(program: str) -> str:
    """The program's path.

    Skips or fails the test where it is not installed.
    """
    path = shutil.which(program)
    require(path is not None, program)
    return str(path)


def require(present: bool, what: str) -> None:
    """Skip or fail the test where something is not installed."""
    if present:
        return
    if os.environ.get("TACITLY_REQUIRE_X11") == "1":
        pytest.fail(f"{what} is not installed and TACITLY_REQUIRE_X11=1")
    pytest.skip(f"{what} is not installed; .ci/debian-packages names what tests need")


class Server:
    """One Xvfb."""

    def __init__(self, *, name: str | None = None, screen: str = f"{WIDTH}x{HEIGHT}x24") -> None:
        program = need("Xvfb")
        reading, writing = os.pipe()
        where = [name] if name else ["-displayfd", str(writing)]
        self.process = subprocess.Popen(
            [program, *where, "-screen", "0", screen, "-nolisten", "tcp", "-noreset"],
            pass_fds=[writing],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(writing)
        with os.fdopen(reading) as answer:
            self.name = name or f":{answer.readline().strip()}"
        until = time.monotonic() + 20
        while True:
            try:
                xcffib.Connection(self.name).disconnect()
                break
            except xcffib.XcffibException:
                assert time.monotonic() < until, "Xvfb did not come up"
                time.sleep(0.05)

    def kill(self) -> None:
        """As a crash would."""
        self.process.kill()
        self.process.wait()
        number = self.name.removeprefix(":")
        for left in (Path(f"/tmp/.X{number}-lock"), Path(f"/tmp/.X11-unix/X{number}")):  # noqa: S108
            left.unlink(missing_ok=True)


@contextmanager
def server(**options: Any) -> Iterator[Server]:
    """A server of a test's own."""
    running = Server(**options)
    try:
        yield running
    finally:
        running.kill()


class Person:
    """Somebody at the keyboard and pointer; and a client that can open windows."""

    def __init__(self, display: str) -> None:
        self.x: Any = xcffib.Connection(display)
        self._xtest = self.x(xcffib.xtest.key)
        self.root: int = self.x.setup.roots[0].root

    def fake(self, kind: int, detail: int = 0, x: int = 0, y: int = 0) -> None:
        """One event, sent with the next `flush`."""
        self._xtest.FakeInput(kind, detail, 0, self.root, x, y, 0)

    def flush(self) -> None:
        """Send, and wait until the server has done it."""
        self.x.core.GetInputFocus().reply()

    def press(self, *keys: str) -> None:
        """Press the keys in order, release them in reverse order."""
        for key in keys:
            self.fake(KEY_DOWN, CODES[key])
        for key in reversed(keys):
            self.fake(KEY_UP, CODES[key])
        self.flush()

    def type(self, text: str, seconds: float = 0.0) -> None:
        """Press one key after the other."""
        for key in text:
            self.press(key)
            time.sleep(seconds)

    def click(self, button: int = 1) -> None:
        self.fake(BUTTON_DOWN, button)
        self.fake(BUTTON_UP, button)
        self.flush()

    def move(self, x: int, y: int) -> None:
        self.fake(MOTION, 0, x, y)
        self.flush()

    def window(self, app: str = "") -> int:
        """A mapped window of an application, without the focus."""
        window = int(self.x.generate_id())
        self.x.core.CreateWindow(
            0, window, self.root, 0, 0, 300, 200, 0, 1, 0,
            xcffib.xproto.CW.EventMask, [xcffib.xproto.EventMask.KeyPress],
        )  # fmt: skip
        if app:
            value = f"{app}\0{app.capitalize()}\0".encode()
            self.x.core.ChangeProperty(0, window, 67, 31, 8, len(value), value)
        self.x.core.MapWindow(window)
        self.flush()
        return window

    def focused(self) -> int:
        """The window that has the focus."""
        return int(self.x.core.GetInputFocus().reply().focus)

    def maximise(self) -> None:
        """Let the window manager give the window with the focus the whole screen."""
        atoms = ("_NET_ACTIVE_WINDOW", "_NET_WM_STATE", "_NET_WM_STATE_MAXIMIZED_HORZ")
        active, state, across, down = (
            self.x.core.InternAtom(False, len(name), name.encode()).reply().atom
            for name in (*atoms, "_NET_WM_STATE_MAXIMIZED_VERT")
        )
        told = self.x.core.GetProperty(False, self.root, active, 0, 0, 1).reply().value.to_atoms()
        data = xcffib.xproto.ClientMessageData.synthetic([1, across, down, 1, 0], "IIIII")
        event = xcffib.xproto.ClientMessageEvent.synthetic(32, told[0], state, data)
        mask = xcffib.xproto.EventMask
        to = mask.SubstructureRedirect | mask.SubstructureNotify
        self.x.core.SendEvent(False, self.root, to, event.pack())
        self.flush()

    def focus(self, window: int) -> None:
        """Give a window the focus; 0 for nobody."""
        self.x.core.SetInputFocus(0, window, 0)
        self.flush()

    def grab(self, window: int) -> None:
        """Take the keyboard for a window."""
        assert self.x.core.GrabKeyboard(False, window, 0, 1, 1).reply().status == 0

    def ungrab(self) -> None:
        self.x.core.UngrabKeyboard(0)
        self.flush()

    def typed(self) -> str:
        """What was typed into this client's windows and grabs since last asked."""
        characters = {code: character for character, code in CODES.items()}
        pressed = iter(self.x.poll_for_event, None)
        return "".join(
            characters[event.detail]
            for event in pressed
            if isinstance(event, xcffib.xproto.KeyPressEvent)
        )

    def close(self) -> None:
        self.x.disconnect()
