"""The node's way to what it may not open: the vault gives it a trainer, and the ledger's report.

The trainer has torch, the store and the ledger; this process has the network. They exchange
the frames of `training/pipe.py` over one connection and nothing else. A trainer ends by itself
when it has had no job for a while. Whatever it does wrong is one `TrainerError`.

On a busy machine loading torch can take longer than a round, and while a person is at work the
vault lets no trainer begin. One that is still not ready at the deadline has seen no job and is
kept, once, so that the next round finds it ready: given up each time, it would never get anywhere.
"""

import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from tacitly_client.ledger_report import LedgerReport
from tacitly_client.local_socket import SocketError, connect
from tacitly_client.training.pipe import (
    READY,
    REPORT,
    TRAIN,
    Job,
    PipeError,
    Result,
    read_frame,
    write_frame,
)
from tacitly_common.errors import UNDECODABLE, LedgerError, TacitlyError
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.messages import Reply

_SLICE_SECONDS: Final = 0.2
_REPORT_SECONDS: Final = 60.0


class TrainerError(TacitlyError):
    """The trainer crashed, was too late, or answered something else. Holds nothing it wrote."""


class TrainerEndedError(TrainerError):
    """The trainer was gone before it said anything."""


class TrainerLoadingError(TrainerError):
    """The trainer was not ready at the deadline; it may be for the next job."""


class TrainerLink:
    """At most one trainer of the vault's. `stopped()` turning true ends a training at once."""

    def __init__(self, vault: Path, *, coordinates: int, stopped: Callable[[], bool]) -> None:
        self._vault = vault
        self._coordinates = coordinates
        self._stopped = stopped
        self._connection: socket.socket | None = None
        self._ready = False
        self._kept_loading = False

    @property
    def connected(self) -> bool:
        """Whether a trainer is there, or is waited for."""
        self.collect()
        return self._connection is not None

    def collect(self) -> None:
        """Forget a trainer that has ended."""
        if self._connection is not None and _ended(self._connection):
            self.close()

    def train(self, job: Job, model: bytes, *, deadline_seconds: float) -> Reply:
        """Let the trainer answer `job` within the deadline; `model` is float32 bytes.

        A trainer kept from the last round may be just ending by itself: then a new one gets the
        job, once. That is safe at any time because the trainer's ledger knows the attempt.

        Raises:
            TrainerError: it crashed, was too late or answered anything but a result of this job.
                It has been given up, and the vault kills it; the next job gets a new one.
            TrainerLoadingError: it has not got the job, and lives on for the next one.
        """
        self.collect()
        kept = self._connection is not None
        until = time.monotonic() + deadline_seconds
        try:
            try:
                return self._answer(job, model, until)
            except TrainerEndedError:
                if not kept:
                    raise
                self.close()
                return self._answer(job, model, until)
        except TrainerLoadingError:
            if self._kept_loading:
                self.close()
            else:
                self._kept_loading = True
            raise
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the trainer up if there is one. What it has not released is lost, not leaked."""
        connection, self._connection = self._connection, None
        self._ready = self._kept_loading = False
        if connection is not None:
            _hang_up(connection)
            connection.close()

    def _answer(self, job: Job, model: bytes, until: float) -> Reply:
        connection = self._connected(until)
        self._await_ready(connection, until)
        answer = self._exchange(connection, job, model, until)
        if answer is None:
            raise TrainerEndedError("the trainer ended without an answer")
        result, body = answer
        if (result.round, result.attempt) != (job.round, job.attempt):
            raise TrainerError("the trainer answered another job")
        if len(body) != (4 * self._coordinates if result.code is ReplyCode.OK else 0):
            raise TrainerError("the trainer's update has the wrong length")
        return Reply(result.round, result.attempt, result.code, _vector(result.code, body))

    def _connected(self, until: float) -> socket.socket:
        if self._connection is None:
            try:
                self._connection = _ask(self._vault, TRAIN, until, self._stopped)
            except SocketError as error:
                raise TrainerError(str(error)) from None
        return self._connection

    def _await_ready(self, connection: socket.socket, until: float) -> None:
        while not self._ready:
            left = until - time.monotonic()
            if left <= 0 or self._stopped():
                raise TrainerLoadingError("the trainer was not ready at the deadline")
            if select.select([connection], [], [], min(_SLICE_SECONDS, left))[0]:
                said = _received(connection, len(READY))
                if not said:
                    raise TrainerEndedError("the trainer ended before it was ready")
                if said != READY:
                    raise TrainerError("the trainer did not begin with READY")
                self._ready = True

    def _exchange(
        self, connection: socket.socket, job: Job, model: bytes, until: float
    ) -> tuple[Result, bytes] | None:
        """One frame there and one back, in a thread: either may block for ever."""
        outcome: list[tuple[Result, bytes] | BaseException | None] = []

        def talk() -> None:
            try:
                with connection.makefile("wb") as requests:
                    write_frame(requests, job, model)
                with connection.makefile("rb") as replies:
                    outcome.append(
                        read_frame(replies, Result, max_body_bytes=4 * self._coordinates)
                    )
            except BaseException as error:
                outcome.append(error)

        thread = threading.Thread(target=talk, name="trainer-link", daemon=True)
        thread.start()
        while thread.is_alive() and time.monotonic() < until and not self._stopped():
            thread.join(min(_SLICE_SECONDS, max(0.0, until - time.monotonic())))
        if thread.is_alive():
            _hang_up(connection)
            thread.join()
            raise TrainerError("the trainer did not answer before the deadline")
        match outcome[0]:
            case BrokenPipeError() | ConnectionResetError():
                return None
            case PipeError() as error:
                raise TrainerError(f"the trainer's answer: {error}")
            case BaseException() as error:
                raise TrainerError(f"the trainer's connection: {type(error).__name__}")
            case answer:
                return answer


def ask_vault(vault: Path, *, stopped: Callable[[], bool] = lambda: False) -> LedgerReport:
    """The ledger's report, by a program of the vault's. `stopped` ends the wait for the vault.

    Raises:
        LedgerError: there was none.
    """
    try:
        until = time.monotonic() + _REPORT_SECONDS
        with _ask(vault, REPORT, until, stopped) as connection:
            connection.settimeout(_REPORT_SECONDS)
            with connection.makefile("rb") as answer:
                return msgspec.json.decode(answer.read(), type=LedgerReport)
    except (SocketError, OSError, *UNDECODABLE):
        raise LedgerError(
            "the vault gave no report of the ledger; `tacitly-agent ledger verify` says why"
        ) from None


def _ask(vault: Path, request: bytes, until: float, stopped: Callable[[], bool]) -> socket.socket:
    """A connection that has asked; a vault that is only just starting is waited for.

    Raises:
        SocketError: there was none until then.
    """
    while True:
        try:
            connection = connect(vault)
        except SocketError:
            if time.monotonic() >= until or stopped():
                raise
            time.sleep(_SLICE_SECONDS)
        else:
            # One byte fits into any buffer; a vault that is gone is noticed by its silence.
            with suppress(OSError):
                connection.sendall(request)
            return connection


def _ended(connection: socket.socket) -> bool:
    """Whether the other end has hung up; what it has said by then does not matter."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))


def _received(connection: socket.socket, count: int) -> bytes:
    try:
        return connection.recv(count)
    except ConnectionResetError:
        return b""


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _vector(code: ReplyCode, body: bytes) -> NDArray[np.int32] | None:
    return np.frombuffer(body, dtype="<i4").copy() if code is ReplyCode.OK else None
