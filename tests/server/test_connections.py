"""Connections that say nothing, or too many of them, over a real uvicorn."""

import socket
import threading
from collections.abc import Iterator
from typing import ClassVar

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from stock_flower import eventually
from tacitly_server.connections import BoundedConnection

OUTSIDE, OPERATOR = "127.0.0.2", "127.0.0.1"
REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
LIMIT = 8


class Impatient(BoundedConnection):
    head_seconds: ClassVar[float] = 0.3


class Patient(BoundedConnection):
    head_seconds: ClassVar[float] = 3600.0


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


class Site:
    """uvicorn on one port of both addresses."""

    def __init__(self, protocol: type[BoundedConnection]) -> None:
        config = uvicorn.Config(
            application,
            http=protocol,
            ws="none",
            lifespan="off",
            limit_concurrency=LIMIT,
            timeout_keep_alive=3600,
            timeout_graceful_shutdown=1,
            log_config=None,
        )
        self.server = uvicorn.Server(config)
        first = socket.create_server((OPERATOR, 0))
        self.port: int = first.getsockname()[1]
        sockets = [first, socket.create_server((OUTSIDE, self.port))]
        self.thread = threading.Thread(target=self.server.run, args=(sockets,))
        self.thread.start()
        eventually(lambda: self.server.started)
        self.callers: list[socket.socket] = []

    def call(self, address: str, *, source: str = "127.0.0.1") -> socket.socket:
        caller = socket.create_connection((address, self.port), 30, (source, 0))
        self.callers.append(caller)
        return caller

    def close(self) -> None:
        for caller in self.callers:
            caller.close()
        self.server.should_exit = True
        self.thread.join()


@pytest.fixture
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    made = Site(request.param)
    yield made
    made.close()


def answer(caller: socket.socket) -> bytes:
    """What a request gives: b"" if the connection was cut off."""
    try:
        caller.sendall(REQUEST)
        return caller.recv(4096)[:12]
    except ConnectionError:
        return b""


def cut_off(caller: socket.socket) -> bool:
    """Whether the server ends the connection."""
    try:
        return caller.recv(4096) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("site", [Impatient], indirect=True)
@pytest.mark.parametrize("address", [OUTSIDE, OPERATOR])
def test_a_caller_that_says_nothing_is_cut_off(site: Site, address: str) -> None:
    assert cut_off(site.call(address))


@pytest.mark.parametrize("site", [Impatient], indirect=True)
@pytest.mark.parametrize("before", [b"", REQUEST])
def test_a_head_that_never_ends_is_cut_off(site: Site, before: bytes) -> None:
    caller = site.call(OUTSIDE)
    if before:
        assert answer(caller) == b"HTTP/1.1 204"
    caller.settimeout(0.05)
    caller.sendall(b"GET / HTTP/1.1\r\nx: ")

    def cut() -> bool:
        try:
            caller.sendall(b"a")
            return caller.recv(1) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True

    assert eventually(cut)


@pytest.mark.parametrize("site", [Patient], indirect=True)
def test_silent_callers_shut_out_neither_other_addresses_nor_the_operator(site: Site) -> None:
    silent = [site.call(OUTSIDE, source="127.0.0.9") for _ in range(LIMIT)]
    assert all(map(cut_off, silent[LIMIT // 4 :]))
    assert answer(site.call(OUTSIDE, source="127.0.0.8")) == b"HTTP/1.1 204"
    for number in range(LIMIT):
        site.call(OUTSIDE, source=f"127.0.0.{10 + number}")
    assert answer(site.call(OUTSIDE, source="127.0.0.7")) == b""
    assert answer(site.call(OPERATOR)) == b"HTTP/1.1 204"
    assert answer(silent[0]) != b""
