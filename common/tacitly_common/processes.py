"""Child processes: started, started again with growing pauses, and ended in order (Linux)."""

import contextlib
import ctypes
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 30.0
_SOUND_SECONDS: Final = 60.0
_LOG_BYTES: Final = 16 * 1024 * 1024
_PR_SET_PDEATHSIG: Final = 1


@dataclass(slots=True)
class Backoff:
    """Pauses that double from `first` to `longest` seconds with each failure."""

    clock: Callable[[], float]
    first: float = _FIRST_PAUSE_SECONDS
    longest: float = _LONGEST_PAUSE_SECONDS
    _pause: float = field(init=False, default=0.0)
    _until: float = field(init=False, default=0.0)

    def failed(self) -> float:
        """Begin a pause, twice the last; its length in seconds."""
        self._pause = min(self.longest, 2 * self._pause) if self._pause else self.first
        self._until = self.clock() + self._pause
        return self._pause

    def reset(self) -> None:
        """Forget the failures."""
        self._pause = 0.0
        self._until = 0.0

    @property
    def over(self) -> bool:
        """Whether the pause has passed."""
        return self.clock() >= self._until


@dataclass(slots=True)
class Child:
    """One process that should always run.

    Its output is appended to `log`, of which at most `log_bytes` are kept, and as many again in
    a file beside it: callers from outside can make a server write. Without a log it is this
    process's own.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path | None
    clock: Callable[[], float]
    report: Callable[[str], None]
    log_bytes: int = _LOG_BYTES
    backoff: Backoff | None = None
    restarts: int = 0
    exit_code: int | None = None
    _process: subprocess.Popen[bytes] | None = None
    _started_at: float = 0.0
    _backoff: Backoff = field(init=False)

    def __post_init__(self) -> None:
        self._backoff = self.backoff or Backoff(self.clock)

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def tend(self) -> None:
        """Start it if it does not run and its pause is over; notice its end; cut its log."""
        self._cut_log()
        if self._process is not None:
            exit_code = self._process.poll()
            if exit_code is None:
                return
            self._process = None
            self.exit_code = exit_code
            self.restarts += 1
            if self.clock() - self._started_at > _SOUND_SECONDS:
                self._backoff.reset()
            pause = self._backoff.failed()
            self.report(f"{self.name} {_how(exit_code)}; starting it again in {pause:g} s")
        if self._backoff.over:
            self._start()

    def _start(self) -> None:
        with self.log.open("ab") if self.log else contextlib.nullcontext() as output:
            self._process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                # Ctrl-C in a terminal reaches the supervisor alone, which ends them in order.
                process_group=0,
            )
        self._started_at = self.clock()

    def _cut_log(self) -> None:
        """Move a long log's content away; the process, which appends, goes on in the same file."""
        if self.log and self.log.exists() and self.log.stat().st_size > self.log_bytes:
            shutil.copyfile(self.log, self.log.with_suffix(".log.old"))
            os.truncate(self.log, 0)

    def end(self, seconds: float) -> None:
        """Ask it to end (SIGTERM); kill it after `seconds`."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def last_line(self) -> str:
        """The last line of its log, "" without one."""
        if self.log is None:
            return ""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""


def living_children(pid: int) -> list[int]:
    """The process ids of a process's children that have not ended (no zombies)."""
    children = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # "pid (name) state parent ...": a name may hold spaces and parentheses.
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state not in {"Z", "X"}:
            children.append(int(entry.name))
    return children


def end_with_parent(parent_pid: int, with_signal: signal.Signals = signal.SIGTERM) -> None:
    """Have the kernel send this process a signal when its parent ends, by SIGKILL too.

    Raises:
        SystemExit: the parent has ended already.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, with_signal)
    if os.getppid() != parent_pid:
        sys.exit("the supervisor has ended")


def allow_many_files() -> None:
    """Let this process have as many open files as the system lets it.

    Connections in the middle of a TLS handshake are files too, and bounded by nothing else.
    """
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))


def handles(pids: Sequence[int]) -> list[int]:
    """A file descriptor for each living process: unlike its id, never another process's."""
    descriptors = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            descriptors.append(os.pidfd_open(pid))
    return descriptors


def wait_or_kill(descriptors: Sequence[int], seconds: float) -> None:
    """Wait until each of `handles` has ended; kill what has not after `seconds`. Closes them."""
    for descriptor in descriptors:
        ended, _, _ = select.select([descriptor], [], [], seconds)
        if not ended:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        os.close(descriptor)


def _how(exit_code: int) -> str:
    if exit_code < 0:
        return f"was ended by {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code}"
