"""When a trainer may run: while nobody would notice. A pure decision over what the machine says.

| what                     | a trainer may begin           | may go on     | not known            |
|--------------------------|-------------------------------|---------------|----------------------|
| the person's last input  | five minutes ago              | the same      | somebody is there    |
| power                    | from the mains                | the same      | no battery: mains    |
| network                  | not metered                   | the same      | not metered          |
| load (1 min) a processor | below 0.5                     | below 1.5     | not busy             |

The load's limits differ because a trainer is part of the load: it would stop itself.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

IDLE_SECONDS: Final = 300.0
BEGIN_LOAD: Final = 0.5
GO_ON_LOAD: Final = 1.5


class Hindrance(StrEnum):
    """Why no trainer may run now."""

    PRESENT = "you are at work, or were a moment ago"
    UNKNOWN_PRESENCE = "it cannot be told whether you are at work"
    BATTERY = "the machine runs on its battery"
    METERED = "the network is metered"
    BUSY = "the machine is busy"
    NOT_SET_UP = "no agent is set up here"


@dataclass(frozen=True, slots=True)
class Reading:
    """What the machine says; None: not known. `load` is the load average for each processor."""

    idle_seconds: float | None
    on_mains: bool | None
    metered: bool | None
    load: float | None


def hindrances(reading: Reading, *, training: bool) -> tuple[Hindrance, ...]:
    """Why no trainer may begin, or go on if `training`; none: it may."""
    idle, limit = reading.idle_seconds, GO_ON_LOAD if training else BEGIN_LOAD
    # `not <`: a number that is none (NaN) hinders too.
    found = {
        Hindrance.UNKNOWN_PRESENCE: idle is None,
        Hindrance.PRESENT: idle is not None and not idle >= IDLE_SECONDS,
        Hindrance.BATTERY: reading.on_mains is False,
        Hindrance.METERED: reading.metered is True,
        Hindrance.BUSY: reading.load is not None and not reading.load < limit,
    }
    return tuple(hindrance for hindrance, there in found.items() if there)
