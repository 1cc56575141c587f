"""What capture did not keep, counted by rule and day: `dropped.json` beside the segments.

    {"2026-11-23": {"shape of a secret": 31, "excluded application": 12}}

A day is one of the person's own calendar; a rule is a name from the program's text, never
content.
"""

import os
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Final

import msgspec

_FILE: Final = "dropped.json"

Counts = dict[date, dict[str, int]]


def add_dropped(store: Path, day: date, counts: Mapping[str, int]) -> None:
    """Add to a day's counts by rule."""
    known = read_dropped(store)
    rules = known.setdefault(day, {})
    for rule, count in counts.items():
        rules[rule] = rules.get(rule, 0) + count
    new = store / (_FILE + ".part")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(known))
    new.replace(store / _FILE)


def read_dropped(store: Path) -> Counts:
    """Every day's counts by rule; none if there is no file, or it is damaged."""
    try:
        return msgspec.json.decode((store / _FILE).read_bytes(), type=Counts)
    except (FileNotFoundError, msgspec.MsgspecError):
        return {}
