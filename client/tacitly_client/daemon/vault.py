"""The vault: alone with the store's key and the ledger, it starts who may use them.

    python -m tacitly_client.daemon.vault --home DIR

Who connects to its socket says one byte, and from then on speaks with a program of the vault's
own choice, whose stdin and stdout the connection becomes:

| byte | program                                                                           |
|------|-----------------------------------------------------------------------------------|
| T    | a trainer (training/worker.py): frames of training/pipe.py. It begins when        |
|      | training is allowed, stands still while it is not, and there is one at a time     |
| L    | the ledger's report (ledger_report.py)                                            |
| S    | who suggests (assist/worker.py): lines of assist/exchange.py                      |

A program is killed when its connection ends, and dies with the vault. The vault reads nothing
else of what is sent; it has no network, nor have its programs.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from tacitly_client.assist.exchange import SUGGEST
from tacitly_client.daemon.conditions import Hindrance
from tacitly_client.daemon.machine import Conditions
from tacitly_client.daemon.process import process_command
from tacitly_client.daemon.state import Training, VaultState
from tacitly_client.home import AgentHome
from tacitly_client.live_file import LiveFile
from tacitly_client.local_socket import is_own, listen, private_directory
from tacitly_client.processes import only_process
from tacitly_client.training.pipe import REPORT, TRAIN

# Everything else stays out: proxies, Flower's variables, tokens of the person's shell.
_ENVIRONMENT: Final = (
    *("HOME", "LANG", "LC_ALL", "LC_CTYPE", "PATH", "TMPDIR", "TZ", "SYSTEMROOT"),
    # Where the keyring is asked, if that has the store's key.
    *("DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR"),
)
_HOUR_SECONDS: Final = 3_600.0
_FIRST_BYTE_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.5
_LOG_LIMIT_BYTES: Final = 1_000_000


@dataclass(slots=True)
class _Session:
    """A connection and, once it was started, its program."""

    connection: socket.socket
    request: bytes
    process: subprocess.Popen[bytes] | None = None
    handle: int = -1  # of the process: becomes readable when it has ended
    standing: bool = False


class Vault:
    """Serves one listening socket. `stop` may be called from a signal handler or a thread."""

    def __init__(
        self,
        listener: socket.socket,
        programs: Mapping[bytes, Sequence[str]],
        *,
        log: Path,
        hindrances: Callable[[bool], Sequence[Hindrance]],
        show: Callable[[VaultState], None] = lambda _state: None,
        hourly: Sequence[str] = (),
    ) -> None:
        """Nothing is accepted yet.

        Args:
            listener: closed by `close`.
            programs: the command line for each byte.
            log: what trainers write to stderr; the other programs share this process's.
            hindrances: why no trainer may run now, given whether one does; asked each half second
                while there is one, or one is waited for.
            show: told what becomes of the trainer.
            hourly: a command line, run before anything else and then once an hour.
        """
        self._listener = listener
        self._programs = programs
        self._log = log
        self._hindrances = hindrances
        self._show = show
        self._shown: VaultState | None = None
        self._hourly = hourly
        self._due = time.monotonic()
        self._chore: subprocess.Popen[bytes] | None = None
        self._sessions: list[_Session] = []
        self._stopped = False
        self._wake, self._woken = socket.socketpair()
        self._poll = select.poll()
        for each in (listener, self._woken):
            self._poll.register(each, select.POLLIN)

    def stop(self) -> None:
        """Let `serve` return soon."""
        self._stopped = True
        self._wake.send(b"!")

    def serve(self) -> None:
        """Until stopped. It sleeps while nobody is connected."""
        self._do_chore()
        if self._chore is not None:
            self._chore.wait()
        while not self._stopped:
            trains = any(session.request == TRAIN for session in self._sessions)
            left_seconds = max(0.0, self._due - time.monotonic())
            if trains:
                left_seconds = min(_LOOK_SECONDS, left_seconds)
            woken = self._poll.poll(1_000 * left_seconds + 1)
            self._do_chore()
            if any(descriptor == self._listener.fileno() for descriptor, _ in woken):
                self._accept()
            for session in list(self._sessions):
                self._tend(session)
            if not any(session.request == TRAIN for session in self._sessions):
                self._say(Training.NONE)

    def close(self) -> None:
        """Kill the programs and close the socket."""
        for session in list(self._sessions):
            self._end(session)
        if self._chore is not None:
            self._chore.kill()
            self._chore.wait()
        for each in (self._listener, self._wake, self._woken):
            each.close()

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        request = _request(connection) if is_own(connection) else b""
        if not request or request not in self._programs:
            connection.close()
            return
        if request == TRAIN:
            # Who asks anew has given the last one up.
            for other in [each for each in self._sessions if each.request == TRAIN]:
                self._end(other)
        self._sessions.append(_Session(connection, request))
        # What is sent is for the program: here it matters only that the other end hangs up.
        self._poll.register(connection, select.POLLRDHUP)

    def _tend(self, session: _Session) -> None:
        if _hung_up(session.connection) or (session.process and session.process.poll() is not None):
            self._end(session)
            return
        if session.request != TRAIN:
            if session.process is None:
                self._start(session)
            return
        runs = session.process is not None and not session.standing
        hindrances = tuple(self._hindrances(runs))
        if session.process is None:
            if not hindrances:
                self._start(session)
        elif session.standing is not bool(hindrances):
            session.standing = bool(hindrances)
            os.killpg(session.process.pid, signal.SIGSTOP if hindrances else signal.SIGCONT)
        self._say(Training.WAITING if hindrances else Training.RUNNING, hindrances)

    def _say(self, training: Training, hindrances: tuple[Hindrance, ...] = ()) -> None:
        state = VaultState(training, hindrances)
        if state != self._shown:
            self._shown = state
            self._show(state)

    def _do_chore(self) -> None:
        """Begin the hourly command when it is due; an erasure that is killed is finished later."""
        if self._chore is not None and self._chore.poll() is not None:
            self._chore = None
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + _HOUR_SECONDS
            if self._hourly and self._chore is None:
                self._chore = subprocess.Popen(self._hourly, env=_environment(os.environ))

    def _start(self, session: _Session) -> None:
        with self._open_log() if session.request == TRAIN else nullcontext() as log:
            session.process = subprocess.Popen(
                self._programs[session.request],
                stdin=session.connection.fileno(),
                stdout=session.connection.fileno(),
                stderr=log,
                env=_environment(os.environ),
                # A group of its own, so that killing it leaves none of its children.
                start_new_session=True,
            )
        session.handle = os.pidfd_open(session.process.pid)
        self._poll.register(session.handle, select.POLLIN)

    def _open_log(self) -> BinaryIO:
        # An old log is of no use to anybody once there is a megabyte of it.
        if self._log.exists() and self._log.stat().st_size > _LOG_LIMIT_BYTES:
            self._log.unlink()
        descriptor = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return os.fdopen(descriptor, "ab")

    def _end(self, session: _Session) -> None:
        """Kill the program if there is one. What it has not released is lost, not leaked."""
        self._sessions.remove(session)
        self._poll.unregister(session.connection)
        if session.process is not None:
            self._poll.unregister(session.handle)
            os.close(session.handle)
            with suppress(ProcessLookupError):
                os.killpg(session.process.pid, signal.SIGKILL)
            session.process.wait()
        session.connection.close()


def _request(connection: socket.socket) -> bytes:
    """The first byte; nothing if it does not come soon, so that nobody holds the others up."""
    connection.settimeout(_FIRST_BYTE_SECONDS)
    try:
        return connection.recv(1)
    except OSError:
        return b""
    finally:
        connection.setblocking(True)


def _hung_up(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: variables[name] for name in _ENVIRONMENT if name in variables}


def worker_command(home: AgentHome) -> tuple[str, ...]:
    """The trainer that is installed beside this program, to end with this process."""
    worker = (sys.executable, "-P", "-m", "tacitly_client.training.worker")
    return (*worker, "--home", str(home.root), "--parent-pid", str(os.getpid()))


def suggest_command(home: AgentHome) -> tuple[str, ...]:
    """What suggests to the person's programs, to end with this process."""
    worker = (sys.executable, "-m", "tacitly_client.assist.worker")
    return (*worker, "--home", str(home.root), "--parent-pid", str(os.getpid()))


