"""Real applications, a thousand pointer events a second: is every event stored, once, in order?

    cd tests && python -m trials.stream > stream.json    # all five applications; a minute or two

In each application the pointer crosses the desktop once, while keys are pressed and the wheel is
turned: 2,304 events. The keys are such as are stored by their class wherever typing is not denied,
so that what must be stored is known. There are no clicks among them: at each the window manager
takes the focus for a moment, in which nobody knows whose the keys are.
"""

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tacitly_client.home import AgentHome
from tacitly_client.redaction import ContentLevel
from tacitly_common.events import EventKind
from trials.browsers import browser
from trials.desktop import Desktop, desktop, form
from trials.typist import Captured, capturing
from x_display import (
    BUTTON_DOWN,
    BUTTON_UP,
    CODES,
    HEIGHT,
    KEY_DOWN,
    KEY_UP,
    MOTION,
    wait_for,
)

STEPS: Final = 256
MOTIONS: Final = 5  # a step: a pixel each, 1,280 in all
STEP_SECONDS: Final = 0.007  # with the wheel 7 pointer events a step
EVENTS: Final = STEPS * (MOTIONS + 4)
CELLS: Final = 12  # across; the pointer begins in the first
_CLASSES: Final = {
    "a": "<letter>",
    "s": "<letter>",
    " ": "Space",
    "Backspace": "Backspace",
    "ArrowLeft": "ArrowLeft",
}
_NOTCHES: Final = {4: -1.0, 5: 1.0}
_STORED: Final = (EventKind.KEY_DOWN, EventKind.SCROLL)

Stored = tuple[EventKind, str, str | float]  # the kind, the application, what it was


@dataclass(frozen=True)
class Application:
    """Its id, and how it is opened."""

    app: str
    open: Callable[[Desktop, AgentHome], AbstractContextManager[object]]


@dataclass(frozen=True)
class Result:
    """Of one application: what must be stored, what is; the columns that the pointer came into."""

    expected: list[Stored]
    stored: list[Stored]
    cells: list[float]

    @property
    def complete(self) -> bool:
        """Whether each event is there, once and in order."""
        columns = [(column + 0.5) / CELLS for column in range(1, CELLS)]
        return self.stored == self.expected and self.cells == columns


@contextmanager
def _xterm(running: Desktop, _home: AgentHome) -> Iterator[None]:
    with running.start("xterm", "-e", "cat") as process:
        yield
        process.terminate()


APPLICATIONS: Final = {
    "xterm": Application("xterm", _xterm),
    "GTK 3": Application("form", lambda running, _home: form(running, "gtk")),
    "Qt 5": Application("form", lambda running, _home: form(running, "qt")),
    "Chromium": Application("chromium", lambda running, home: browser(running, "chromium", home)),
    "Firefox ESR": Application(
        "firefox-esr", lambda running, home: browser(running, "firefox-esr", home)
    ),
}


@contextmanager
def working(running: Desktop, home: AgentHome) -> Iterator[Captured]:
    """Capture of key classes and the pointer; in a terminal too, as the person chose."""
    with capturing(home, running, "xterm", level=ContentLevel.CLASSES, motion=True) as captured:
        yield captured


def work_in(name: str, running: Desktop, captured: Captured) -> Result:
    """Open an application, have the events in it and wait until they are stored."""
    application = APPLICATIONS[name]
    with application.open(running, captured.home):
        _wait_until_allowed(running, captured, application.app)
        running.person.maximise()
        running.person.move(0, HEIGHT // 2)
        time.sleep(1.0)  # apart in time from what was before, to a quarter of a second
        began_ns = time.time_ns() - 250 * 10**6
        expected = _stream(running, application.app)

        until = time.monotonic() + 60
        while True:
            events = [event for event in captured.events() if event.wall_ns >= began_ns]
            kept = [(e.kind, e.app, e.key or e.dy) for e in events if e.kind in _STORED]
            if len(kept) >= len(expected) or time.monotonic() > until:
                cells = [event.x for event in events if event.kind is EventKind.POINTER_MOVE]
                return Result(expected, kept, cells)
            time.sleep(0.5)


def _wait_until_allowed(running: Desktop, captured: Captured, app: str) -> None:
    """Until capture knows whose the keyboard is and that typing is not denied there."""
    began_ns = time.time_ns()

    def is_stored() -> bool:
        running.person.press("e")
        time.sleep(0.5)
        return any(
            event.kind is EventKind.KEY_DOWN and event.app == app and event.wall_ns >= began_ns
            for event in captured.events()
        )

    wait_for(is_stored, f"typing in {app} is stored")


def _stream(running: Desktop, app: str) -> list[Stored]:
    """The events; what must be stored of them besides the pointer's cells."""
    person, choice = running.person, random.Random(6)
    expected: list[Stored] = []
    began = time.monotonic()
    for step in range(STEPS):
        for motion in range(MOTIONS):
            person.fake(MOTION, 0, step * MOTIONS + motion, HEIGHT // 2)
        key = choice.choice(list(_CLASSES))
        button = choice.choice(list(_NOTCHES))
        for kind, detail in (
            (KEY_DOWN, CODES[key]),
            (KEY_UP, CODES[key]),
            (BUTTON_DOWN, button),
            (BUTTON_UP, button),
        ):
            person.fake(kind, detail)
        person.flush()
        expected.append((EventKind.KEY_DOWN, app, _CLASSES[key]))
        expected.append((EventKind.SCROLL, app, _NOTCHES[button]))
        time.sleep(max(0.0, began + (step + 1) * STEP_SECONDS - time.monotonic()))
    return expected


def main(names: Sequence[str]) -> None:
    """Print what became of the events, a row of JSON for each application."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        home = AgentHome(Path(directory) / "home")
        with desktop(Path(directory)) as running, working(running, home) as captured:
            for name in names:
                result = work_in(name, running, captured)
                row = {
                    "application": name,
                    "events": EVENTS,
                    "must_be_stored": len(result.expected) + CELLS - 1,
                    "stored": len(result.stored) + len(result.cells),
                    "each_once_and_in_order": result.complete,
                }
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or tuple(APPLICATIONS))
