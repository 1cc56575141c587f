"""HTTPS that survives what a real network does, against a real TLS server that does it."""

import ssl
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tacitly_client.node.backoff import Trouble
from tacitly_client.node.connection import Connection
from tacitly_client.node.flower_port import GetRunRequest
from tacitly_client.node.transport import FleetError, ServerClock, Transport, WithdrawnError
from tacitly_common.errors import ValidationError
from tacitly_server.certificates import create

NOW = 1_800_000_000.0
KEY = ec.generate_private_key(ec.SECP256R1())

Answer = tuple[int, dict[str, str], bytes]
Script = Callable[[dict[str, str]], Answer]


def ok(_headers: dict[str, str]) -> Answer:
    return 200, {}, b""


class Server:
    """A TLS server whose answers the test writes; `script` sees the request's headers."""

    def __init__(self, tls: Path) -> None:
        self.script: Script = ok
        self.requests: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.requests.append(headers)
                status, extra, body = outer.script(headers)
                self.send_response_only(status)
                for name, value in extra.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls / "server.crt", tls / "server.key")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self.ca_certificate = tls / "ca.crt"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tls")
    create(directory, ["127.0.0.1", "localhost"], now=datetime.now(UTC))
    return directory


@pytest.fixture
def server(tls: Path) -> Iterator[Server]:
    running = Server(tls)
    yield running
    running.close()


@pytest.fixture
def transport(server: Server) -> Iterator[Transport]:
    with connect(server) as made:
        yield made


def connect(server: Server, **changes: object) -> Transport:
    settings = {
        "ca_certificate": server.ca_certificate,
        "key": KEY,
        "clock": ServerClock(lambda: NOW),
        "max_response_bytes": 10_000,
    }
    return Transport(server.address, **(settings | changes))  # type: ignore[arg-type]


def call(transport: Transport) -> None:
    transport.GetRun(GetRunRequest(run_id=1))


def date(moment: float) -> dict[str, str]:
    return {"date": format_datetime(datetime.fromtimestamp(moment, UTC), usegmt=True)}


def trouble(transport: Transport) -> FleetError:
    with pytest.raises(FleetError) as caught:
        call(transport)
    return caught.value


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (301, Trouble.PROTOCOL),
        (400, Trouble.PROTOCOL),
        (401, Trouble.UNAUTHENTICATED),
        (403, Trouble.FORBIDDEN),
        (404, Trouble.PROTOCOL),
        (407, Trouble.PROXY),
        (412, Trouble.STILL_ONLINE),
        (413, Trouble.PROTOCOL),
        (429, Trouble.THROTTLED),
        (500, Trouble.SERVER),
        (502, Trouble.SERVER),
        (503, Trouble.SERVER),
        (504, Trouble.SERVER),
    ],
)
def test_every_refusal_has_its_name(
    server: Server, transport: Transport, status: int, expected: Trouble
) -> None:
    server.script = lambda _: (status, {}, b"a secret of the server's")
    error = trouble(transport)
    assert error.trouble is expected
    assert "secret" not in str(error)


def test_an_ended_run_is_told_from_a_filter_on_the_way(
    server: Server, transport: Transport
) -> None:
    server.script = lambda _: (403, {}, b'{"code": 2007, "detail": "not running"}')
    with pytest.raises(WithdrawnError):
        call(transport)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("17", 17.0),
        (date(NOW + 90)["date"], 90.0),
        (date(NOW - 90)["date"], 0.0),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(
    server: Server, transport: Transport, value: str, seconds: float | None
) -> None:
    server.script = lambda _: (429, {"retry-after": value}, b"")
    assert trouble(transport).retry_after_seconds == seconds


def test_a_redirect_is_not_followed(server: Server, transport: Transport) -> None:
    server.script = lambda _: (307, {"location": f"https://{server.address}/elsewhere"}, b"")
    trouble(transport)
    assert len(server.requests) == 1


def test_a_huge_answer_is_not_read_to_its_end(server: Server, transport: Transport) -> None:
    server.script = lambda _: (200, {}, b"\0" * 1_000_000)
    assert trouble(transport).trouble is Trouble.PROTOCOL


def test_a_compressed_answer_is_refused(server: Server, transport: Transport) -> None:
    server.script = lambda _: (200, {"content-encoding": "gzip"}, b"")
    assert trouble(transport).trouble is Trouble.PROTOCOL


def test_a_server_that_is_not_there_is_a_transport_error(server: Server) -> None:
    with connect(server) as transport:
        server.close()
        assert trouble(transport).trouble is Trouble.TRANSPORT


