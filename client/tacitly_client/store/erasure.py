"""Erasing, so that what is erased can be opened by nobody, whatever is left of its bytes.

Unlinking leaves a file's blocks on the medium, and overwriting reaches them only where file
system and medium write in place. So the key goes too. Under the store's lock:

    1. Write down what is asked for, and which key shall be destroyed: `erasure.json`, durable.
    2. Overwrite and unlink the segments that go whole. This needs no key and makes room.
    3. Of segments that go in part, seal the events that stay in new ones (a fresh key each), then
       overwrite and unlink the old.
    4. Make a new store key. Seal every segment's key to it anew, over the old sealed key.
    5. Destroy the old store key: the one thing that opened what was erased.
    6. Remove `erasure.json`.

A kill or a power cut between 1 and 6 leaves `erasure.json`, and whoever next opens the store does
it all again from 1 with another new key; every step may be done twice. What has no key at hand
(a locked keyring) waits in the same way after step 2.

What this defends: after step 5, old blocks, copies and backups of *segments* are noise, provided
the old key itself is gone. It is gone from a keyring as far as the keyring's own store forgets,
and from a key file as far as overwriting 32 bytes in place does; on flash, snapshots and copying
file systems either can survive, and a backup made *before* of segments and key together opens.
Nor does it reach exports, and what a program of the same user has read before.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tacitly_client.files import remove, sync_directory, write_whole
from tacitly_client.store.days import (
    bounds_ns,
    day_directories,
    leftovers,
    live_segments,
    new_replacement,
)
from tacitly_client.store.disk import shred
from tacitly_client.store.layout import Span, Vault, write_layout
from tacitly_client.store.segment import (
    SegmentWriter,
    StoreError,
    fingerprints,
    key_id,
    read_segment,
    seal_anew,
    sealed_to,
)
from tacitly_common.errors import UNDECODABLE
from tacitly_common.events import Event

FRAME_EVENTS: Final = 1_024
_PENDING_FILE: Final = "erasure.json"
# How old capture's oldest event may be that it has not stored yet: it holds a run of 512
# characters until two seconds after the last, each of them typed within two seconds of the other.
LATELY_NS: Final = 20 * 60 * 10**9
_LATELY_KEPT: Final = 8


class _Pending(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`erasure.json`: events, and segments by "day/name", to be erased; ids of keys likewise.

    `spans` end when they were asked for: what finishes them later spares what was stored since.
    (So of events that a wrong clock dated later, and that share a segment with others, a killed
    erasure leaves some.) `lately`: see `Layout.lately_erased`.
    """

    spans: tuple[Span, ...] = ()
    lately: tuple[Span, ...] = ()
    segments: tuple[str, ...] = ()
    retiring: tuple[bytes, ...] = ()
    succeeding: bytes = b""


@dataclass(slots=True)
class Traces:
    """What would betray a copy of something erased. Kept in memory, until the scan."""

    fingerprints: set[bytes] = field(default_factory=set, repr=False)
    private_keys: list[bytes] = field(default_factory=list, repr=False)
    key_ids: list[bytes] = field(default_factory=list, repr=False)


@dataclass(slots=True)
class Erased:
    """What an erasure did. `events` counts those that could be read; of expired ones, none are."""

    events: int = 0
    segments: int = 0
    traces: Traces = field(default_factory=Traces)


def is_pending(store: Path) -> bool:
    """Whether an erasure was begun and is not finished."""
    return (store / _PENDING_FILE).exists()


def plan_key_change(store: Path, named: bytes) -> None:
    """Have the next `erase` replace this key too, and write anew what is sealed to it."""
    _write_pending(store, _Pending(retiring=(named,)))


def erase(
    store: Path, spans: Sequence[Span] = (), segments: Iterable[str] = (), *, at_ns: int
) -> Erased:
    """Erase, and finish what an earlier erasure left. The caller holds the store's lock alone.

    `segments` are "day/name"; `at_ns` is the wall clock's time.

    Raises:
        StoreError, OSError: the custody cannot be reached, events that may have to stay cannot be
            read, or the disk is full. What went whole is gone; the rest is done at the next call.
    """
    vault, erased = Vault.of(store), Erased()
    successor = X25519PrivateKey.generate()
    wanted = _Pending(
        spans=tuple(past for span in spans for past in _clipped(span, None, at_ns)),
        lately=tuple(late for span in spans for late in _clipped(span, at_ns - LATELY_NS, at_ns)),
        segments=(*segments, *_covered(vault, spans)),
        retiring=(key_id(vault.layout.sealing_key()),),
        succeeding=key_id(successor.public_key()),
    )
    pending = _merged(_read_pending(store), wanted)
    try:
        _write_pending(store, pending)
    except OSError:
        # A full disk: what goes whole makes the room.
        _erase_whole(vault, pending, erased, counted=bool(spans))
        _write_pending(store, pending)
    _erase_whole(vault, pending, erased, counted=bool(spans))
    _erase_parts(vault, (*pending.spans, *spans), erased)
    _replace_key(vault, pending, successor, erased.traces)
    remove(store / _PENDING_FILE)
    return erased


