"""What came back of one attempt, masked or not."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tacitly_server.rounds.receipts import PhaseTraffic


@dataclass(slots=True)
class Answers:
    """The integer sum of the usable updates, int64[coordinates], and how many they are.

    `phases` and `groups` are a masked attempt's; `groups_unmasked` counts those whose sum was seen.
    """

    total: NDArray[np.int64]
    usable: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    bytes_up: int = 0
    bytes_down: int = 0
    phases: dict[str, PhaseTraffic] = field(default_factory=dict)
    groups: int = 0
    groups_unmasked: int = 0