def test_another_authority_is_not_trusted(server: Server, tmp_path: Path) -> None:
    create(tmp_path / "other", ["127.0.0.1"], now=datetime.now(UTC))
    with connect(server, ca_certificate=tmp_path / "other" / "ca.crt") as transport:
        assert trouble(transport).trouble is Trouble.TLS


def test_a_certificate_for_another_name_is_not_trusted(tmp_path: Path) -> None:
    create(tmp_path / "tls", ["elsewhere.example"], now=datetime.now(UTC))
    elsewhere = Server(tmp_path / "tls")
    try:
        with connect(elsewhere) as transport:
            assert trouble(transport).trouble is Trouble.TLS
    finally:
        elsewhere.close()


def test_a_loopback_server_is_never_asked_through_a_proxy(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with connect(server) as transport:
        call(transport)
    assert len(server.requests) == 1


def test_another_server_is_asked_through_the_proxy(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing listens there: that the proxy cannot be reached shows that it was asked for.
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    server.address = "aggregator.invalid:443"
    with connect(server) as transport:
        (pattern,) = [str(p.pattern) for p in transport._client._mounts]
        assert pattern == "https://"
        assert trouble(transport).trouble is Trouble.TRANSPORT


@pytest.mark.parametrize("text", ["", "host", "host:", "host:0x50", "https://host:1", "a@host:1"])
def test_a_server_that_is_no_host_and_port_is_refused(server: Server, text: str) -> None:
    server.address = text
    with pytest.raises(ValidationError, match="HOST:PORT"):
        connect(server)


def test_a_certificate_file_that_is_none_is_refused(server: Server, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("nothing")
    with pytest.raises(ValidationError, match=r"ca\.crt"):
        connect(server, ca_certificate=tmp_path / "ca.crt")


def test_a_request_tells_no_more_than_it_must(server: Server, transport: Transport) -> None:
    call(transport)
    (headers,) = server.requests
    assert set(headers) == {
        "host",
        "content-type",
        "accept",
        "accept-encoding",
        "connection",
        "user-agent",
        "content-length",
        "flwr-public-key",
        "flwr-timestamp",
        "flwr-signature",
    }
    assert headers["user-agent"] == "tacitly"


def signed_at(headers: dict[str, str]) -> float:
    """The time a request was signed with, after checking the signature as the server does."""
    KEY.public_key().verify(
        b64decode(headers["flwr-signature"]),
        headers["flwr-timestamp"].encode(),
        ec.ECDSA(hashes.SHA256()),
    )
    return datetime.fromisoformat(headers["flwr-timestamp"]).timestamp()


@pytest.mark.parametrize("ahead", [0, 6, -310, 3_600, -3_600, 5 * 86_400, -5 * 86_400])
def test_a_wrong_clock_is_corrected_from_the_servers_date(server: Server, ahead: float) -> None:
    def strict(headers: dict[str, str]) -> Answer:
        in_window = -5 < NOW - signed_at(headers) < 305
        return (200 if in_window else 401), date(NOW), b""

    server.script = strict
    with connect(server, clock=ServerClock(lambda: NOW + ahead)) as transport:
        call(transport)
        before = len(server.requests)
        call(transport)
    # One more request at most, and only once.
    assert before <= 2
    assert len(server.requests) == before + 1
    assert NOW - signed_at(server.requests[-1]) == pytest.approx(150, abs=1)


def test_a_refusal_that_the_clock_does_not_explain_is_not_repeated(
    server: Server, transport: Transport
) -> None:
    server.script = lambda _: (401, date(NOW), b"")
    assert trouble(transport).trouble is Trouble.UNAUTHENTICATED
    assert len(server.requests) == 1


@pytest.mark.parametrize("text", [None, "", "yesterday", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_an_absurd_date_moves_no_clock(text: str | None) -> None:
    clock = ServerClock(lambda: NOW)
    assert clock.learn(text) == 0
    assert clock.now() == NOW


def test_a_date_moves_the_clock_to_the_middle_of_its_second() -> None:
    clock = ServerClock(lambda: NOW)
    assert clock.learn(date(NOW + 100)["date"]) == pytest.approx(100.5)
    assert clock.now() == pytest.approx(NOW + 100.5)


def test_an_answer_that_is_no_protobuf_is_a_protocol_error(server: Server, tmp_path: Path) -> None:
    server.script = lambda _: (200, {}, b"<html>login to the hotel's network</html>")
    connection = Connection(
        server.address,
        ca_certificate=server.ca_certificate,
        key=KEY,
        node_id_file=tmp_path / "node.id",
        heartbeat_seconds=30,
    )
    with pytest.raises(FleetError) as caught:
        connection.connect()
    assert caught.value.trouble is Trouble.PROTOCOL
    connection.disconnect()
