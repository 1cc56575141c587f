"""AdSERP sample (Latifzadeh, Gwizdka, Leiva 2025): pointer logs of search-result pages.

| row                             | event                                                        |
|---------------------------------|--------------------------------------------------------------|
| mousemove, mousedown, mouseup   | pointer_move, button_down, button_up (left: the log names no |
|                                 | button)                                                      |
| scroll (the page's new offset)  | scroll by the change, in notches of 100 px                   |
| focus, blur                     | focus on the browser, on something unknown                   |
| wheel, click, mouseover, ...    | none: they repeat one of the above                           |

Positions are page coordinates; less the page's offset and divided by the window's size they
are fractions of the window, which filled the screen.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tacitly_common.events import Event, EventKind
from tacitly_simulations.datasets.person import MS, Person, reading

_BROWSER: Final = "chrome"
_NOTCH_PX: Final = 100
_WINDOW: Final = re.compile(r"<window>(\d+)x(\d+)</window>")
_POINTER: Final = {
    "mousemove": EventKind.POINTER_MOVE,
    "mousedown": EventKind.BUTTON_DOWN,
    "mouseup": EventKind.BUTTON_UP,
}


def load(directory: Path) -> Iterator[Person]:
    """10 participants, one session each."""
    folder = directory / "mouse-movement-data"
    with reading(folder):
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".csv")
    for path in paths:
        size = _window_px(directory / "trial-metadata" / f"{path.stem}.xml")
        with reading(path), path.open(encoding="utf-8", newline="") as file:
            session = tuple(_events(csv.DictReader(file), *size))
        yield Person(path.stem.split("-")[0], (session,))


def _window_px(path: Path) -> tuple[int, int]:
    with reading(path):
        found = _WINDOW.search(path.read_text(encoding="utf-8"))
        if found is None:
            raise ValueError("no window size")
        return int(found[1]), int(found[2])


def _events(rows: Iterator[dict[str, str]], width: int, height: int) -> Iterator[Event]:
    started_ms: int | None = None
    left = top = 0.0  # the page's offset, px
    for row in rows:
        wall_ms, x, y, name = (
            int(row["timestamp"]),
            float(row["xpos"]),
            float(row["ypos"]),
            row["event"],
        )
        started_ms = wall_ms if started_ms is None else started_ms
        monotonic_ns, wall_ns = (wall_ms - started_ms) * MS, wall_ms * MS
        if kind := _POINTER.get(name):
            yield Event(
                kind,
                monotonic_ns,
                wall_ns,
                button=0 if kind is EventKind.POINTER_MOVE else 1,
                x=min(max((x - left) / width, 0.0), 1.0),
                y=min(max((y - top) / height, 0.0), 1.0),
                app=_BROWSER,
            )
        elif name == "scroll" and (x, y) != (left, top):
            dx, dy = (x - left) / _NOTCH_PX, (y - top) / _NOTCH_PX
            left, top = x, y
            yield Event(EventKind.SCROLL, monotonic_ns, wall_ns, dx=dx, dy=dy, app=_BROWSER)
        elif name in ("focus", "blur"):
            app = _BROWSER if name == "focus" else ""
            yield Event(EventKind.FOCUS, monotonic_ns, wall_ns, app=app)
