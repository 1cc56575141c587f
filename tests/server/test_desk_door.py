"""What a caller meets before any service: bounds, and a line in the log for whatever is refused."""

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from agreement import begin_log
from desk import MODULE, Desk, desk_beside_superlink, running_desk
from our_server import OurSuperLink
from tacitly_common.wire.desk_client import MOST_MESSAGE_BYTES, ask, desk_channel
from tacitly_common.wire.desk_errors import DeskError, DeskNotAuthorisedError
from tacitly_common.wire.desk_pb2 import ReadLogRequest, SubmitRequest
from tacitly_common.wire.desk_pb2_grpc import OfficersStub
from tacitly_server.certificates import create
from tacitly_server.enrolment.door import DeskLimits, Door, _host
from tacitly_server.home import ServerHome
from tacitly_server.initialise import initialise

READ_LOG = "/tacitly.desk.v1.Officers/ReadLog"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk_beside_superlink(tmp_path_factory.mktemp("desk") / "home") as running:
        yield running


def logged(desk: Desk) -> list[dict[str, Any]]:
    return [json.loads(line) for line in desk.home.desk_log.read_text().splitlines()]


def refusal(desk: Desk, method: str, message: bytes = b"") -> grpc.RpcError:
    call = desk.channel().unary_unary(method, _registered_method=False)
    with pytest.raises(grpc.RpcError) as error:
        call(message, timeout=30)
    return error.value


def test_every_call_leaves_a_line_without_content(desk: Desk) -> None:
    device = desk.device()
    token = desk.invite().token
    with pytest.raises(DeskNotAuthorisedError):
        device.enrol("A" * 32)
    lines = logged(desk)[-2:]
    assert [(line["event"], line["outcome"]) for line in lines] == [
        ("call", "ok"),
        ("refused", "permission_denied"),
    ]
    assert lines[0]["action"] == "/tacitly.desk.v1.Enrolment/Enrol"
    assert lines[0]["actor"] == str(device.answer.node_id)
    assert {line["address"] for line in lines} == {"127.0.0.1"}
    written = desk.home.desk_log.read_text() + (desk.home.logs / "desk.log").read_text()
    assert token not in written
    assert "A" * 32 not in written
    assert desk.home.desk_log.stat().st_mode & 0o777 == 0o600


def test_what_is_no_service_and_no_message_is_refused_and_logged(desk: Desk) -> None:
    assert refusal(desk, "/tacitly.desk.v1.Enrolment/Open").code() is grpc.StatusCode.UNIMPLEMENTED
    assert refusal(desk, READ_LOG, b"\xff" * 9).code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [line["outcome"] for line in logged(desk)[-2:]] == ["unimplemented", "invalid_argument"]


def test_a_message_beyond_the_bound_is_refused(desk: Desk) -> None:
    options = [("grpc.max_send_message_length", -1)]
    ca = (desk.home.tls / "ca.crt").read_bytes()
    with grpc.secure_channel(
        f"127.0.0.1:{desk.port}", grpc.ssl_channel_credentials(ca), options
    ) as channel:
        request = SubmitRequest(entry=b"", model=b"\0" * MOST_MESSAGE_BYTES)
        with pytest.raises(DeskError, match="resource exhausted"):
            ask(OfficersStub(channel).Submit, request)


def test_who_calls_too_often_is_refused_and_logged_once(desk: Desk) -> None:
    stub = OfficersStub(desk.channel())
    request = ReadLogRequest(first=10_000)
    before = len(logged(desk))

    def call(_: int) -> str:
        try:
            stub.ReadLog(request, timeout=30)
        except grpc.RpcError as error:
            return str(error.code().name)
        return "OK"

    with ThreadPoolExecutor(8) as threads:
        said = list(threads.map(call, range(600)))
    assert said.count("RESOURCE_EXHAUSTED") > 10
    refused = [line for line in logged(desk)[before:] if line["event"] == "refused"]
    assert [line["outcome"] for line in refused].count("resource_exhausted") == 1
    time.sleep(1)
    ask(stub.ReadLog, request)


