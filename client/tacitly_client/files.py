"""Small files that are there whole or not at all, whatever moment a crash or a full disk picks."""

import os
from pathlib import Path
from typing import Final

PARTIAL_SUFFIX: Final = ".part"


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


def remove(path: Path) -> bool:
    """Remove a file, durably; False if there was none."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    sync_directory(path.parent)
    return True


def sync_directory(directory: Path) -> None:
    """Make the directory's new, renamed and removed names durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
