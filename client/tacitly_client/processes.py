"""What the agent's processes have in common: one of a kind for a home, no memory dumps, how they
end and where they log.
"""

import ctypes
import fcntl
import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tacitly_common.errors import ValidationError

_PR_SET_DUMPABLE: Final = 4
_PATIENCE_SECONDS: Final = 1.0


def forbid_dumps() -> None:
    """No crash leaves this process's memory, which holds what was typed, on a disk.

    On Linux also: no process of the same user reads it, and a core is not piped to a program,
    which the limit alone does not prevent.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def use_one_core() -> None:
    """Call before numpy and torch are loaded, which read this: the person works on the others."""
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"


@contextmanager
def only_process(lock: Path, what: str) -> Iterator[None]:
    """Hold a lock file; the kernel lets go of it however the process ends.

    Raises:
        ValidationError: another process holds it. `what` names that one.
    """
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # One that is just ending lets go of it soon, and `is_held` at once.
    until = time.monotonic() + _PATIENCE_SECONDS
    try:
        while not _locked(descriptor, fcntl.LOCK_EX):
            if time.monotonic() >= until:
                raise ValidationError(
                    f"another {what} runs in {lock.parent}; stop it or use another --home"
                )
            time.sleep(_PATIENCE_SECONDS / 20)
        yield
    finally:
        os.close(descriptor)


def is_held(lock: Path) -> bool:
    """Whether a living process is the `only_process` of this lock file."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _locked(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def stop_on_signals(stop: threading.Event) -> None:
    """Let SIGTERM and SIGINT set `stop`."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())


def log_to_stderr() -> None:
    """What a process does and waits for; the records hold no content."""
    logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("tacitly_client").setLevel(logging.INFO)
