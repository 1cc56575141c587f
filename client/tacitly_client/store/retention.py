"""How long events are kept, and by which clock.

A wall clock can be wrong by years, so a day's age is not what its date says. The store keeps a
clock of its own that only goes forward, `ages.json`:

| what happened since the last look               | the store's clock goes on by                |
|-------------------------------------------------|---------------------------------------------|
| the machine ran on (asleep or not)              | the time since then of the clock that       |
|                                                 | counts from the machine's start             |
| the machine was started anew                    | the wall clock's step if that is at most    |
|                                                 | 30 days; at least the time since the start  |
| then the wall clock went back, or further ahead | the time since the start                    |

A day's age counts from the look before the one that first found it: it may go up to one look
early (looks are an hour apart) and never late. So a clock that jumps, either way and however far,
neither keeps events for ever nor wipes what is young. The price: after more than 30 days
switched off, events may stay for up to the cap of running time more.
"""

import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import msgspec

from tacitly_client.capture.clock import boot_id
from tacitly_client.files import write_whole
from tacitly_client.store.days import DAY_NS
from tacitly_common.errors import UNDECODABLE
from tacitly_common.validation import positive

AGES_FILE: Final = "ages.json"
_LONGEST_OFF_NS: Final = 30 * DAY_NS


class RetentionPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long events are kept.

    | field                 | meaning                                                          |
    |-----------------------|------------------------------------------------------------------|
    | cap_days              | no day's events are kept longer, used or not                     |
    | delete_after_training | a day that is over goes once a released update was trained on it |
    | max_bytes             | beyond it the oldest segments go                                 |
    """

    cap_days: int = 7
    delete_after_training: bool = True
    max_bytes: int = 256 * 2**20

    def __post_init__(self) -> None:
        positive(cap_days=self.cap_days, max_bytes=self.max_bytes)

    def in_words(self) -> str:
        """For people."""
        trained = ", and a day that is over no longer than until a campaign has learned from it"
        return (
            f"for at most {self.cap_days} days{trained if self.delete_after_training else ''}; "
            f"beyond {self.max_bytes / 2**20:,.0f} MiB the oldest go first"
        )


@dataclass(frozen=True, slots=True)
class Instant:
    """A reading of this machine's clocks.

    | field      | meaning                                                      |
    |------------|--------------------------------------------------------------|
    | wall_ns    | nanoseconds since 1970 UTC, as far as the machine knows      |
    | running_ns | nanoseconds since the machine started, sleep included        |
    | boot       | which start that was; "" where the system does not say       |
    """

    wall_ns: int
    running_ns: int
    boot: str

    @classmethod
    def now(cls) -> Self:
        """What the clocks say."""
        clock = time.CLOCK_BOOTTIME if sys.platform == "linux" else time.CLOCK_MONOTONIC
        return cls(time.time_ns(), time.clock_gettime_ns(clock), boot_id())


class Ages(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`ages.json`: the store's clock, when each day was first found on it, what was trained on."""

    lived_ns: int
    wall_ns: int
    running_ns: int
    boot: str
    first_seen_ns: dict[str, int] = {}
    trained: tuple[str, ...] = ()

    @classmethod
    def begin(cls, at: Instant) -> Self:
        """The clock of a new store."""
        return cls(lived_ns=0, wall_ns=at.wall_ns, running_ns=at.running_ns, boot=at.boot)

    def looked(self, at: Instant, days: Collection[str]) -> Self:
        """The same after a look that found these days, by name."""
        lived_ns = self.lived_ns + self._elapsed_ns(at)
        return msgspec.structs.replace(
            self,
            lived_ns=lived_ns,
            wall_ns=at.wall_ns,
            running_ns=at.running_ns,
            boot=at.boot,
            first_seen_ns={day: self.first_seen_ns.get(day, self.lived_ns) for day in days},
            trained=tuple(day for day in self.trained if day in days),
        )

    def expired(self, policy: RetentionPolicy) -> set[str]:
        """The days whose time has come."""
        born_before_ns = self.lived_ns - policy.cap_days * DAY_NS
        old = {day for day, seen_ns in self.first_seen_ns.items() if seen_ns <= born_before_ns}
        return old | (set(self.trained) if policy.delete_after_training else set())

    def _elapsed_ns(self, at: Instant) -> int:
        ran_ns = at.running_ns - self.running_ns
        if at.boot == self.boot and ran_ns >= 0:
            return ran_ns
        step_ns = at.wall_ns - self.wall_ns
        return max(at.running_ns, step_ns if step_ns <= _LONGEST_OFF_NS else 0)


def read_ages(store: Path, at: Instant) -> Ages:
    """A store's clock; begun anew if it is missing or damaged, which keeps events a cap longer."""
    try:
        return msgspec.json.decode((store / AGES_FILE).read_bytes(), type=Ages)
    except (FileNotFoundError, *UNDECODABLE):
        return Ages.begin(at)


def write_ages(store: Path, ages: Ages) -> None:
    """Keep a store's clock; all or nothing."""
    write_whole(store / AGES_FILE, msgspec.json.encode(ages))
