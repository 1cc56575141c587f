"""The trainer as a child process: started for a round, killed at its deadline, kept for a while.

The child holds torch, the store and the ledger; this process holds the network. They exchange
the frames of `training/pipe.py` over stdin and stdout and nothing else. The child ends by itself
when it has had no job for a while. Whatever it does wrong is one `TrainerError`.

On a busy machine loading torch can take longer than a round. A child that is still loading at
the deadline has seen no job and is kept, once, so that the next round finds it loaded: killed
each time, it would never get anywhere.
"""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, cast

import numpy as np
from numpy.typing import NDArray

from tacitly_client.home import AgentHome
from tacitly_client.training.pipe import (
    READY,
    Job,
    PipeError,
    Result,
    read_frame,
    write_frame,
)
from tacitly_common.errors import TacitlyError
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.messages import Reply

# Everything else stays out: proxies, Flower's variables, tokens of the person's shell.
_ENVIRONMENT: Final = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "PATH", "TMPDIR", "TZ", "SYSTEMROOT")
_SLICE_SECONDS: Final = 0.2
_LOG_LIMIT_BYTES: Final = 1_000_000


class TrainerError(TacitlyError):
    """The trainer crashed, was too late, or answered something else. Holds nothing it wrote."""


def worker_command(home: AgentHome) -> tuple[str, ...]:
    """The trainer that is installed beside this program."""
    return (sys.executable, "-m", "tacitly_client.training.worker", "--home", str(home.root))


class TrainerEndedError(TrainerError):
    """The process was gone before it said anything."""


class TrainerLoadingError(TrainerError):
    """The process was still loading at the deadline; it may be ready for the next job."""


class TrainerProcess:
    """At most one trainer process. `stopped()` turning true ends a training at once."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        coordinates: int,
        stopped: Callable[[], bool],
    ) -> None:
        self._command = tuple(command)
        self._log = log
        self._coordinates = coordinates
        self._stopped = stopped
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._kept_loading = False

    @property
    def process_id(self) -> int | None:
        """The process that is running, if one is."""
        self.collect()
        return None if self._process is None else self._process.pid

    def collect(self) -> None:
        """Forget a process that has ended (and free its entry in the process table)."""
        if self._process is not None and self._process.poll() is not None:
            self.close()

    def train(self, job: Job, model: bytes, *, deadline_seconds: float) -> Reply:
        """Let the trainer answer `job` within the deadline; `model` is float32 bytes.

        A process kept from the last round may be just ending by itself: then a new one gets the
        job, once. That is safe at any time because the trainer's ledger knows the attempt.

        Raises:
            TrainerError: it crashed, was too late or answered anything but a result of this job.
                It has been killed; the next job gets a new process.
            TrainerLoadingError: it has not got the job, and lives on for the next one.
        """
        self.collect()
        kept = self._process is not None
        try:
            try:
                return self._answer(job, model, deadline_seconds)
            except TrainerEndedError:
                if not kept:
                    raise
                self.close()
                return self._answer(job, model, deadline_seconds)
        except TrainerLoadingError:
            if self._kept_loading:
                self.close()
            else:
                self._kept_loading = True
            raise
        except BaseException:
            self.close()
            raise

    def _answer(self, job: Job, model: bytes, deadline_seconds: float) -> Reply:
        until = time.monotonic() + deadline_seconds
        process = self._started()
        self._await_ready(process, until)
        answer = self._exchange(process, job, model, until)
        if answer is None:
            raise TrainerEndedError("the trainer ended without an answer")
        result, body = answer
        if (result.round, result.attempt) != (job.round, job.attempt):
            raise TrainerError("the trainer answered another job")
        if len(body) != (4 * self._coordinates if result.code is ReplyCode.OK else 0):
            raise TrainerError("the trainer's update has the wrong length")
        return Reply(result.round, result.attempt, result.code, _vector(result.code, body))

    def _await_ready(self, process: subprocess.Popen[bytes], until: float) -> None:
        stdout = cast("BinaryIO", process.stdout).fileno()
        while not self._ready:
            left = until - time.monotonic()
            if left <= 0 or self._stopped():
                raise TrainerLoadingError("the trainer was still loading at the deadline")
            if select.select([stdout], [], [], min(_SLICE_SECONDS, left))[0]:
                said = os.read(stdout, len(READY))
                if not said:
                    raise TrainerEndedError("the trainer ended before it was ready")
                if said != READY:
                    raise TrainerError("the trainer did not begin with READY")
                self._ready = True

    def _exchange(
        self, process: subprocess.Popen[bytes], job: Job, model: bytes, until: float
    ) -> tuple[Result, bytes] | None:
        """One frame there and one back, in a thread: either may block for ever."""
        outcome: list[tuple[Result, bytes] | BaseException | None] = []
        stdin, stdout = cast("BinaryIO", process.stdin), cast("BinaryIO", process.stdout)

        def talk() -> None:
            try:
                write_frame(stdin, job, model)
                outcome.append(read_frame(stdout, Result, max_body_bytes=4 * self._coordinates))
            except BaseException as error:
                outcome.append(error)

        thread = threading.Thread(target=talk, name="trainer-pipe", daemon=True)
        thread.start()
        while thread.is_alive() and time.monotonic() < until and not self._stopped():
            thread.join(min(_SLICE_SECONDS, max(0.0, until - time.monotonic())))
        if thread.is_alive():
            self._kill(process)
            thread.join()
            raise TrainerError("the trainer did not answer before the deadline")
        match outcome[0]:
            case BrokenPipeError():
                return None
            case PipeError() as error:
                raise TrainerError(f"the trainer's answer: {error}")
            case BaseException() as error:
                raise TrainerError(f"the trainer's pipe: {type(error).__name__}")
            case answer:
                return answer

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            # An old log is of no use to anybody once there is a megabyte of it.
            if self._log.exists() and self._log.stat().st_size > _LOG_LIMIT_BYTES:
                self._log.unlink()
            descriptor = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "ab") as log:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=_environment(os.environ),
                    # A group of its own, so that killing it leaves none of its children.
                    start_new_session=True,
                )
        return self._process

    def close(self) -> None:
        """Kill the trainer if there is one. What it has not released is lost, not leaked."""
        process, self._process = self._process, None
        self._ready = self._kept_loading = False
        if process is not None:
            self._kill(process)
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    # What was not yet written to a dead process has nowhere to go.
                    with suppress(OSError):
                        stream.close()

    @staticmethod
    def _kill(process: subprocess.Popen[bytes]) -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _vector(code: ReplyCode, body: bytes) -> NDArray[np.int32] | None:
    return np.frombuffer(body, dtype="<i4").copy() if code is ReplyCode.OK else None


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: variables[name] for name in _ENVIRONMENT if name in variables}
