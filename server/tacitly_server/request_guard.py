"""What a request must pass before Flower's code sees it (pure ASGI).

In this order:

1. the rate, for requests that came from outside: a token bucket for each client address, 429;
2. the door: a request that did not arrive at 127.0.0.1 reaches only /v1/fleet/*, one that did
   also the six operator calls, the Runtime API and /health; everything else is 404
   (documentation pages, legacy and login endpoints);
3. the body: read here, whole, up to a limit (413) and within a time (408), and only while all
   bodies together fit into memory (503). Flower itself reads any length into memory, and does so
   before it checks who is calling.

Where a request arrived is the accepted socket's own address, never a header. A reverse proxy on
this machine therefore counts as the operator: it must pass on /v1/fleet/ only.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tacitly_common.validation import positive

OPERATOR_ADDRESS: Final = "127.0.0.1"
FLEET: Final = "/v1/fleet/"
_RUNTIME: Final = "/v1/runtime/"
_OPERATOR_PATHS: Final = frozenset(
    {
        "/health",
        "/v1/control/list-nodes",
        "/v1/control/list-runs",
        "/v1/control/register-node",
        "/v1/control/start-run",
        "/v1/control/stop-run",
        "/v1/control/unregister-node",
    }
)

# 429 is left out: a flood must not push everything else out of the log.
_AUDITED: Final = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    }
)

# Called with (status, path, client address, arrival address) for each refused call.
OnRefusal = Callable[[int, str, str, str], None]


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """How much one caller may ask of the server.

    Flower cuts arrays into objects of 5 MB, one request each: `body_bytes` must be above that.
    A device needs some ten requests a round and a poll each few seconds.
    """

    body_bytes: int = 8 * 1024 * 1024
    all_bodies_bytes: int = 256 * 1024 * 1024
    body_seconds: float = 30.0
    requests_per_second: float = 40.0
    burst_requests: int = 200

    def __post_init__(self) -> None:
        positive(
            body_bytes=self.body_bytes,
            all_bodies_bytes=self.all_bodies_bytes,
            body_seconds=self.body_seconds,
            requests_per_second=self.requests_per_second,
            burst_requests=self.burst_requests,
        )


class RateLimit:
    """A token bucket for each client, for the most recent `clients` of them."""

    def __init__(
        self, per_second: float, burst: int, clock: Callable[[], float], clients: int = 10_000
    ) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._clients = clients
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allow(self, client: str) -> bool:
        """Take one token of the client's bucket, if there is one."""
        now = self._clock()
        tokens, filled_at = self._buckets.pop(client, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - filled_at) * self._per_second)
        allowed = tokens >= 1
        self._buckets[client] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > self._clients:
            self._buckets.popitem(last=False)
        return allowed


class _RefusedError(Exception):
    """The request ends here with this status."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


@dataclass(slots=True)
class RequestGuard:
    """The ASGI application to serve instead of `app`."""

    app: ASGIApp
    limits: RequestLimits
    on_refusal: OnRefusal
    clock: Callable[[], float] = time.monotonic
    _rate: RateLimit = field(init=False)
    _held_bytes: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._rate = RateLimit(
            self.limits.requests_per_second, self.limits.burst_requests, self.clock
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the start and end of the server ("lifespan")."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        if scope["type"] != "http":
            return
        client, arrival = _address(scope, "client"), _address(scope, "server")

        def audit(status: int) -> None:
            # Before the answer: whoever has it finds the line in the log.
            if status in _AUDITED:
                self.on_refusal(status, scope["path"], client, arrival)

        async def watched_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                audit(message["status"])
            await send(message)

        held: list[int] = [0]
        try:
            self._door(scope["path"], client, arrival)
            body = await self._body(scope, receive, held)
            await self.app(scope, _replay(body, receive), watched_send)
        except _RefusedError as refused:
            audit(refused.status)
            await _answer(send, refused.status)
        finally:
            self._held_bytes -= held[0]

    def _door(self, path: str, client: str, arrival: str) -> None:
        operator = arrival == OPERATOR_ADDRESS
        if not operator and not self._rate.allow(client):
            raise _RefusedError(HTTPStatus.TOO_MANY_REQUESTS)
        if path.startswith(FLEET):
            return
        if not operator or not (path in _OPERATOR_PATHS or path.startswith(_RUNTIME)):
            raise _RefusedError(HTTPStatus.NOT_FOUND)

    async def _body(self, scope: Scope, receive: Receive, held: list[int]) -> bytes:
        """The whole body; `held[0]` is what it counts for in `_held_bytes`."""
        for name, value in scope["headers"]:
            if name == b"content-length" and int(value) > self.limits.body_bytes:
                raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        chunks: list[bytes] = []
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _RefusedError(HTTPStatus.BAD_REQUEST)
                    chunk: bytes = message.get("body", b"")
                    more = message.get("more_body", False)
                    chunks.append(chunk)
                    held[0] += len(chunk)
                    self._held_bytes += len(chunk)
                    if held[0] > self.limits.body_bytes:
                        raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                    if self._held_bytes > self.limits.all_bodies_bytes:
                        raise _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE)
        except TimeoutError:
            raise _RefusedError(HTTPStatus.REQUEST_TIMEOUT) from None
        return b"".join(chunks)


def _address(scope: Scope, side: str) -> str:
    """The host part of `scope["client"]` or `scope["server"]`; "" if unknown."""
    address = scope.get(side)
    return str(address[0]) if address else ""


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once and then what `receive` gives (a disconnect)."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


async def _answer(send: Send, status: HTTPStatus) -> None:
    """An empty response that ends the connection: the rest of the body is not read."""
    headers = [(b"content-length", b"0"), (b"connection", b"close")]
    if status is HTTPStatus.TOO_MANY_REQUESTS:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": b""})
