"""What every call to the desk must pass, and what is written of it.

In this order:

1. the rate: a token bucket for each address;
2. the room: calls at work in all, and a share of them from one address;
3. the message: read here, within a time; its size is bounded by gRPC, before it is in memory;
4. the service, in one of a few threads. It raises what it refuses (wire/desk_errors.py).

Each call leaves one line in the audit log, answered or refused, with no content; of an address
that calls too often one a minute: a flood must not push everything else out of the log.
"""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

import grpc
import grpc.aio

from tacitly_common.campaign import PlanError
from tacitly_common.contract.acts import ContractError
from tacitly_common.errors import BudgetExceededError, TacitlyError, ValidationError
from tacitly_common.validation import positive
from tacitly_common.wire.desk_errors import DeskError, status_of
from tacitly_server.audit import AuditLog
from tacitly_server.request_guard import RateLimit

_LOG: Final = logging.getLogger(__name__)
_MOST_FLOODING: Final = 10_000
_FLOOD_SECONDS: Final = 60.0
_MOST_METHOD: Final = 200
# What a caller is told in the error's own words. Other errors are the operator's.
_TOLD: Final = (DeskError, ContractError, BudgetExceededError, ValidationError, PlanError)


@dataclass(frozen=True, slots=True)
class DeskLimits:
    """How much may be asked of the desk.

    A device asks once an hour and many may share an address: a reverse proxy's, or that of a
    company's network.
    """

    calls_per_second: float = 20.0
    burst_calls: int = 200
    calls_at_once: int = 32
    share_of_an_address: float = 0.5
    message_seconds: float = 20.0

    def __post_init__(self) -> None:
        positive(
            calls_per_second=self.calls_per_second,
            burst_calls=self.burst_calls,
            calls_at_once=self.calls_at_once,
            share_of_an_address=self.share_of_an_address,
            message_seconds=self.message_seconds,
        )


@dataclass(slots=True)
class Call:
    """A call as its service sees it. `actor` is filled in when it is known who asks."""

    address: str
    actor: str = ""


class _Refused(Exception):  # noqa: N818 - an answer, not an error of ours
    """The call ends here with this status."""

    def __init__(self, status: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.status = status


@dataclass(slots=True)
class Door(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Stands before every service of a gRPC server."""

    audit: AuditLog
    threads: Executor
    limits: DeskLimits = field(default_factory=DeskLimits)
    clock: Callable[[], float] = time.monotonic
    _rate: RateLimit = field(init=False)
    _at_work: Counter[str] = field(init=False, default_factory=Counter)
    # When an address that calls too often was last written of.
    _flooding: dict[str, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._rate = RateLimit(self.limits.calls_per_second, self.limits.burst_calls, self.clock)

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> grpc.RpcMethodHandler:
        """A handler that does what the module says and then calls the service.

        On the wire one message is a stream of one: taken as a stream, it is read here.
        """
        handler = await continuation(handler_call_details)
        method: str = handler_call_details.method[:_MOST_METHOD]

        async def serve(messages: AsyncIterator[bytes], context: Any) -> bytes:
            return await self._serve(method, handler, messages, context)

        return grpc.stream_unary_rpc_method_handler(serve)

    async def _serve(
        self, method: str, handler: Any, messages: AsyncIterator[bytes], context: Any
    ) -> bytes:
        call = Call(_host(context.peer()))
        try:
            answer = await self._answer(handler, messages, call)
        except _Refused as refused:
            self._write_refusal(method, call, refused.status)
            await context.abort(refused.status, str(refused))  # raises
        self.audit.write(
            "call", action=method, actor=call.actor or None, address=call.address, outcome="ok"
        )
        return answer

    async def _answer(self, handler: Any, messages: AsyncIterator[bytes], call: Call) -> bytes:
        if not self._rate.allow(call.address):
            raise _Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls; try again later")
        share = self.limits.share_of_an_address * self.limits.calls_at_once
        if (
            self._at_work.total() >= self.limits.calls_at_once
            or self._at_work[call.address] >= share
        ):
            raise _Refused(grpc.StatusCode.UNAVAILABLE, "the desk is busy; try again later")
        self._at_work[call.address] += 1
        try:
            if handler is None:
                raise _Refused(grpc.StatusCode.UNIMPLEMENTED, "the desk has no such service")
            message = await self._message(messages)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self.threads, _served, handler, message, call)
        finally:
            self._at_work[call.address] -= 1
            if not self._at_work[call.address]:
                del self._at_work[call.address]

    async def _message(self, messages: AsyncIterator[bytes]) -> bytes:
        try:
            async with asyncio.timeout(self.limits.message_seconds):
                return await anext(messages)
        except TimeoutError:
            raise _Refused(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"no message within {self.limits.message_seconds:g} s",
            ) from None
        except StopAsyncIteration:
            raise _Refused(grpc.StatusCode.INVALID_ARGUMENT, "a call without a message") from None

    def _write_refusal(self, method: str, call: Call, status: grpc.StatusCode) -> None:
        if status is grpc.StatusCode.RESOURCE_EXHAUSTED:
            now = self.clock()
            if now - self._flooding.get(call.address, -math.inf) < _FLOOD_SECONDS:
                return
            if len(self._flooding) >= _MOST_FLOODING:
                self._flooding.clear()
            self._flooding[call.address] = now
        self.audit.write(
            "refused",
            action=method,
            actor=call.actor or None,
            address=call.address,
            outcome=status.name.lower(),
        )


def _served(handler: Any, message: bytes, call: Call) -> bytes:
    """The service's answer, in a thread of its own."""
    try:
        request = handler.request_deserializer(message)
    except Exception:
        raise _Refused(grpc.StatusCode.INVALID_ARGUMENT, "a malformed message") from None
    try:
        response = handler.unary_unary(request, call)
    except _TOLD as error:
        raise _Refused(status_of(error), _words(error)) from None
    except (TacitlyError, OSError) as error:
        _LOG.error("%s: %s", type(error).__name__, error)
        raise _Refused(
            grpc.StatusCode.UNAVAILABLE,
            "the desk cannot answer now; its operator's desk.log says why",
        ) from None
    except Exception:
        _LOG.exception("a call failed")
        raise _Refused(
            grpc.StatusCode.INTERNAL, "the desk failed; its operator's desk.log says how"
        ) from None
    return bytes(handler.response_serializer(response))


def _words(error: TacitlyError) -> str:
    code = f" ({error.code.name})" if isinstance(error, ContractError) else ""
    return f"{error}{code}"


def _host(peer: str) -> str:
    """The address in gRPC's "ipv4:127.0.0.1:41000" or "ipv6:%5B::1%5D:41000"."""
    return unquote(peer).partition(":")[2].rpartition(":")[0].removeprefix("[").removesuffix("]")
