"""The control service over one home. Each call is a few lines over functions that need no service:
what a call does, `tacitly-agent` does as well with no process running.

To add a call: say it in control.proto, run `make proto`, add a method here.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import wraps
from typing import Any, Final, TypeVar

import grpc

from tacitly_client.assist.exchange import MOST_TYPED, Question, SuggestLink
from tacitly_client.capture.clock import Clock
from tacitly_client.choices import exclude, include
from tacitly_client.control.control_pb2 import (
    ExcludeRequest,
    ExcludeResponse,
    PauseRequest,
    ResumeRequest,
    StatusRequest,
    StatusResponse,
    Suggestion,
    SuggestRequest,
    SuggestResponse,
)
from tacitly_client.control.control_pb2_grpc import (
    ControlServicer,
    ControlStub,
    add_ControlServicer_to_server,
)
from tacitly_client.home import AgentHome
from tacitly_client.local_socket import private_directory, short_path
from tacitly_client.now import read_now
from tacitly_client.pause import pause, resume
from tacitly_client.processes import only_process
from tacitly_common.errors import TacitlyError, ValidationError

_THREADS: Final = 4
_SUGGESTIONS: Final = 3
_MOST_MESSAGE_BYTES: Final = 64 * 1024
_END_SECONDS: Final = 2.0

_Call = TypeVar("_Call", bound=Callable[..., Any])


def answered(call: _Call) -> _Call:
    """Turn our own errors into a status with their words, others into one without any."""

    @wraps(call)
    def answer(self: "Control", request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return call(self, request, context)
        except ValidationError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except TacitlyError as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        except OSError as error:
            context.abort(grpc.StatusCode.UNAVAILABLE, error.strerror or type(error).__name__)

    return answer  # type: ignore[return-value]


class Control(ControlServicer):
    """The calls."""

    def __init__(self, home: AgentHome, clock: Clock) -> None:
        self._home = home
        self._clock = clock
        self._suggestions = SuggestLink(home.vault_socket)

    @answered
    def Status(self, _request: StatusRequest, _context: object) -> StatusResponse:  # noqa: N802
        return self._status()

    @answered
    def Pause(self, request: PauseRequest, _context: object) -> StatusResponse:  # noqa: N802
        seconds = request.seconds if request.HasField("seconds") else None
        pause(self._home, self._clock, seconds)
        return self._status()

    @answered
    def Resume(self, _request: ResumeRequest, _context: object) -> StatusResponse:  # noqa: N802
        resume(self._home, self._clock)
        return self._status()

    @answered
    def Exclude(self, request: ExcludeRequest, _context: object) -> ExcludeResponse:  # noqa: N802
        change = include if request.remove else exclude
        return ExcludeResponse(excluded=sorted(change(self._home, request.application).excluded))

    @answered
    def Suggest(self, request: SuggestRequest, _context: object) -> SuggestResponse:  # noqa: N802
        question = Question(
            typed=request.typed[-MOST_TYPED:],
            most=request.most or _SUGGESTIONS,
            with_head=not request.without_habits,
        )
        answer = self._suggestions.ask(question)
        return SuggestResponse(
            suggestions=[
                Suggestion(kind=each.kind, text=each.text, probability=each.probability)
                for each in answer.offers
            ],
            plan_hash=answer.plan_hash,
            round=answer.round,
        )

    def close(self) -> None:
        """Let the process that suggests end."""
        self._suggestions.close()

    def _status(self) -> StatusResponse:
        now = read_now(self._home, self._clock)
        return StatusResponse(
            capture=now.capture.value,
            reason=now.reason,
            paused=now.paused,
            paused_until_unix_ns=now.paused_until_ns,
            training=now.training.value,
            training_waits_for=[each.value for each in now.training_waits_for],
            processes=now.processes,
        )


@contextmanager
def serving(home: AgentHome, clock: Clock) -> Iterator[None]:
    """Answer on the home's control socket, inside.

    Raises:
        ValidationError: another control service runs for this home.
    """
    private_directory(home.run)
    with only_process(home.control_lock, "control service"):
        server = grpc.server(
            ThreadPoolExecutor(_THREADS),
            options=[("grpc.max_receive_message_length", _MOST_MESSAGE_BYTES)],
        )
        servicer = Control(home, clock)
        add_ControlServicer_to_server(servicer, server)
        home.control_socket.unlink(missing_ok=True)
        with short_path(home.control_socket) as address:
            credentials = grpc.local_server_credentials(grpc.LocalConnectionType.UDS)
            server.add_secure_port(f"unix:{address}", credentials)
        home.control_socket.chmod(0o600)
        server.start()
        try:
            yield
        finally:
            server.stop(_END_SECONDS).wait()
            servicer.close()
            home.control_socket.unlink(missing_ok=True)


@contextmanager
def control(home: AgentHome) -> Iterator[ControlStub]:
    """A stub of the home's control service; whether it answers shows with the first call."""
    credentials = grpc.local_channel_credentials(grpc.LocalConnectionType.UDS)
    with (
        short_path(home.control_socket) as address,
        grpc.secure_channel(f"unix:{address}", credentials) as channel,
    ):
        yield ControlStub(channel)
