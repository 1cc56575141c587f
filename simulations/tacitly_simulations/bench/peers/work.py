"""The work that every peer does, and how it is reported. Needs numpy alone."""

import json
import resource
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

VOCABULARY: Final = 96
EMBEDDING: Final = 32
HIDDEN: Final = 128
WINDOW: Final = 32
WINDOWS: Final = 32
BATCH: Final = 16
LEARNING_RATE: Final = 0.5
CLIP_NORM: Final = 1.0
NOISE_MULTIPLIER: Final = 1.0


def all_windows(cohort: int) -> NDArray[np.int64]:
    """The tokens of every client, START first: int64[cohort, WINDOWS, WINDOW + 1]."""
    rows = np.random.default_rng(0).integers(1, VOCABULARY, (cohort, WINDOWS, WINDOW + 1))
    rows[:, :, 0] = 0
    return rows


@dataclass(slots=True)
class Clock:
    """A peer's rounds from the start of its process, imports and compiling included."""

    way: str
    cohort: int
    ends: list[tuple[float, float]] = field(default_factory=list)

    def end_round(self) -> None:
        """A round is finished."""
        self.ends.append((time.time() - _process_began(), time.process_time()))

    def report(self) -> None:
        """Print one line of JSON, with the fields of `bench/engines.py`."""
        rounds, later = len(self.ends), len(self.ends) - 1
        (first, first_cpu), (last, last_cpu) = self.ends[0], self.ends[-1]
        document = {
            "way": self.way,
            "cohort": self.cohort,
            "rounds": rounds,
            "client_rounds_a_second": self.cohort * rounds / last,
            "cpu_ms_a_client_round": 1e3 * last_cpu / (self.cohort * rounds),
            "first_round_seconds": first,
            "later_client_rounds_a_second": self.cohort * later / (last - first),
            "later_cpu_ms_a_client_round": 1e3 * (last_cpu - first_cpu) / (self.cohort * later),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        }
        print(json.dumps(document))


def _process_began() -> float:
    """In seconds since the epoch."""
    ticks = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    lines = Path("/proc/stat").read_text().splitlines()
    boot = next(int(line.split()[1]) for line in lines if line.startswith("btime"))
    return boot + int(ticks) / 100
