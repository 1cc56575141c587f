"""The phases of a masked attempt, and by when each of them is over."""

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final


class Phase(IntEnum):
    """What a message of a masked attempt is for, in the order in which they come."""

    ADVERTISE = 1
    SHARE = 2
    UPLOAD = 3
    CONFIRM = 4
    UNMASK = 5


# The share of the round's time after which nobody's answer in the phase is waited for any longer.
# What a phase leaves over goes to the next; training has the most.
ENDS_AT: Final[Mapping[Phase, float]] = MappingProxyType(
    {
        Phase.ADVERTISE: 0.2,
        Phase.SHARE: 0.35,
        Phase.UPLOAD: 0.75,
        Phase.CONFIRM: 0.875,
        Phase.UNMASK: 1.0,
    }
)
