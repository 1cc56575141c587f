"""Who is not the operator: let in by a stock SuperLink, turned away by ours. Real processes, TLS.

Each attack is first made on a stock SuperLink, where it succeeds, and then, by the same code, on
ours.
"""

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
)
from flwr.proto.fab_pb2 import Fab
from flwr.proto.runtime_pb2 import AcquireTaskRequest, PullTaskInputRequest
from flwr.supercore.constant import TASK_TOKEN_HEADER
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.interceptors import SuperExecAuthHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.fleet_http_connection import http_request_response

from our_server import OTHER_LOOPBACK, OurSuperLink, our_superlink
from stock_flower import StockSuperLink
from tacitly_server.bundle import bundle
from tacitly_server.superlink import read_secrets

Target = StockSuperLink | OurSuperLink
BODY_TOO_LARGE = 9 * 1024 * 1024


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StockSuperLink]:
    server = StockSuperLink(tmp_path_factory.mktemp("stock"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OurSuperLink]:
    with our_superlink(tmp_path_factory.mktemp("ours") / "home", "--host", "0.0.0.0") as server:  # noqa: S104
        yield server


def control(target: Target, *interceptors: Any) -> ControlHttpClient:
    """Flower's own client of the Control API, as anybody has it."""
    return ControlHttpClient.from_server_address(
        f"127.0.0.1:{target.port}",
        False,
        target.ca_certificate.read_bytes(),
        interceptors=interceptors,
    )


def runtime(target: Target, *interceptors: Any) -> RuntimeHttpClient:
    """Flower's own client of the Runtime API."""
    return RuntimeHttpClient.from_server_address(
        f"127.0.0.1:{target.port}",
        False,
        target.ca_certificate.read_bytes(),
        interceptors=interceptors,
    )


def register_a_node(target: Target) -> int:
    key = public_key_to_bytes(ec.generate_private_key(ec.SECP384R1()).public_key())
    with control(target) as client:
        node_id: int = client.RegisterNode(RegisterNodeRequest(public_key=key)).node_id
        return node_id


def start_a_run(target: Target) -> int:
    with control(target) as client:
        run_id: int = client.StartRun(StartRunRequest(fab=Fab(content=bundle()))).run_id
        return run_id


def see_the_nodes(target: Target) -> bool:
    with control(target) as client:
        return client.ListNodes(ListNodesRequest()).IsInitialized()


def see_the_runs(target: Target) -> bool:
    with control(target) as client:
        return client.ListRuns(ListRunsRequest()).IsInitialized()


def steal_the_task_of_the_serverapp(target: Target) -> str:
    """The task's token: with it one is the ServerApp."""
    with runtime(target) as client:
        request = AcquireTaskRequest(supported_task_types=["flwr-serverapp"])
        token: str = client.AcquireTask(request).token
        return token


def status_of_refusal(attack: Any, target: Target) -> int:
    with pytest.raises(httpx.HTTPStatusError) as refusal:
        attack(target)
    return refusal.value.response.status_code


@pytest.mark.parametrize(
    "attack", [register_a_node, start_a_run, see_the_nodes, see_the_runs], ids=lambda a: a.__name__
)
def test_an_unauthenticated_caller_of_the_control_api(
    stock: StockSuperLink, ours: OurSuperLink, attack: Any
) -> None:
    assert attack(stock)

    with ours.control() as operator:
        before = (operator.nodes(), operator.runs())
        assert status_of_refusal(attack, ours) == httpx.codes.UNAUTHORIZED
        assert (operator.nodes(), operator.runs()) == before


def test_a_thief_of_the_serverapps_task(stock: StockSuperLink, ours: OurSuperLink) -> None:
    start_a_run(stock)
    token = steal_the_task_of_the_serverapp(stock)
    with runtime(stock, _Header(TASK_TOKEN_HEADER, token)) as serverapp:
        assert serverapp.PullTaskInput(PullTaskInputRequest()).fab.content == bundle()

    with ours.control() as operator:
        run_id = operator.start(bundle(), campaign="0" * 64)
        attack = steal_the_task_of_the_serverapp
        assert status_of_refusal(attack, ours) == httpx.codes.UNAUTHORIZED
        assert next(run for run in operator.runs() if run.run_id == run_id).status == "pending"
        operator.stop(run_id)


def test_superexec_with_the_secret_and_only_that_gets_the_task(ours: OurSuperLink) -> None:
    request = AcquireTaskRequest(supported_task_types=["flwr-serverapp"])
    methods = frozenset({"/flwr.proto.Runtime/AcquireTask"})
    secret = read_secrets(ours.home).superexec_secret
    with ours.control() as operator:
        run_id = operator.start(bundle(), campaign="0" * 64)
        guessed = SuperExecAuthHttpInterceptor(master_secret=b"guess", protected_methods=methods)
        with runtime(ours, guessed) as client, pytest.raises(httpx.HTTPStatusError, match="401"):
            client.AcquireTask(request)
        known = SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=methods)
        with runtime(ours, known) as client:
            assert client.AcquireTask(request).task.run_id == run_id
        operator.stop(run_id)


