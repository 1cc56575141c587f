"""Proof of an erasure: looking for what was erased in every file, afterwards.

Looked for are, in the clear, events as export and recordings write them; eight bytes of each
erased frame's ciphertext and of each sealed key; and the store's old private key, raw, in hex and
in base64. The store itself is asked too: for the events, for the old key, for what is sealed to
it. What a scan cannot see: free blocks of the disk, backups, snapshots, other directories.
"""

import base64
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from tacitly_client.store.days import day_directories, live_segments
from tacitly_client.store.erasure import Traces
from tacitly_client.store.layout import Span, Vault
from tacitly_client.store.segment import sealed_to
from tacitly_client.store.store import EventStore

_CHUNK_BYTES: Final = 16 * 2**20
# Longer than anything that is looked for: nothing is missed where two chunks meet.
_OVERLAP_BYTES: Final = 4_096
_EVENT: Final = re.compile(
    rb'"monotonic_ns":\s*-?\d{1,20},\s*"wall_ns":\s*(-?\d{1,20})([^\n]{0,2000})'
)
_APP: Final = re.compile(rb'"app":\s*("(?:[^"\\]|\\.)*")')
_WORD_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Proof:
    """What was looked through, and what was there that should be gone.

    | field         | meaning                                                               |
    |---------------|-----------------------------------------------------------------------|
    | files         | how many files were read, whole, with `size_bytes` in all             |
    | found         | those with an erased event in the clear or sealed, or an old key      |
    | keys_left     | where a destroyed key is still kept                                   |
    | segments_left | those that are sealed to a destroyed key                              |
    | events_left   | how many erased events the store still gives                          |
    """

    files: int
    size_bytes: int
    found: tuple[Path, ...]
    keys_left: tuple[str, ...]
    segments_left: tuple[Path, ...]
    events_left: int

    @property
    def holds(self) -> bool:
        """Whether nothing was found."""
        return not (self.found or self.keys_left or self.segments_left or self.events_left)


def prove(root: Path, store: EventStore, span: Span, traces: Traces) -> Proof:
    """Look for what was erased in a store, and in every file below `root`.

    `span` ends before whatever was stored since the erasure.

    Raises:
        StoreError, OSError: a key is out of reach or a file cannot be read, so nothing can be
            said about it.
    """
    vault = Vault.of(store.directory)
    files, size_bytes, found = _scan(root, _Search(span, traces))
    keys_left = [
        vault.custody.place(named)
        for named in traces.key_ids
        if vault.custody.find(named) is not None
    ]
    segments_left = [
        path
        for _, directory in day_directories(store.directory)
        for path in live_segments(directory)
        if sealed_to(path) in traces.key_ids
    ]
    left = store.events(span.since_ns, span.until_ns, on_damage=lambda _damage: None)
    return Proof(
        files=files,
        size_bytes=size_bytes,
        found=tuple(found),
        keys_left=tuple(keys_left),
        segments_left=tuple(segments_left),
        events_left=sum(span.holds(event) for event in left),
    )


def _scan(root: Path, search: "_Search") -> tuple[int, int, list[Path]]:
    files, size_bytes, found = 0, 0, []
    for path in sorted(root.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        hit = False
        with suppress(FileNotFoundError):  # gone since it was listed
            for chunk, fresh_bytes in _chunks(path):
                size_bytes += fresh_bytes
                hit = hit or search.finds(chunk)
            files += 1
        if hit:
            found.append(path)
    return files, size_bytes, found


class _Search:
    def __init__(self, span: Span, traces: Traces) -> None:
        self._span = span
        whole = b"".join(word for word in traces.fingerprints if len(word) == _WORD_BYTES)
        self._words = np.unique(np.frombuffer(whole, "<u8"))
        self._keys = [
            form
            for key in traces.private_keys
            for form in (key, key.hex().encode(), base64.b64encode(key))
        ]

    def finds(self, chunk: bytes) -> bool:
        return (
            any(key in chunk for key in self._keys)
            or self._finds_ciphertext(chunk)
            or self._finds_plaintext(chunk)
        )

    def _finds_ciphertext(self, chunk: bytes) -> bool:
        if not len(self._words):
            return False
        for shift in range(min(_WORD_BYTES, max(len(chunk) - _WORD_BYTES + 1, 0))):
            count = (len(chunk) - shift) // _WORD_BYTES
            words = np.frombuffer(chunk, "<u8", count=count, offset=shift)
            places = np.searchsorted(self._words, words).clip(max=len(self._words) - 1)
            if (self._words[places] == words).any():
                return True
        return False

    def _finds_plaintext(self, chunk: bytes) -> bool:
        for match in _EVENT.finditer(chunk):
            named = _APP.search(match[2])
            try:
                app = msgspec.json.decode(named[1], type=str) if named else ""
            except msgspec.DecodeError:
                app = ""
            if self._span.holds_at(int(match[1]), app):
                return True
        return False


def _chunks(path: Path) -> Iterator[tuple[bytes, int]]:
    """A file's content in overlapping pieces, each with the number of bytes new in it."""
    kept = b""
    with path.open("rb") as file:
        while fresh := file.read(_CHUNK_BYTES):
            chunk = kept + fresh
            yield chunk, len(fresh)
            kept = chunk[-_OVERLAP_BYTES:]
