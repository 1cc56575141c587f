"""What capture's cost is compared with: python -m tacitly_simulations.bench.x_readers NAME

Each reads the same events of DISPLAY until it is terminated and keeps nothing but their number.

    bare    XInput2 raw events through xcffib as its documentation shows it, each 50 ms
    head    the same, with the events' first bytes instead of the library's objects
    pynput  the field's library: its listeners, which call back for each event
"""

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, Final

TICK_SECONDS: Final = 0.05


def bare() -> None:
    """Wait, let a tick pass, take what came."""
    import xcffib
    import xcffib.xinput
    import xcffib.xproto  # registers the core protocol

    connection: Any = xcffib.Connection(os.environ["DISPLAY"])
    root = connection.setup.roots[0].root
    raw = xcffib.xinput.XIEventMask
    mask = raw.RawKeyPress | raw.RawKeyRelease | raw.RawButtonPress | raw.RawButtonRelease
    masters = xcffib.xinput.EventMask.synthetic(1, 1, [mask | raw.RawMotion])
    extension = connection(xcffib.xinput.key)
    extension.XIQueryVersion(2, 2).reply()
    extension.XISelectEvents(root, 1, [masters])
    connection.flush()
    seen = 0
    kinds = (
        xcffib.xinput.RawKeyPressEvent,
        xcffib.xinput.RawKeyReleaseEvent,
        xcffib.xinput.RawButtonPressEvent,
        xcffib.xinput.RawButtonReleaseEvent,
        xcffib.xinput.RawMotionEvent,
    )
    while True:
        select.select([connection.get_file_descriptor()], [], [])
        time.sleep(TICK_SECONDS)
        while (event := connection.poll_for_event()) is not None:
            if isinstance(event, kinds):
                seen += event.time > 0 and event.detail >= 0 and event.sourceid > 0


def head() -> None:
    """As `bare`, over capture's own connection."""
    from tacitly_client.capture.x11.display import Display

    display = Display(os.environ["DISPLAY"])
    display.select(motion=True)
    seen = 0
    while True:
        select.select([display], [], [])
        time.sleep(TICK_SECONDS)
        for _ in display.events():
            seen += 1


def pynput() -> None:
    """Both listeners, as an activity watcher has them."""
    from pynput import keyboard, mouse

    seen = 0

    def count(*_: object) -> None:
        nonlocal seen
        seen += 1

    listeners = [
        keyboard.Listener(on_press=count, on_release=count),
        mouse.Listener(on_move=count, on_click=count, on_scroll=count),
    ]
    for listener in listeners:
        listener.start()
    signal.pause()


_READERS: Final[dict[str, Callable[[], None]]] = {"bare": bare, "head": head, "pynput": pynput}

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _READERS[sys.argv[1]]()
