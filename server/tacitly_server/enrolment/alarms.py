"""Devices whose own ledger contradicts the population ledger: one JSON line for each.

    {"time", "kind", "node", "attempts", "charged"}

| kind        | the device says                                                              |
|-------------|------------------------------------------------------------------------------|
| ahead       | it paid for more attempts than its person was charged for: the population    |
|             | ledger lost charges, or somebody spent the device's budget past it            |
| rolled_back | it paid for fewer attempts than it said before: its ledger was put back       |

The operator's file names the node. Officers are told how many and since when, and nothing of a
person.
"""

import os
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import msgspec

from tacitly_common.errors import UNDECODABLE


class AlarmKind(StrEnum):
    """See the module's table."""

    AHEAD = "ahead"
    ROLLED_BACK = "rolled_back"


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """A contradiction. `charged` is what the device's attempts were compared with."""

    time: datetime
    kind: AlarmKind
    node: str
    attempts: int
    charged: int


_MEANING = {
    AlarmKind.AHEAD: "devices that paid for more attempts than the population ledger charged",
    AlarmKind.ROLLED_BACK: "devices whose ledger was put back to an earlier state",
}


def raise_alarm(path: Path, alarm: Alarm) -> None:
    """Append a line. Durable on return.

    Raises:
        OSError: full disk, no permission.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "ab") as stream:
        # Begins with a line's end: what a crash tore before it stays a line of its own.
        stream.write(b"\n" + msgspec.json.encode(alarm) + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def read_alarms(path: Path) -> list[Alarm]:
    """Every alarm. A line that a crash tore, or a hand damaged, is left out."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    alarms = []
    for line in lines:
        try:
            alarms.append(msgspec.json.decode(line, type=Alarm))
        except UNDECODABLE:
            continue
    return alarms


def told_to_officers(alarms: list[Alarm]) -> list[str]:
    """One line for each kind that there is."""
    lines = []
    for kind in AlarmKind:
        of_kind = [alarm for alarm in alarms if alarm.kind is kind]
        if of_kind:
            times = [alarm.time for alarm in of_kind]
            nodes = len({alarm.node for alarm in of_kind})
            lines.append(
                f"{_MEANING[kind]}: {nodes} (first {min(times):%Y-%m-%d %H:%M} UTC, last "
                f"{max(times):%Y-%m-%d %H:%M} UTC); the operator's alarms.jsonl says which"
            )
    return lines
