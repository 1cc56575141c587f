"""What a source of input events is, whatever the platform.

    source.start()                   # connects and selects; only now does the system send events
    raw = source.poll(0.25)          # what happened since, in order
    source.stop()                    # deselects, and forgets what was delivered but not polled
    source.close()

A source that is not started has selected nothing. It keeps trying by itself when the system it
listens to goes away; `health()` says whether it hears anything.
"""

from enum import StrEnum
from typing import Protocol

import msgspec

from tacitly_common.errors import TacitlyError
from tacitly_common.events import EventKind


class UnsupportedError(TacitlyError):
    """Nothing can be captured on this desktop; the message says why."""

    exit_code = 6


class Health(StrEnum):
    """Whether a source hears what happens."""

    STOPPED = "stopped"  # nothing is selected
    RECEIVING = "receiving"
    NOT_RECEIVING = "not receiving"  # started, but the system it listens to is not there


class Focus(msgspec.Struct, frozen=True):
    """What has the keyboard focus: an application's short id ("" if it tells none), the window
    (0 if there is none), and the process if the system knows it."""

    app: str = ""
    window: int = 0
    pid: int | None = None


class RawEvent(msgspec.Struct, frozen=True, gc=False):
    """One event as the system tells it.

    | field     | meaning                                                                     |
    |-----------|-----------------------------------------------------------------------------|
    | server_ms | the system's clock when it happened, modulo 2**32                            |
    | injected  | made by a program (password managers' auto-type, remote control)             |
    | grabbed   | a program had the keyboard to itself, as lockers and password prompts do      |
    | code      | which physical key, to tell a repeat; key events only                        |
    | key       | W3C UI Events `key` value under the layout of that moment                    |
    | modifiers | held, sorted, of "Alt", "Control", "Meta", "Shift"                           |
    | button    | 1 left, 2 middle, 3 right, 4 to 7 the wheel up, down, left, right            |
    | x, y      | fractions of the desktop over all monitors                                   |
    | dx, dy    | wheel notches, where the system counts them                                  |
    | focus     | None: not known at that moment                                               |
    """

    kind: EventKind
    server_ms: int
    injected: bool = False
    grabbed: bool = False
    code: int = 0
    key: str = ""
    modifiers: tuple[str, ...] = ()
    button: int = 0
    x: float = 0.0
    y: float = 0.0
    dx: float = 0.0
    dy: float = 0.0
    focus: Focus | None = None

    def __repr__(self) -> str:
        """Show the kind alone: content must not reach a log."""
        return f"RawEvent({self.kind.value})"


class Anchor(msgspec.Struct, frozen=True):
    """One moment on two clocks: the system's and this process's monotonic one."""

    server_ms: int
    monotonic_ns: int


class Source(Protocol):
    """Somewhere events come from."""

    def start(self) -> None:
        """Select events; nothing if that is done already.

        Raises:
            UnsupportedError: this desktop cannot be listened to.
        """

    def stop(self) -> None:
        """Deselect and forget what has not been polled."""

    def poll(self, timeout_seconds: float) -> list[RawEvent]:
        """Wait until something happens, at most this long; everything that did, in order."""

    def anchor(self) -> Anchor:
        """Ties the `server_ms` of the last poll to this process's monotonic clock."""

    def health(self) -> Health:
        """What is known without asking the system."""

    def close(self) -> None:
        """Stop and let go of the system."""
