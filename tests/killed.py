"""Real SIGKILLs at chosen moments: before each operation that a disk would notice, in turn."""

import os
import signal
from collections.abc import Callable
from typing import Any, Final

from forks import forks

_NOTICED: Final = (
    *("fsync", "fdatasync", "pwrite", "ftruncate"),
    *("mkdir", "rmdir", "rename", "replace", "unlink"),
)
_PATIENCE_SECONDS: Final = 120


def killed_before(step: int, action: Callable[..., None], *arguments: Any) -> bool:
    """Run a module's function in a process that is killed before its `step`-th operation.

    False if it was done with fewer.
    """
    processes = forks("tacitly_client.store", action.__module__)
    process = processes.Process(target=_run, args=(step, action, arguments), daemon=True)
    process.start()
    process.join(_PATIENCE_SECONDS)
    assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
    return process.exitcode != 0


def _run(step: int, action: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    left = step

    def deadly(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*given: Any, **named: Any) -> Any:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return call(*given, **named)

        return called

    for name in _NOTICED:
        setattr(os, name, deadly(getattr(os, name)))
    action(*arguments)
