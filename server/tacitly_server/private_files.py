"""Secrets on disk: files of mode 0600 that are written whole or not at all."""

import os
from pathlib import Path

from tacitly_common.errors import ValidationError


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read: the old one or the new, and durable on return."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable: a file's own fsync does not."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_private(path: Path, *, maker: str = "tacitly-server init") -> bytes:
    """The content of a file that only its owner can read.

    Raises:
        ValidationError: missing, or readable by others; says what to run (`maker` makes it).
    """
    try:
        mode = path.stat().st_mode
        content = path.read_bytes()
    except OSError as error:
        raise ValidationError(f"{path}: {error.strerror}; run `{maker}` first") from error
    if mode & 0o077:
        raise ValidationError(
            f"{path} can be read by others (mode {mode & 0o777:04o}); run `chmod 600 {path}`"
        )
    return content
