"""Removing what a store's retention policy keeps no longer, and noting what was trained on."""

from collections.abc import Collection
from datetime import date
from pathlib import Path

import msgspec

from tacitly_client.files import PARTIAL_SUFFIX
from tacitly_client.store.days import SEGMENTS, day_at, day_directories, live_segments
from tacitly_client.store.disk import locked, shred
from tacitly_client.store.dropped import forget_dropped, read_dropped
from tacitly_client.store.erasure import erase, is_pending
from tacitly_client.store.layout import read_layout
from tacitly_client.store.retention import Ages, Instant, read_ages, write_ages


def expire(store: Path, at: Instant | None = None) -> int:
    """Remove what the policy keeps no longer; the number of segments removed.

    To be called before anything else at start and once an hour, whether or not anything is
    captured. Finishes an erasure that was cut short. `at`: what the clocks say, if not now.

    Raises:
        StoreError, OSError: not finished, as of `erasure.erase`; the segments are gone all the
            same. Or there is no store.
    """
    at = at or Instant.now()
    with locked(store):
        policy = read_layout(store).retention
        for unfinished in store.glob(f"*{PARTIAL_SUFFIX}"):
            shred(unfinished)  # of a killed process: whoever writes one holds the lock
        ages = read_ages(store, at).looked(at, _named_days(store))
        expired = ages.expired(policy)
        forget_dropped(store, lambda day: day.isoformat() in expired)
        doomed = _segments_of(store, expired) + _beyond(store, policy.max_bytes, ages, expired)
        removed = 0
        if doomed or is_pending(store):
            removed = erase(store, segments=doomed, at_ns=at.wall_ns).segments
        write_ages(store, ages.looked(at, _named_days(store)))
        return removed


def mark_trained(store: Path, days: Collection[date], at: Instant | None = None) -> None:
    """A campaign has learned what it will from these UTC days: they may go (`RetentionPolicy`).

    Days that are not over are left out: what is still to come has not been used.
    """
    at = at or Instant.now()
    with locked(store):
        ages = read_ages(store, at)
        stored, today = _named_days(store), day_at(at.wall_ns)
        over = {day.isoformat() for day in days if day < today} & stored
        trained = tuple(sorted({*ages.trained, *over}))
        write_ages(store, msgspec.structs.replace(ages, trained=trained))


def _named_days(store: Path) -> set[str]:
    """The days of which events are stored, or counts of what was dropped."""
    stored = [day for day, _ in day_directories(store)]
    return {day.isoformat() for day in [*stored, *read_dropped(store)]}


def _segments_of(store: Path, days: Collection[str]) -> list[str]:
    root = store / SEGMENTS
    return [f"{day}/{path.name}" for day in sorted(days) for path in (root / day).glob("*.seg")]


def _beyond(store: Path, max_bytes: int, ages: Ages, without: Collection[str]) -> list[str]:
    """The oldest segments, by what the store's clock and then the file says."""
    by_age = sorted(
        (ages.first_seen_ns[day.isoformat()], status.st_mtime_ns, status.st_size, day, path)
        for day, directory in day_directories(store)
        if day.isoformat() not in without
        for path in live_segments(directory)
        for status in [path.stat()]
    )
    excess = sum(entry[2] for entry in by_age) - max_bytes
    doomed = []
    for _, _, size, day, path in by_age:
        if excess <= 0:
            break
        doomed.append(f"{day}/{path.name}")
        excess -= size
    return doomed
