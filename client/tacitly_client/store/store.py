"""The directory of segments, one sub-directory for each UTC day of capture.

    STORE/store.key  store.pub
    STORE/segments/2026-11-23/<uuid>.seg
    STORE/segments/2026-11-23/<uuid>.<uuid it replaces>.seg     after a partial erasure

Erasing part of a segment writes the survivors to a new one that names the old, then removes
the old: whichever moment a crash picks, one of the two counts and no event doubles. Another
process that was appending to an erased file goes on in a fresh one.
"""

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import date
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tacitly_client.store.keys import FileKey, KeyCustody, SealingKey
from tacitly_client.store.segment import (
    Damage,
    SegmentWriter,
    StoreError,
    locked,
    read_segment,
    sync_directory,
)
from tacitly_common.errors import TacitlyError, ValidationError
from tacitly_common.events import Event

_FRAME_EVENTS: Final = 1_024
_SHRED_BYTES: Final = 2**20
_DAY_NS: Final = 86_400 * 10**9
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_ALWAYS_NS: Final = 10_000 * 366 * _DAY_NS  # beyond every date that has a day


def raise_damage(damage: Damage) -> None:
    """The default answer to damage: stop and say where."""
    raise StoreError(f"{damage}; everything else is readable")


class EventStore:
    """Encrypted events of one person. A context manager; safe with several processes."""

    def __init__(self, directory: Path, custody: KeyCustody) -> None:
        self._segments = directory / "segments"
        self._custody = custody
        self._writers: dict[date, SegmentWriter] = {}

    @classmethod
    def create(cls, directory: Path) -> Self:
        """A new, empty store with a fresh key in a file.

        Raises:
            StoreError: a store is there already.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        custody = FileKey(directory)
        custody.create()
        (directory / "segments").mkdir(mode=0o700)
        sync_directory(directory)
        sync_directory(directory.parent)
        return cls(directory, custody)

    @classmethod
    def open(cls, directory: Path) -> Self:
        """An existing store. Finishes an erasure that a crash cut short.

        Raises:
            StoreError: none there.
        """
        _check_exists(directory)
        store = cls(directory, FileKey(directory))
        for day in store._days(*_bounds(None, None)):
            for path in set(day.glob("*.seg")) - set(_live(day)):
                _shred(path)
        return store

    @classmethod
    def open_to_append(cls, directory: Path) -> Self:
        """An existing store, for a process that must not read it: holds the public key alone.

        Raises:
            StoreError: none there.
        """
        _check_exists(directory)
        return cls(directory, SealingKey(directory))

    def append(self, events: Sequence[Event]) -> None:
        """Store events; durable on return.

        Raises:
            StoreError, ValidationError: could not be written. Frames of at most 1,024 events
                before the failing one are stored.
        """
        for day, group in groupby(events, key=_day):
            batch = list(group)
            for start in range(0, len(batch), _FRAME_EVENTS):
                self._append_frame(day, batch[start : start + _FRAME_EVENTS])

    def events(
        self,
        since_ns: int | None = None,
        until_ns: int | None = None,
        *,
        on_damage: Callable[[Damage], None] = raise_damage,
    ) -> Iterator[Event]:
        """Events with since_ns <= wall_ns < until_ns in order of wall time, a day in memory.

        Raises:
            StoreError: sealed to another key, or `on_damage` raised it.
        """
        low, high = _bounds(since_ns, until_ns)
        for directory in self._days(low, high):
            day = [e for path in _live(directory) for e in self._read(path, on_damage)]
            day.sort(key=lambda event: event.wall_ns)
            yield from (event for event in day if low <= event.wall_ns < high)

    def count(self, *, on_damage: Callable[[Damage], None] = raise_damage) -> int:
        """Number of stored events."""
        return sum(1 for _ in self.events(on_damage=on_damage))

    def erase(self, since_ns: int | None = None, until_ns: int | None = None) -> int:
        """Remove the events with since_ns <= wall_ns < until_ns; the number removed.

        Unreadable frames of a touched segment go too: what cannot be read cannot be spared.
        The old files are overwritten before they are unlinked, which reaches the disk's own
        copies only where the file system and the medium write in place.
        """
        self.close()
        low, high = _bounds(since_ns, until_ns)
        for unfinished in self._segments.glob("*/*.part"):
            _shred(unfinished)
        erased = 0
        for directory in self._days(low, high):
            for path in _live(directory):
                # Gone already: another process erases too.
                with suppress(FileNotFoundError), path.open("rb") as file, locked(file):
                    erased += self._erase_in(path, low, high)
            # An empty day would still tell that this person was active on it.
            with suppress(OSError):
                directory.rmdir()
        sync_directory(self._segments)
        return erased

    def close(self) -> None:
        """Close the open segments; the next append starts fresh ones."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _append_frame(self, day: date, events: Sequence[Event]) -> None:
        try:
            while not self._writer(day).append(events):
                self._writers.pop(day).close()
        except TacitlyError:
            if day in self._writers:
                self._writers.pop(day).close()
            raise

    def _erase_in(self, path: Path, low: int, high: int) -> int:
        events = list(self._read(path, lambda _damage: None))
        kept = [event for event in events if not low <= event.wall_ns < high]
        if len(kept) == len(events) and events:
            return 0
        if kept:
            self._write_replacement(path, kept)
        _shred(path)
        return len(events) - len(kept)

    def _writer(self, day: date) -> SegmentWriter:
        if day not in self._writers:
            directory = self._segments / day.isoformat()
            with suppress(FileExistsError):
                directory.mkdir(mode=0o700)
                sync_directory(self._segments)
            path = directory / f"{uuid.uuid4().hex}.seg"
            self._writers[day] = SegmentWriter(path, self._custody.public_key())
        return self._writers[day]

    def _write_replacement(self, old: Path, events: Sequence[Event]) -> None:
        # Complete under another suffix first: a half-written replacement must not count.
        new = old.with_name(f"{uuid.uuid4().hex}.{old.name.split('.')[0]}.part")
        writer = SegmentWriter(new, self._custody.public_key())
        for start in range(0, len(events), _FRAME_EVENTS):
            writer.append(events[start : start + _FRAME_EVENTS])
        writer.close()
        new.rename(new.with_suffix(".seg"))
        # Before the old file is overwritten: or a power cut could leave neither.
        sync_directory(new.parent)

    def _read(self, path: Path, on_damage: Callable[[Damage], None]) -> Iterator[Event]:
        return read_segment(path, self._custody.private_key(), on_damage)

    def _days(self, low: int, high: int) -> list[Path]:
        return [
            path
            for path in sorted(self._segments.glob("[0-9]*-[0-9]*-[0-9]*"))
            if low < _day_start_ns(path) + _DAY_NS and _day_start_ns(path) < high
        ]


