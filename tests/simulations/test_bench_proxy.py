"""The byte counter of the benchmarks against a real server."""

import socket
import threading
from collections.abc import Iterator

import pytest

from stock_flower import eventually
from tacitly_simulations.bench.proxy import CountingProxy, Traffic


@pytest.fixture
def doubling_server() -> Iterator[int]:
    """Answers every connection, once it is half closed or 1,000 bytes came, with them twice."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    data = b""
                    while len(data) < 1_000 and (part := connection.recv(1_000)):
                        data += part
                    connection.sendall(2 * data)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def ask(port: int, data: bytes) -> bytes:
    """What the server at `port` answers to `data`."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(data)
        answer = b""
        while part := connection.recv(4_096):
            answer += part
        return answer


def test_bytes_arrive_unchanged_and_are_counted_by_direction(doubling_server: int) -> None:
    with CountingProxy(doubling_server) as proxy:
        assert ask(proxy.port, b"a" * 1_000) == b"a" * 2_000
        before = proxy.traffic
        assert ask(proxy.port, b"b" * 1_000) == b"b" * 2_000
        assert before == Traffic(up=1_000, down=2_000)
        assert proxy.traffic - before == Traffic(up=1_000, down=2_000)


def test_a_device_that_finds_no_server_finds_one_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with CountingProxy(port) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port)) as connection:
            assert connection.recv(1) == b""
        with (
            socket.create_server(("127.0.0.1", port)) as listener,
            socket.create_connection(("127.0.0.1", proxy.port)) as connection,
        ):
            server, _ = listener.accept()
            with server:
                connection.sendall(b"x")
                assert server.recv(1) == b"x"


def test_leaving_ends_open_connections(doubling_server: int) -> None:
    with CountingProxy(doubling_server) as proxy:
        connection = socket.create_connection(("127.0.0.1", proxy.port))
        connection.sendall(b"x")
        eventually(lambda: proxy.traffic.up)
    with connection:
        assert connection.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port))
