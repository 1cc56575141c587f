"""What browsers' extensions tell of their focused field: two booleans a browser, and when.

    DIRECTORY/<process id of the host>      {"browser":4711,"sensitive":false,"private":false,...}

A browser starts a host (`browser_host.py`) for its extension and tells it whenever the focus
moves, and each second while the focus is in a field that is known to be harmless. The host holds
a lock on its file as long as it lives: what a killed one left counts for nothing.
"""

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from tacitly_client.capture.clock import Clock
from tacitly_common.errors import UNDECODABLE

_BYTES: Final = 128


class PageField(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The focused field of a browser as its extension told last.

    | field     | meaning                                                                     |
    |-----------|-----------------------------------------------------------------------------|
    | browser   | the browser's process                                                        |
    | sensitive | the focus is in a secret field, or not in a field that is known              |
    | private   | in a private window                                                          |
    | told_ns   | monotonic time at which that was told                                        |
    """

    browser: int
    sensitive: bool
    private: bool
    told_ns: int


class PageNote:
    """The file of a browser's host, which alone writes it, while it lives."""

    def __init__(self, directory: Path, browser: int, clock: Clock) -> None:
        """Nothing is known of the browser's field until `tell`."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._browser = browser
        self._clock = clock
        self._path = directory / str(os.getpid())
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.tell(sensitive=True, private=True)

    def tell(self, *, sensitive: bool, private: bool) -> None:
        """Write it down."""
        page = PageField(self._browser, sensitive, private, self._clock.monotonic_ns())
        # One write of one length: a reader finds the old or the new, whole.
        os.pwrite(self._file, msgspec.json.encode(page).ljust(_BYTES), 0)

    def close(self) -> None:
        """Nothing is known of the browser any more."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)


def told_by_browsers(directory: Path) -> Mapping[int, PageField]:
    """What the extension of each browser told last, by the browser's process; the living alone."""
    pages: dict[int, PageField] = {}
    try:
        notes = list(directory.iterdir())
    except FileNotFoundError:
        return pages
    for note in notes:
        page = _read(note)
        if page is not None:
            known = pages.get(page.browser, page)
            pages[page.browser] = max(page, known, key=lambda told: told.told_ns)
    return pages


def _read(note: Path) -> PageField | None:
    """What a note says; None if nobody holds it, or it cannot be read."""
    try:
        with note.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return msgspec.json.decode(file.read(), type=PageField)
    except (OSError, *UNDECODABLE):
        pass
    return None