def _check_exists(directory: Path) -> None:
    if not (directory / "segments").is_dir():
        raise StoreError(f"{directory} holds no event store; run `tacitly-agent init` first")


def _live(directory: Path) -> list[Path]:
    """The segments that count: those no other one replaces."""
    paths = sorted(directory.glob("*.seg"))
    replaced = {path.name.split(".")[1] for path in paths if path.name.count(".") == 2}
    return [path for path in paths if path.name.split(".")[0] not in replaced]


def _day(event: Event) -> date:
    # In integers: a float would round the day's last nanoseconds into the next day.
    try:
        return date.fromordinal(_EPOCH_DAY + event.wall_ns // _DAY_NS)
    except (ValueError, OverflowError):
        raise ValidationError(
            "an event's wall_ns lies outside the years 1 to 9999; give nanoseconds since 1970"
        ) from None


def _day_start_ns(directory: Path) -> int:
    return (date.fromisoformat(directory.name).toordinal() - _EPOCH_DAY) * _DAY_NS


def _bounds(since_ns: int | None, until_ns: int | None) -> tuple[int, int]:
    return (
        -_ALWAYS_NS if since_ns is None else since_ns,
        _ALWAYS_NS if until_ns is None else until_ns,
    )


def _shred(path: Path) -> None:
    """Overwrite, sync, unlink; nothing if another process was faster."""
    with suppress(FileNotFoundError), path.open("r+b", buffering=0) as file:
        left = os.fstat(file.fileno()).st_size
        while left > 0:
            left -= file.write(os.urandom(min(left, _SHRED_BYTES)))
        os.fsync(file.fileno())
        path.unlink()
        sync_directory(path.parent)
