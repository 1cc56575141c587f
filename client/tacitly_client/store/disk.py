"""What a store does to files: hold a lock, overwrite before removing."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tacitly_client.files import sync_directory

_SHRED_BYTES: Final = 2**20


@contextmanager
def locked(directory: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a directory's lock: one process alone, or all who only read or append (`shared`).

    The kernel lets go of it however a process ends. Not reentrant.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def shred(path: Path) -> None:
    """Overwrite, sync, unlink; nothing if there is no such file.

    The overwriting reaches the old blocks only where file system and medium write in place.
    """
    with suppress(FileNotFoundError), path.open("r+b", buffering=0) as file:
        left = os.fstat(file.fileno()).st_size
        while left > 0:
            left -= file.write(os.urandom(min(left, _SHRED_BYTES)))
        os.fsync(file.fileno())
        path.unlink()
        sync_directory(path.parent)