def test_only_tls_with_the_servers_authority_is_spoken(desk: Desk, tmp_path: Path) -> None:
    create(tmp_path / "other", ["127.0.0.1"], now=datetime.now(UTC))
    stranger = (tmp_path / "other" / "ca.crt").read_bytes()
    with (
        desk_channel(f"127.0.0.1:{desk.port}", stranger) as channel,
        pytest.raises(DeskError, match="unavailable") as error,
    ):
        ask(OfficersStub(channel).ReadLog, ReadLogRequest())
    assert error.value.exit_code == 7
    with (
        grpc.insecure_channel(f"127.0.0.1:{desk.port}") as channel,
        pytest.raises(DeskError, match="unavailable"),
    ):
        ask(OfficersStub(channel).ReadLog, ReadLogRequest(), timeout_seconds=5)


def test_without_superlink_a_device_is_told_to_try_later_and_the_operator_why(
    tmp_path: Path,
) -> None:
    home = ServerHome(tmp_path / "home")
    initialise(home, [], now=datetime.now(UTC))
    begin_log(home)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # nobody listens there
        nothing = OurSuperLink(home, silent.getsockname()[1])
        with running_desk(nothing) as desk, pytest.raises(DeskError) as error:
            desk.device()
    assert error.value.exit_code == 7
    assert "desk.log says why" in str(error.value)
    assert "start it with `tacitly-server up`" in (home.logs / "desk.log").read_text()


@pytest.mark.parametrize("spoiled", ["authority.key", "authority.crt", "tls/server.crt"])
def test_a_desk_without_its_keys_does_not_start(tmp_path: Path, spoiled: str) -> None:
    home = ServerHome(tmp_path / "home")
    initialise(home, [], now=datetime.now(UTC))
    (home.root / spoiled).write_bytes(b"nonsense")
    ended = subprocess.run(
        [sys.executable, *MODULE, "--home", home.root, "--port", "1", "--server-port", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")


class _Audit:
    def __init__(self) -> None:
        self.outcomes: list[str] = []

    def write(self, _event: str, **fields: Any) -> None:
        self.outcomes.append(fields["outcome"])


def test_who_sends_no_message_gives_up_the_place(tmp_path: Path) -> None:
    """With a place for one call of an address, the next one waits for the first to be cut off."""
    audit = _Audit()
    limits = DeskLimits(calls_at_once=2, share_of_an_address=0.5, message_seconds=1.0)

    async def answer(request: bytes, context: object) -> bytes:
        raise AssertionError("no message reaches a service here")

    async def talk() -> list[grpc.StatusCode]:
        with ThreadPoolExecutor(1) as threads:
            server = grpc.aio.server(interceptors=[Door(audit, threads, limits)])  # type: ignore[arg-type]
            handler = grpc.unary_unary_rpc_method_handler(answer)
            server.add_generic_rpc_handlers(
                [grpc.method_handlers_generic_handler("a.B", {"C": handler})]
            )
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            codes = []
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                silent = channel.stream_unary("/a.B/C")()
                await asyncio.sleep(0.3)
                hurried = channel.stream_unary("/a.B/C")()
                codes.append(await hurried.code())
                codes.append(await silent.code())
            await server.stop(0)
            return codes

    assert asyncio.run(talk()) == [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    ]
    assert audit.outcomes == ["unavailable", "deadline_exceeded"]


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:192.0.2.7:41000", "192.0.2.7"),
        ("ipv6:[2001:db8::1]:41000", "2001:db8::1"),
        ("ipv6:%5B2001:db8::1%5D:41000", "2001:db8::1"),
    ],
)
def test_the_address_is_the_peers_without_its_port(peer: str, host: str) -> None:
    assert _host(peer) == host
