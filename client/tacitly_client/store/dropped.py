"""What capture did not keep, counted by rule and day: `dropped.json`.

    {"2026-11-23": {"secret field": 31, "excluded application": 12}}

A day is one of the person's own calendar. A rule is a name from the program's text, never
content. The counts are for the person's eyes (`tacitly-agent show`) and leave by no way. A day's
go with its events.
"""

from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Final

import msgspec

from tacitly_client.files import write_whole
from tacitly_client.store.disk import locked, shred
from tacitly_common.errors import UNDECODABLE

_FILE: Final = "dropped.json"

Counts = dict[date, dict[str, int]]


def add_dropped(store: Path, day: date, counts: Mapping[str, int]) -> None:
    """Add to a day's counts by rule. For the one capture process: two would lose counts.

    Raises:
        OSError: it could not be written; the counts are as they were.
    """
    with locked(store, shared=True):
        known = read_dropped(store)
        rules = known.setdefault(day, {})
        for rule, count in counts.items():
            rules[rule] = rules.get(rule, 0) + count
        _write(store, known)


def read_dropped(store: Path) -> Counts:
    """Every day's counts by rule; none if there is no file, or it is damaged."""
    try:
        return msgspec.json.decode((store / _FILE).read_bytes(), type=Counts)
    except (FileNotFoundError, *UNDECODABLE):
        return {}


def forget_dropped(store: Path, which: Callable[[date], bool]) -> None:
    """Remove the counts of days. The caller holds the store's lock alone."""
    known = read_dropped(store)
    kept = {day: counts for day, counts in known.items() if not which(day)}
    if kept != known:
        shred(store / _FILE)
        if kept:
            _write(store, kept)


def _write(store: Path, counts: Counts) -> None:
    write_whole(store / _FILE, msgspec.json.encode(counts))
