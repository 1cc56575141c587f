"""Small files that are there whole or not at all, whatever moment a crash or a full disk picks."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Generic, TypeVar

PARTIAL_SUFFIX: Final = ".part"
_T = TypeVar("_T")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read: the old one or the new; durable on return.

    Two processes may not write the same file at once.

    Raises:
        OSError: it could not be written; the old file, if there was one, is still there.
    """
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_directory(path.parent)


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Wait until no other process changes this file; what is read inside is not yet outdated."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(path.with_name(path.name + ".lock"), flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def remove(path: Path) -> bool:
    """Remove a file, durably; False if there was none."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    sync_directory(path.parent)
    return True


class Watch(Generic[_T]):
    """What `read` makes of some files: read again only after one of them was replaced.

    While none was it is the same object. Raises what `read` does, also when it is made.
    """

    def __init__(self, read: Callable[[], _T], *paths: Path) -> None:
        self._read = read
        self._paths = paths
        self._seen = self._marks()
        self._held = read()

    def __call__(self) -> _T:
        marks = self._marks()
        if marks != self._seen:
            # Taken before reading: what changes meanwhile is seen the next time.
            self._held = self._read()
            self._seen = marks
        return self._held

    def _marks(self) -> list[tuple[int, int, int] | None]:
        return [_mark(path) for path in self._paths]


def _mark(path: Path) -> tuple[int, int, int] | None:
    """What differs between a file and the one that replaced it; None without a file."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    return state.st_ino, state.st_mtime_ns, state.st_size


def sync_directory(directory: Path) -> None:
    """Make the directory's new, renamed and removed names durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
