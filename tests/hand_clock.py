"""A clock that a test moves."""

from dataclasses import dataclass

SECOND = 10**9


@dataclass
class HandClock:
    """Both times in nanoseconds, moved by hand."""

    monotonic: int = 1_000 * SECOND
    wall: int = 1_700_000_000 * SECOND

    def monotonic_ns(self) -> int:
        return self.monotonic

    def wall_ns(self) -> int:
        return self.wall

    def pass_(self, seconds: float) -> None:
        """Time passes on both."""
        self.monotonic += round(seconds * SECOND)
        self.wall += round(seconds * SECOND)
