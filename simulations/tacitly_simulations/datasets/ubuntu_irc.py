"""Ubuntu IRC help channels (Kummerfeld et al. 2019): chat messages by nickname.

A message is its characters and Enter, at the time the log has for it (see `typed`: whole
lines were recorded, no key timing). A day's file is a session of each nickname in it. Bots, by
the data set's own list, are no persons and left out; so are actions and notices.
"""

import re
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tacitly_common.events import Event
from tacitly_simulations.datasets.person import SECOND, Person, reading, typed

_MESSAGE: Final = re.compile(r"\[(\d\d):(\d\d)(?::(\d\d))?\] <([^>]*)> ?(.*)")
_BOT: Final = re.compile(r"ubottu|ubotu|ubot.*|wikibugs|.*bot", re.IGNORECASE)

_Line = tuple[int, str]  # wall time in ns, text


def load(directory: Path) -> Iterator[Person]:
    """15,710 nicknames. Lines are held in memory, events made person by person."""
    path = directory / "ubuntu-train-raw.tar.xz"
    days: dict[str, list[list[_Line]]] = defaultdict(list)
    with reading(path), tarfile.open(path, "r:xz") as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            file = archive.extractfile(member)
            if file is not None:
                day = _day(member.name, file.read().decode())
                for nickname, lines in day.items():
                    days[nickname].append(lines)
    for nickname in sorted(days):
        yield Person(nickname, tuple(tuple(_events(lines)) for lines in days[nickname]))


def _day(name: str, log: str) -> dict[str, list[_Line]]:
    midnight = datetime.strptime(name[:10], "%Y-%m-%d").replace(tzinfo=UTC)
    lines: dict[str, list[_Line]] = defaultdict(list)
    now = 0
    for match in map(_MESSAGE.fullmatch, log.split("\n")):
        if match is None or _BOT.fullmatch(match[4]):
            continue
        seconds = int(match[1]) * 3600 + int(match[2]) * 60 + int(match[3] or 0)
        # The order in the file is the order in time, also where a clock was set back.
        now = max(now, (int(midnight.timestamp()) + seconds) * SECOND)
        lines[match[4].strip()].append((now, match[5]))
    return lines


def _events(lines: list[_Line]) -> Iterator[Event]:
    started = free = lines[0][0]
    for logged, text in lines:
        line = f"{text}\n"
        wall = max(logged, free)
        free = wall + len(line) * 1_000  # a second message in one minute follows the first
        yield from typed(line, wall_ns=wall, started_ns=started)