def _clipped(span: Span, since_ns: int | None, until_ns: int) -> Iterator[Span]:
    """The part of a span, if any, that lies in a time."""
    if span.since_ns is not None:
        since_ns = span.since_ns if since_ns is None else max(span.since_ns, since_ns)
    if span.until_ns is not None:
        until_ns = min(span.until_ns, until_ns)
    if since_ns is None or since_ns < until_ns:
        yield Span(since_ns, until_ns, span.app)


def _covered(vault: Vault, spans: Sequence[Span]) -> list[str]:
    """The segments of which nothing stays, by "day/name"."""
    return [
        f"{day}/{path.name}"
        for day, directory in day_directories(vault.directory)
        if any(span.covers(*bounds_ns(day)) for span in spans)
        for path in live_segments(directory)
    ]


def _read_pending(store: Path) -> _Pending:
    path = store / _PENDING_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Pending)
    except FileNotFoundError:
        return _Pending()
    except UNDECODABLE as error:
        raise StoreError(
            f"{path} is damaged ({error}); remove it and erase again what was to be erased"
        ) from None


def _merged(before: _Pending, wanted: _Pending) -> _Pending:
    retiring = dict.fromkeys([*before.retiring, before.succeeding, *wanted.retiring])
    return _Pending(
        spans=tuple(dict.fromkeys([*before.spans, *wanted.spans])),
        lately=(*before.lately, *wanted.lately),
        segments=tuple(dict.fromkeys([*before.segments, *wanted.segments])),
        retiring=tuple(named for named in retiring if named),
        succeeding=wanted.succeeding,
    )


def _write_pending(store: Path, pending: _Pending) -> None:
    write_whole(store / _PENDING_FILE, msgspec.json.encode(pending))


def _erase_whole(vault: Vault, pending: _Pending, erased: Erased, *, counted: bool) -> None:
    for day, directory in day_directories(vault.directory):
        for path in leftovers(directory):
            _shred(path, erased.traces)
        for path in live_segments(directory):
            if f"{day}/{path.name}" in pending.segments:
                # Counted for the person's sake alone; what cannot be read goes uncounted.
                with suppress(StoreError):
                    erased.events += len(_events(vault, path)) if counted else 0
                _shred(path, erased.traces)
                erased.segments += 1
        _remove_if_empty(directory)


def _erase_parts(vault: Vault, spans: Sequence[Span], erased: Erased) -> None:
    for day, directory in day_directories(vault.directory):
        of_day = [span for span in spans if span.overlaps(*bounds_ns(day))]
        for path in live_segments(directory) if of_day else ():
            events = _events(vault, path)
            kept = [event for event in events if not any(span.holds(event) for span in of_day)]
            if len(kept) == len(events) and events:
                continue
            if kept:
                _write_replacement(vault, path, kept)
            # What cannot be read in it goes too: it cannot be known to be spared.
            _shred(path, erased.traces)
            erased.events += len(events) - len(kept)
            erased.segments += 1
        _remove_if_empty(directory)


def _replace_key(
    vault: Vault, pending: _Pending, successor: X25519PrivateKey, traces: Traces
) -> None:
    vault.custody.keep(successor)
    public_key = successor.public_key()
    layout = msgspec.structs.replace(
        vault.layout,
        public_key=public_key.public_bytes_raw(),
        lately_erased=(*vault.layout.lately_erased, *pending.lately)[-_LATELY_KEPT:],
    )
    write_layout(vault.directory, layout)
    renewed = Vault(vault.directory, layout, vault.custody)
    retiring = set(pending.retiring)
    for _, directory in day_directories(vault.directory):
        for path in live_segments(directory):
            named = sealed_to(path)
            key = None if named in {None, pending.succeeding} else vault.find(named)
            if named is None or key is None:
                continue  # sealed anew already; or nobody can open it, before or after
            if not seal_anew(path, key, public_key):
                _write_anew(renewed, path, traces)
            retiring.add(named)
    for named in retiring:
        with suppress(StoreError):
            key = vault.find(named)
            if key is not None:
                traces.private_keys.append(key.private_bytes_raw())
        vault.custody.destroy(named)
    traces.key_ids.extend(retiring)


def _write_anew(vault: Vault, path: Path, traces: Traces) -> None:
    events = _events(vault, path)
    if events:
        _write_replacement(vault, path, events)
    _shred(path, traces)


def _write_replacement(vault: Vault, old: Path, events: Sequence[Event]) -> None:
    # Complete under another suffix first: a half-written replacement must not count.
    new = new_replacement(old)
    writer = SegmentWriter(new, vault.layout.sealing_key())
    try:
        for start in range(0, len(events), FRAME_EVENTS):
            writer.append(events[start : start + FRAME_EVENTS])
    finally:
        writer.close()
    new.rename(new.with_suffix(".seg"))
    # Before the old file is overwritten: or a power cut could leave neither.
    sync_directory(new.parent)


def _events(vault: Vault, path: Path) -> list[Event]:
    return list(read_segment(path, vault.key, lambda _damage: None))


def _shred(path: Path, traces: Traces) -> None:
    traces.fingerprints.update(fingerprints(path))
    shred(path)


def _remove_if_empty(directory: Path) -> None:
    # An empty day would still tell that this person was active on it.
    with suppress(OSError):
        directory.rmdir()
        sync_directory(directory.parent)
