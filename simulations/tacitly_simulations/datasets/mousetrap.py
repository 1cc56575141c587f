"""Kieslich & Henninger (2017): pointer paths that end with a click on one of two buttons.

A trial is a session. A sample (every 10 ms) whose position differs from the one before is a
pointer_move, the last sample also a button_down (left). Time is the experiment's own clock:
wall time counts from its start, not from 1970. Positions are fractions of the 1680 x 1050 screen.
"""

import csv
import gzip
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from tacitly_common.events import Event, EventKind
from tacitly_simulations.datasets.person import MS, Person, reading

_WIDTH_PX: Final = 1680
_HEIGHT_PX: Final = 1050
_NUMBERS: Final = msgspec.json.Decoder(list[float])


def load(directory: Path) -> Iterator[Person]:
    """40 subjects by number, 19 trials each."""
    path = directory / "KH2017_raw.csv.gz"
    trials: dict[int, dict[int, tuple[Event, ...]]] = defaultdict(dict)
    with reading(path), gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            trials[int(row["subject_nr"])][int(row["count_trial"])] = tuple(_events(row))
    for subject in sorted(trials):
        yield Person(str(subject), tuple(trials[subject][n] for n in sorted(trials[subject])))


def _events(row: dict[str, str]) -> Iterator[Event]:
    times_ms, xs, ys = (
        _NUMBERS.decode(row[f"{name}_get_response"]) for name in ("timestamps", "xpos", "ypos")
    )
    samples = list(zip(times_ms, xs, ys, strict=True))
    previous: tuple[float, float] | None = None
    for ms, x, y in samples:
        if (x, y) != previous:
            yield _event(EventKind.POINTER_MOVE, ms, x, y, since_ms=times_ms[0])
        previous = x, y
    yield _event(EventKind.BUTTON_DOWN, *samples[-1], since_ms=times_ms[0])


def _event(kind: EventKind, ms: float, x: float, y: float, *, since_ms: float) -> Event:
    return Event(
        kind,
        round((ms - since_ms) * MS),
        round(ms * MS),
        button=1 if kind is EventKind.BUTTON_DOWN else 0,
        x=x / _WIDTH_PX + 0.5,  # (0, 0) is the screen's centre
        y=y / _HEIGHT_PX + 0.5,
    )
