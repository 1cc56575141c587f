"""Runs a process of the agent and tries things in it: python -P inside.py MODULE WHEN --home DIR

It is the shipped module, with one addition: at the first import of the module WHEN, which the
process does after it has confined itself, the tries below run in that very process. What came of
them goes to standard output as JSON: {"what was tried": "done" or the error's name}.

Without MODULE and WHEN nothing but the tries is run.
"""

import ctypes
import errno
import json
import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

IO_URING_SETUP = 425
PR_GET_DUMPABLE = 3


def tries(home: Path, key: Path) -> dict[str, Callable[[], object]]:
    """What is tried with the store's key, and with `document` beside the home, a file of the
    person's own.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def io_uring() -> None:
        if libc.syscall(IO_URING_SETUP, 1, ctypes.create_string_buffer(256)) < 0:
            raise OSError(ctypes.get_errno(), "io_uring_setup")

    def dump() -> None:
        if libc.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 1:
            raise PermissionError

    def child_reads(path: Path) -> None:
        if subprocess.run(["/bin/cat", path], capture_output=True, check=False).returncode:
            raise PermissionError

    def move(path: Path) -> None:
        moved = path.rename(home / "node" / "key")
        moved.rename(path)

    return {
        "internet": lambda: socket.socket(socket.AF_INET).close(),
        "internet 6": lambda: socket.socket(socket.AF_INET6).close(),
        "packets": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
        "unix": lambda: socket.socket(socket.AF_UNIX).close(),
        "io_uring": io_uring,
        "read key": key.read_bytes,
        "list store": lambda: list(os.scandir(home / "store")),
        "read ledger": (home / "ledger.db").read_bytes,
        "link key": lambda: os.link(key, home / "node" / "linked"),
        "move key": lambda: move(key),
        "child reads key": lambda: child_reads(key),
        "read document": (home.parent / "document").read_bytes,
        "write document": lambda: (home.parent / "document").write_text("changed"),
        "write beside home": lambda: (home.parent / "new").write_text(""),
        "write home": lambda: (home / "new").write_text(""),
        "write node": lambda: (home / "node" / "new").write_text(""),
        "read other's memory": lambda: Path(f"/proc/{os.getppid()}/mem").open("rb").close(),
        "leave a core": dump,
    }


def outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno or errno.EACCES]
    return "done"


def key_of(home: Path) -> Path:
    return next((home / "store").glob("**/*.key"))


def tell(home: Path, key: Path) -> None:
    told = {what: outcome(attempt) for what, attempt in tries(home, key).items()}
    print(json.dumps(told), flush=True)


def main() -> None:
    *what, _, given = sys.argv[1:]
    home = Path(given)
    key = key_of(home)  # now: not everybody can look for it later
    if not what:
        tell(home, key)
        return
    module, when = what
    done = []

    def hook(event: str, values: tuple[Any, ...]) -> None:
        if event == "import" and values[0] == when and not done:
            done.append(True)
            tell(home, key)

    sys.addaudithook(hook)
    sys.argv = [module, "--home", given]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
