"""What each process of the agent is not able to do, whatever runs in it. Enforced by the kernel.

    confine(node_rules(home))       before anything that starts a thread is imported

| process           | sockets (seccomp) | files (Landlock)                                         |
|-------------------|-------------------|----------------------------------------------------------|
| node              | all               | reads programs, node/ and person/, writes node/: no      |
|                   |                   | store, key or ledger, nothing of the person's own        |
| vault and trainer | AF_UNIX           | write the home alone                                     |
| capture           | AF_UNIX           | writes the home alone                                    |
| control, tray     | AF_UNIX           | writes the home alone                                    |

And each: no memory dumps, no new privileges (setuid programs included), no looking into other
processes; where the kernel can (Landlock 6), no signals to processes outside. Children inherit it.

What it does not do: reading is limited in the node alone; a Unix socket leads to whatever listens
there, the session's bus too. A kernel without Landlock (before Linux 5.13, or switched off) or a
system without libseccomp leaves that part undone: `Confinement` and `tacitly-agent doctor` say so.
"""

import errno
import socket
import sys
import sysconfig
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tacitly_client.home import AgentHome
from tacitly_client.processes import forbid_dumps

_SYSTEM: Final = (
    *("/bin", "/etc", "/lib", "/lib32", "/lib64", "/opt", "/proc", "/sbin", "/sys", "/usr"),
    # Name resolution, where the file in /etc points to.
    *("/run/systemd/resolve", "/run/NetworkManager", "/run/resolvconf"),
)
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
# io_uring opens sockets past the filter; the others reach into processes that may.
_FORBIDDEN: Final = (
    "io_uring_setup",
    "pidfd_getfd",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a process may do. `reads` None: read every file, and reach the desktop's sockets."""

    network: bool
    writes: tuple[Path, ...]
    reads: tuple[Path, ...] | None = None


@dataclass(frozen=True, slots=True)
class Confinement:
    """Why the kernel does not enforce a part of the rules; "" where it does."""

    files: str
    sockets: str

    @property
    def missing(self) -> str:
        """Both, for a log; "" if nothing is."""
        parts = {"files": self.files, "sockets": self.sockets}
        return "; ".join(f"{part} are not confined: {why}" for part, why in parts.items() if why)


def node_rules(home: AgentHome) -> Rules:
    """Of the process with the network."""
    return Rules(
        network=True, writes=(home.node,), reads=(*_programs(home), home.settings, home.person)
    )


def inner_rules(home: AgentHome) -> Rules:
    """Of a process that may see what a person did."""
    return Rules(network=False, writes=(home.root,))


def confine(rules: Rules) -> Confinement:
    """Hold this process and its children to the rules from now on.

    Raises:
        RuntimeError: this process has a second thread, which the rules would not hold.
    """
    forbid_dumps()
    if sys.platform != "linux":
        why = f"{sys.platform} has no such means"
        return Confinement(why, why)
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        raise RuntimeError("a process is confined before it starts a thread")
    return Confinement(
        files=_problem(lambda: _confine_files(rules)),
        sockets=_problem(lambda: _confine_calls(network=rules.network)),
    )


def _problem(enforce: Callable[[], None]) -> str:
    try:
        from py_landlock import LandlockError

        try:
            enforce()
        except LandlockError as error:
            return str(error)
    except (ImportError, OSError, RuntimeError) as error:
        return str(error)
    return ""


def _confine_files(rules: Rules) -> None:
    from py_landlock import AccessFs, Landlock, Scope

    landlock = Landlock(strict=False)
    of_file = AccessFs.READ_FILE | AccessFs.EXECUTE
    for path in _there((Path("/"),) if rules.reads is None else rules.reads):
        of_directory = AccessFs.READ_DIR if path.is_dir() else AccessFs(0)
        landlock.add_path_rule(path, access=of_file | of_directory)
    landlock.add_path_rule(
        *_there(rules.writes),
        access=AccessFs.READ_FILE
        | AccessFs.READ_DIR
        | AccessFs.WRITE_FILE
        | AccessFs.TRUNCATE
        | AccessFs.REFER
        | AccessFs.MAKE_REG
        | AccessFs.MAKE_DIR
        | AccessFs.MAKE_SOCK
        | AccessFs.REMOVE_FILE
        | AccessFs.REMOVE_DIR,
    )
    devices = AccessFs.READ_FILE | AccessFs.WRITE_FILE
    landlock.add_path_rule(*_there(map(Path, _DEVICES)), access=devices)
    if rules.reads is None:
        # The X server and older session buses listen on abstract sockets.
        landlock.allow_scope(Scope.ABSTRACT_UNIX_SOCKET)
    landlock.allow_all_network().apply()


def _confine_calls(*, network: bool) -> None:
    import pyseccomp

    calls = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    if not network:
        for call in ("socket", "socketpair"):
            other = pyseccomp.Arg(0, pyseccomp.NE, socket.AF_UNIX)
            calls.add_rule(pyseccomp.ERRNO(errno.EACCES), call, other)
    for call in _FORBIDDEN:
        calls.add_rule(pyseccomp.ERRNO(errno.EPERM), call)
    calls.load()


def _programs(home: AgentHome) -> tuple[Path, ...]:
    """Where programs and their libraries lie; no directory that the home is a part of."""
    found = [Path(path) for path in _SYSTEM]
    found += [Path(sys.prefix), Path(sys.base_prefix), *map(Path, sysconfig.get_paths().values())]
    found += [Path(entry) for entry in sys.path if entry]
    inside = home.root.resolve()
    return tuple(path for path in found if not inside.is_relative_to(path.resolve()))


def _there(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if path.exists()]
