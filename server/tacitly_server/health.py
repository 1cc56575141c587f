"""What `tacitly-server up` last saw, in status.json, and whether that is good.

The supervisor replaces the file at least every `WRITE_SECONDS`. Its lock tells whether it lives.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Final

import msgspec

from tacitly_common.errors import UNDECODABLE, TacitlyError, ValidationError
from tacitly_server.home import ServerHome

WRITE_SECONDS: Final = 5.0


class SupervisorError(TacitlyError):
    """A server of this home runs already, or a part of it cannot run."""

    exit_code: ClassVar[int] = 6


class ProcessStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A supervised process: `pid` is None while it does not run."""

    pid: int | None = None
    restarts: int = 0


class RunStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The newest Flower run of the active campaign. `id` is a string: JSON cuts large integers."""

    id: str
    status: str
    sub_status: str
    details: str


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `up` knows. `problem` is what a person must act on, "" if nothing."""

    supervisor_pid: int
    host: str
    port: int
    enrolment_port: int
    certificate_ends: str
    superlink_answers: bool = False
    superlink: ProcessStatus = ProcessStatus()
    superexec: ProcessStatus = ProcessStatus()
    desk: ProcessStatus = ProcessStatus()
    serverapp_pid: int | None = None
    campaign: str | None = None
    rounds: int = 0
    released_round: int = 0
    run: RunStatus | None = None
    runs_started: int = 0
    problem: str = ""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `tacitly-server health`."""

    healthy: bool
    supervisor: bool
    status: Status


def write_status(home: ServerHome, status: Status) -> None:
    """Replace status.json. Not synced: it is worth nothing after a crash."""
    partial = home.status.with_name(".status.json.partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(status), indent=2) + b"\n")
    partial.replace(home.status)


def read_status(home: ServerHome) -> Status:
    """What the supervisor last wrote.

    Raises:
        ValidationError: no server has run here.
    """
    try:
        return msgspec.json.decode(home.status.read_bytes(), type=Status)
    except FileNotFoundError:
        raise ValidationError(
            f"no server has run in {home.root}; run `tacitly-server up --home {home.root}`"
        ) from None
    except (OSError, *UNDECODABLE) as error:
        raise ValidationError(f"{home.status}: {error}; restart `tacitly-server up`") from error


def health(home: ServerHome) -> Health:
    """Whether supervisor, SuperLink, SuperExec and the desk are up now.

    Raises:
        ValidationError: no server has run here.
    """
    status = read_status(home)
    supervised = supervisor_runs(home)
    processes = (status.superexec, status.desk)
    up = status.superlink_answers and all(process.pid is not None for process in processes)
    return Health(healthy=supervised and up, supervisor=supervised, status=status)


@contextmanager
def only_supervisor(home: ServerHome) -> Iterator[None]:
    """Hold the home's lock; it is released when the process ends, however it ends.

    Raises:
        SupervisorError: another supervisor holds it.
    """
    descriptor = os.open(home.supervisor_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise SupervisorError(
            f"`tacitly-server up` runs already in {home.root}; stop it first"
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)


def supervisor_runs(home: ServerHome) -> bool:
    """Whether a supervisor of this home lives."""
    try:
        with only_supervisor(home):
            return False
    except SupervisorError:
        return True