def test_a_made_up_task_token_opens_nothing(ours: OurSuperLink) -> None:
    with (
        runtime(ours, _Header(TASK_TOKEN_HEADER, "0" * 64)) as client,
        pytest.raises(httpx.HTTPStatusError, match=r"40[13]"),
    ):
        client.PullTaskInput(PullTaskInputRequest())


@pytest.mark.parametrize("value", ["Bearer guessed", "Basic b3BlcmF0b3I6", "Bearer"])
def test_a_wrong_token_is_refused_and_the_operators_accepted(
    ours: OurSuperLink, value: str
) -> None:
    with (
        control(ours, _Header("authorization", value)) as client,
        pytest.raises(httpx.HTTPStatusError, match="401"),
    ):
        client.ListNodes(ListNodesRequest())
    token = read_secrets(ours.home).control_token.decode()
    with control(ours, _Header("authorization", f"Bearer {token}")) as client:
        assert client.ListNodes(ListNodesRequest()).now


def test_the_operators_calls_do_not_exist_at_another_address(ours: OurSuperLink) -> None:
    token = read_secrets(ours.home).control_token.decode()
    with httpx.Client(
        base_url=f"https://{OTHER_LOOPBACK}:{ours.port}",
        verify=_trusting(ours),
        headers={"authorization": f"Bearer {token}", "content-type": "application/protobuf"},
    ) as client:
        for path in (
            "/v1/control/list-nodes",
            "/v1/control/start-run",
            "/v1/runtime/acquire-task",
            "/v1/runtime/pull-task-input",
        ):
            assert client.post(path).status_code == httpx.codes.NOT_FOUND
        assert client.get("/health").status_code == httpx.codes.NOT_FOUND
        # A device's call reaches Flower, which asks who is calling.
        answer = client.post("/v1/fleet/pull-messages")
        assert answer.status_code == httpx.codes.UNAUTHORIZED


def test_a_device_reaches_the_server_at_another_address(ours: OurSuperLink) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    with ours.control() as operator:
        node_id = operator.register(public_key_to_bytes(key.public_key()))
        connection = http_request_response(
            f"{OTHER_LOOPBACK}:{ours.port}",
            False,
            root_certificates=ours.ca_certificate.read_bytes(),
            authentication_keys=(key, key.public_key()),
        )
        with connection as (connected_as, *_calls):
            assert connected_as == node_id
            statuses = {node.node_id: node.status for node in operator.nodes()}
            assert statuses[node_id] == "online"
    came = [line for line in lines(ours.home.fleet_log) if "activate-node" in line["action"]]
    assert came[-1]["actor"] == str(node_id)


