"""Proof of an erasure: looking for what was erased in every file, afterwards.

Looked for are, in the clear, events as export and recordings write them; eight bytes of each
erased frame's ciphertext and of each sealed key; and the store's old private key, raw, in hex and
in base64. What a scan cannot see: free blocks of the disk, backups, snapshots, other directories.
"""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from tacitly_client.store.erasure import Traces
from tacitly_client.store.layout import Span, Vault

_CHUNK_BYTES: Final = 16 * 2**20
# Longer than anything that is looked for: nothing is missed where two chunks meet.
_OVERLAP_BYTES: Final = 4_096
_EVENT: Final = re.compile(rb'"wall_ns":(-?\d{1,20})([^\n]{0,2000})')
_APP: Final = re.compile(rb'"app":("(?:[^"\\]|\\.)*")')
_WORD_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Scan:
    """What was looked through, and where something was found that should be gone."""

    files: int
    size_bytes: int
    found: tuple[Path, ...]


def scan(root: Path, span: Span, traces: Traces) -> Scan:
    """Look through every file below `root` for what `span` erased and for `traces` of it.

    Raises:
        OSError: a file cannot be read, so nothing can be said about it.
    """
    search = _Search(span, traces)
    files, size_bytes, found = 0, 0, []
    for path in sorted(root.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        files += 1
        hit = False
        for chunk, fresh_bytes in _chunks(path):
            size_bytes += fresh_bytes
            hit = hit or search.finds(chunk)
        if hit:
            found.append(path)
    return Scan(files, size_bytes, tuple(found))


def keys_left(store: Path, traces: Traces) -> list[str]:
    """Where the custody still has a key that was to be destroyed; should be nowhere."""
    custody = Vault.of(store).custody
    return [custody.place(named) for named in traces.key_ids if custody.find(named) is not None]


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
