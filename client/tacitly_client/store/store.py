"""The event store as the rest of the client sees it.

    STORE/store.json                           what the store says about itself; the public key
    STORE/<id>.key                             the private key, where no keyring keeps it (0600)
    STORE/ages.json                            the clock by which events expire
    STORE/dropped.json                         what capture did not keep, counted by rule and day
    STORE/erasure.json                         while an erasure is under way
    STORE/CACHEDIR.TAG                         asks backup programs to leave the store out
    STORE/segments/2026-11-23/<uuid>.seg       events, sealed (segment.py, days.py)

Whoever appends or reads shares the directory's lock; whoever erases has it alone. A process that
was appending to an erased segment goes on in a fresh one.
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import date
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tacitly_client.files import sync_directory, write_whole
from tacitly_client.store.days import (
    SEGMENTS,
    bounds_ns,
    day_directories,
    day_of,
    live_segments,
    local_bounds_ns,
    new_segment,
)
from tacitly_client.store.disk import locked
from tacitly_client.store.dropped import forget_dropped
from tacitly_client.store.erasure import FRAME_EVENTS, Erased, erase, is_pending
from tacitly_client.store.expiry import expire, look
from tacitly_client.store.keys import Custody, best_custody, custody_for
from tacitly_client.store.layout import (
    LAYOUT_FILE,
    Layout,
    Span,
    Vault,
    read_layout,
    write_layout,
)
from tacitly_client.store.migration import migrate
from tacitly_client.store.retention import Ages, Instant, RetentionPolicy, write_ages
from tacitly_client.store.segment import (
    Damage,
    SegmentWriter,
    StoreError,
    read_segment,
    write_error,
)
from tacitly_common.errors import TacitlyError
from tacitly_common.events import Event

# Small enough that erasing part of one is quick, and a size cap can be kept.
_SEGMENT_BYTES: Final = 4 * 2**20
_CACHE_TAG: Final = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n"
    b"# Events that a person may erase at any time. Please make no copies (bford.info/cachedir).\n"
)
_PROTECTION: Final = {
    Custody.KEYRING: (
        "in your login keyring: safe from other users, and on a stolen disk as safe as your login "
        "password; not safe from programs that you run. What was erased cannot come back once "
        "the keyring has forgotten the old key"
    ),
    Custody.FILE: (
        "in a file that only you can read: safe from other users; not safe from programs that you "
        "run, nor on a stolen disk without disk encryption. What was erased cannot come back "
        "once the disk has really overwritten the old key"
    ),
}


def raise_damage(damage: Damage) -> None:
    """The default answer to damage: stop and say where."""
    raise StoreError(f"{damage}; everything else is readable")


class EventStore:
    """Encrypted events of one person. A context manager; safe with several processes."""

    def __init__(self, directory: Path, *, now: Callable[[], Instant], may_read: bool) -> None:
        self.directory = directory
        self._now = now
        self._may_read = may_read
        self._writers: dict[date, SegmentWriter] = {}

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        retention: RetentionPolicy | None = None,
        now: Callable[[], Instant] = Instant.now,
    ) -> Self:
        """A new, empty store with a fresh key, in the keyring if there is an open one.

        Raises:
            StoreError: a store is there already; a new key would lose every event.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        with locked(directory):
            if (directory / LAYOUT_FILE).exists() or any(directory.glob(f"{SEGMENTS}/*/*")):
                raise StoreError(
                    f"{directory} exists already; open the store instead of creating it"
                )
            key = X25519PrivateKey.generate()
            layout = Layout(
                store_id=secrets.token_hex(8),
                custody=best_custody(),
                public_key=key.public_key().public_bytes_raw(),
                retention=retention or RetentionPolicy(),
            )
            write_whole(directory / "CACHEDIR.TAG", _CACHE_TAG)
            write_ages(directory, Ages.begin(now()))
            custody_for(layout.custody, directory, layout.store_id).keep(key)
            (directory / SEGMENTS).mkdir(mode=0o700, exist_ok=True)
            # Last: it is what makes the directory a store.
            write_layout(directory, layout)
        sync_directory(directory.parent)
        return cls(directory, now=now, may_read=True)

    @classmethod
    def open(cls, directory: Path, *, now: Callable[[], Instant] = Instant.now) -> Self:
        """An existing store. First what expired goes, and what a crash left half erased.

        If its key is out of reach or the disk is full, that waits for whoever reads or erases:
        opening and appending need neither.

        Raises:
            StoreError: none there, or of a version that this program does not know.
        """
        migrate(directory)
        read_layout(directory)
        store = cls(directory, now=now, may_read=True)
        with suppress(StoreError, OSError):
            expire(directory, now())
        return store

    @classmethod
    def open_to_append(cls, directory: Path) -> Self:
        """An existing store, for a process that must not read it: takes the public key alone.

        Raises:
            StoreError: none there, or of another version.
        """
        read_layout(directory)
        return cls(directory, now=Instant.now, may_read=False)

    def append(self, events: Sequence[Event]) -> None:
        """Store events; durable on return. Events that were erased meanwhile are left out.

        Raises:
            StoreError, ValidationError: could not be written. Frames of at most 1,024 events
                before the failing one are stored.
        """
        for day, group in groupby(events, key=day_of):
            batch = list(group)
            for start in range(0, len(batch), FRAME_EVENTS):
                self._append_frame(day, batch[start : start + FRAME_EVENTS])

    def events(
        self,
        since_ns: int | None = None,
        until_ns: int | None = None,
        *,
        on_damage: Callable[[Damage], None] = raise_damage,
    ) -> Iterator[Event]:
        """Events with since_ns <= wall_ns < until_ns in order of wall time, a day in memory.

        Raises:
            StoreError: a key is missing or out of reach, or `on_damage` raised it.
        """
        self._require_reader()
        self._finish_erasure()
        span = Span(since_ns, until_ns)
        for day, directory in day_directories(self.directory):
            if not span.overlaps(*bounds_ns(day)):
                continue
            with locked(self.directory, shared=True):
                vault = Vault.of(self.directory)
                paths = live_segments(directory)
                found = [e for path in paths for e in read_segment(path, vault.key, on_damage)]
            found.sort(key=lambda event: event.wall_ns)
            yield from (event for event in found if span.holds(event))

    def count(self, *, on_damage: Callable[[Damage], None] = raise_damage) -> int:
        """Number of stored events."""
        return sum(1 for _ in self.events(on_damage=on_damage))

    def days(self) -> list[date]:
        """The UTC days of which something is stored."""
        return [day for day, _ in day_directories(self.directory)]

    def size_bytes(self) -> int:
        """How much the segments take."""
        return sum(path.stat().st_size for path in self.directory.glob(f"{SEGMENTS}/*/*.seg"))

    def erase(
        self,
        since_ns: int | None = None,
        until_ns: int | None = None,
        *,
        app: str | None = None,
    ) -> Erased:
        """Remove the events with since_ns <= wall_ns < until_ns, of one application if `app`.

        What was removed can be opened no more: `erasure.py` says how, and what is left. Unreadable
        frames of a touched segment go too: what cannot be read cannot be spared.

        Raises:
            StoreError, OSError: not done, or not finished; it is finished as soon as the store
                is opened with its key at hand.
        """
        self._require_reader()
        self.close()
        span = Span(since_ns, until_ns, app)
        with locked(self.directory):
            at = self._now()
            forget_dropped(self.directory, lambda day: span.covers(*local_bounds_ns(day)))
            erased = erase(self.directory, [span], at_ns=at.wall_ns)
            look(self.directory, at)
            return erased

    @property
    def retention(self) -> RetentionPolicy:
        """How long events are kept."""
        return read_layout(self.directory).retention

    def set_retention(self, policy: RetentionPolicy) -> None:
        """Change how long events are kept, from the next `expire` on."""
        with locked(self.directory):
            layout = read_layout(self.directory)
            write_layout(self.directory, msgspec.structs.replace(layout, retention=policy))

    @property
    def protection(self) -> str:
        """Where the key is and what that protects against, for people."""
        return _PROTECTION[read_layout(self.directory).custody]

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
        with locked(self.directory, shared=True):
            layout = read_layout(self.directory)
            gone = layout.lately_erased
            kept = [event for event in events if not any(span.holds(event) for span in gone)]
            try:
                while kept and not self._writer(day, layout).append(kept):
                    self._writers.pop(day).close()
            except (TacitlyError, OSError) as error:
                if day in self._writers:
                    self._writers.pop(day).close()
                if isinstance(error, OSError):
                    raise write_error(self.directory, error) from error
                raise

    def _writer(self, day: date, layout: Layout) -> SegmentWriter:
        writer = self._writers.get(day)
        if writer is not None and writer.size_bytes < _SEGMENT_BYTES:
            return writer
        if writer is not None:
            writer.close()
        directory = self.directory / SEGMENTS / day.isoformat()
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
            sync_directory(directory.parent)
        self._writers[day] = SegmentWriter(new_segment(directory), layout.sealing_key())
        return self._writers[day]

    def _finish_erasure(self) -> None:
        if is_pending(self.directory):
            with locked(self.directory):
                if is_pending(self.directory):
                    erase(self.directory, at_ns=self._now().wall_ns)

    def _require_reader(self) -> None:
        if not self._may_read:
            raise StoreError("this process may only add events; `tacitly-agent show` reads them")