@pytest.mark.parametrize("path", ["/docs", "/openapi.json"])
def test_the_api_is_not_described_to_anybody(
    stock: StockSuperLink, ours: OurSuperLink, path: str
) -> None:
    assert get(stock, "127.0.0.1", path) == httpx.codes.OK
    assert get(ours, "127.0.0.1", path) == httpx.codes.NOT_FOUND
    assert get(ours, OTHER_LOOPBACK, path) == httpx.codes.NOT_FOUND


def test_a_body_of_nine_megabytes_is_not_read(stock: StockSuperLink, ours: OurSuperLink) -> None:
    # A stock SuperLink reads all of it before it asks who is calling.
    assert post_large_body(stock) == httpx.codes.UNAUTHORIZED
    assert post_large_body(ours) == httpx.codes.REQUEST_ENTITY_TOO_LARGE


def test_a_header_without_end_is_cut_off(ours: OurSuperLink) -> None:
    with (
        socket.create_connection(("127.0.0.1", ours.port)) as plain,
        _trusting(ours).wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"POST /v1/fleet/get-run HTTP/1.1\r\nx: " + b"a" * 64 * 1024)
        assert connection.recv(64).startswith(b"HTTP/1.1 4")


def test_calls_and_refusals_are_in_the_audit_log(ours: OurSuperLink) -> None:
    status_of_refusal(start_a_run, ours)
    with ours.control() as operator:
        run_id = operator.start(bundle(), campaign="1" * 64)
        operator.stop(run_id)

    refused, started, stopped = lines(ours.home.audit_log)[-3:]
    assert (refused["event"], refused["action"], refused["outcome"]) == (
        "refused", "/v1/control/start-run", 401,
    )  # fmt: skip
    assert (started["actor"], started["outcome"], len(started["fab"])) == ("operator", "ok", 64)
    assert (stopped["action"], stopped["run"]) == ("/v1/control/stop-run", run_id)
    assert ours.home.audit_log.stat().st_mode & 0o077 == 0


def test_strangers_leave_their_lines_beside_the_audit_log(ours: OurSuperLink) -> None:
    before = ours.home.audit_log.read_bytes()
    get(ours, OTHER_LOOPBACK, "/v1/control/start-run")
    get(ours, "127.0.0.1", "/v1/fleet/nothing")
    assert ours.home.audit_log.read_bytes() == before
    assert [line["action"] for line in lines(ours.home.fleet_log)[-2:]] == [
        "/v1/control/start-run", "/v1/fleet/nothing",
    ]  # fmt: skip
    assert ours.home.fleet_log.stat().st_mode & 0o077 == 0


def lines(log: Path) -> list[dict[str, Any]]:
    """The lines of an audit log."""
    return [json.loads(line) for line in log.read_text().splitlines()]


class _Header:
    """An interceptor of Flower's clients that adds one header."""

    def __init__(self, name: str, value: str) -> None:
        self._name, self._value = name, value

    def intercept(self, context: Any, call_next: Any) -> httpx.Response:
        context.request.headers[self._name] = self._value
        response: httpx.Response = call_next(context)
        return response


def _trusting(target: Target) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(target.ca_certificate))


def get(target: Target, host: str, path: str) -> int:
    return httpx.get(f"https://{host}:{target.port}{path}", verify=_trusting(target)).status_code


def post_large_body(target: Target) -> int:
    return httpx.post(
        f"https://127.0.0.1:{target.port}/v1/fleet/pull-messages",
        # As chunks: no length is announced. An unknown field of protobuf is skipped when parsed.
        content=_chunks(),
        headers={"content-type": "application/protobuf"},
        verify=_trusting(target),
        timeout=60,
    ).status_code


def _chunks() -> Iterator[bytes]:
    length = BODY_TOO_LARGE
    field = bytes([15 << 3 | 2]) + _varint(length)
    yield field
    for _ in range(length // (64 * 1024)):
        yield bytes(64 * 1024)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
