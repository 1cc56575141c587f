"""Every simulated client's windows in one file, mapped into memory: a round's cost is its cohort's.

    write_clients(path, windows_of_each_person)
    clients = SimulatedClients(path, count=100_000, seed=1)
    clients.counts            # int64[clients]: how many windows each has
    clients.open().windows(7) # int64[n, window_tokens + 1]

Clients 0..persons-1 are the recorded persons. Those beyond are *resampled*: each is a recorded
person drawn at random, with as many of that person's windows drawn with replacement. They are no
more people than were recorded: what a study says of them is labelled so.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tacitly_common.errors import ValidationError

_RESAMPLED: Final = 1_001  # keeps this stream of seeds from every other
_TOKEN: Final = np.dtype("<u2")  # a vocabulary has at most 65,536 tokens


def write_clients(path: Path, windows: Iterable[NDArray[np.int64]]) -> None:
    """Write each person's windows, int64[n, window_tokens + 1], to `path` and `path`.ends."""
    rows = list(windows)
    np.save(_ends(path), np.cumsum([len(of_person) for of_person in rows]))
    np.save(path, np.concatenate(rows).astype(_TOKEN))


@dataclass(frozen=True)
class SimulatedClients:
    """Who may take part; holds a few numbers a client and no windows."""

    path: Path
    count: int
    seed: int

    def __post_init__(self) -> None:
        if self.count < self.persons:
            raise ValidationError(
                f"a population of {self.count} is smaller than the {self.persons} persons recorded"
            )

    @property
    def persons(self) -> int:
        """How many of them were recorded."""
        return len(self._ends)

    @cached_property
    def sources(self) -> NDArray[np.int32]:
        """The recorded person behind each client."""
        rng = np.random.default_rng((self.seed, _RESAMPLED))
        drawn = rng.integers(self.persons, size=self.count - self.persons, dtype=np.int32)
        return np.concatenate([np.arange(self.persons, dtype=np.int32), drawn])

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """How many windows each client has."""
        return np.diff(self._ends, prepend=0)[self.sources]

    def open(self) -> "OpenClients":
        """Map the file. Cheap: nothing is read."""
        # As a plain array: a `memmap` would be copied where another process is given it.
        return OpenClients(self, np.load(self.path, mmap_mode="r").view(np.ndarray))

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        ends: NDArray[np.int64] = np.load(_ends(self.path))
        return ends

    def span(self, client: int) -> slice:
        """Where the windows of the person behind `client` lie."""
        person = int(self.sources[client])
        return slice(int(self._ends[person - 1]) if person else 0, int(self._ends[person]))


@dataclass(frozen=True)
class OpenClients:
    """The clients with their windows at hand. `rows` is the mapped file."""

    clients: SimulatedClients
    rows: NDArray[np.uint16]

    def windows(self, client: int) -> NDArray[np.int64]:
        """int64[n, window_tokens + 1], the same at every call."""
        own = self.rows[self.clients.span(client)].astype(np.int64)
        if client < self.clients.persons or not len(own):
            return own
        rng = np.random.default_rng((self.clients.seed, _RESAMPLED, client))
        return own[rng.integers(len(own), size=len(own))]


def _ends(path: Path) -> Path:
    return path.with_name(f"{path.name}.ends.npy")