def report_command(home: AgentHome) -> tuple[str, ...]:
    """What tells how far the ledger is."""
    return (sys.executable, "-P", "-m", "tacitly_client.ledger_report", str(home.ledger))


def expire_command(home: AgentHome) -> list[str]:
    """What removes the events that are kept no longer."""
    return process_command("tacitly_client.daemon.expire", home)


@contextmanager
def vault_of(
    home: AgentHome,
    *,
    trainer: Sequence[str] | None = None,
    hindrances: Callable[[bool], Sequence[Hindrance]] | None = None,
) -> Iterator[Vault]:
    """The home's vault, the only one; inside, `serve` it.

    Args:
        home: an initialised agent's directory.
        trainer: the trainer's command line; the installed worker if None.
        hindrances: as `Vault`'s; what the settings and this machine say if None.

    Raises:
        ValidationError: another vault runs for this home.
    """
    private_directory(home.run)
    with ExitStack() as stack:
        stack.enter_context(only_process(home.vault_lock, "vault"))
        state = LiveFile(home.vault_state)
        stack.callback(state.close)
        if hindrances is None:
            hindrances = stack.enter_context(closing(Conditions(home)))
        vault = Vault(
            listen(home.vault_socket),
            {
                TRAIN: trainer or worker_command(home),
                REPORT: report_command(home),
                SUGGEST: suggest_command(home),
            },
            log=home.trainer_log,
            hindrances=hindrances,
            show=state.show,
            hourly=expire_command(home),
        )
        stack.callback(vault.close)
        yield vault
