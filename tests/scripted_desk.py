"""A desk that says what a test wants: a real gRPC server over TLS."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)
from cryptography.x509.oid import NameOID

from tacitly_common.invitation import Invitation
from tacitly_common.wire.desk_pb2 import (
    EnrolRequest,
    EnrolResponse,
    ModelRequest,
    ModelResponse,
    RefreshRequest,
    RefreshResponse,
    WithdrawRequest,
    WithdrawResponse,
)
from tacitly_common.wire.desk_pb2_grpc import (
    EnrolmentServicer,
    add_EnrolmentServicer_to_server,
)
from tacitly_common.wire.desk_requests import check_request

TOKEN = "A" * 32
_AUTHORITY_KEY = ec.generate_private_key(ec.SECP384R1())
_EVER = timedelta(days=36_500)


def certificate(public_key: Any, name: str) -> bytes:
    """A certificate of the tests' authority, DER."""
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")]))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + _EVER)
    )
    return builder.sign(_AUTHORITY_KEY, hashes.SHA384()).public_bytes(Encoding.DER)


def authority() -> bytes:
    """The tests' authority, DER."""
    return certificate(_AUTHORITY_KEY.public_key(), "authority")


@dataclass
class Desk(EnrolmentServicer):
    """Serves `lines` as the officers' log.

    `spoil` may change an answer to Enrol; `before` is called at each call's begin. `models` are a
    receipt and a model by the plan's hash.
    """

    lines: list[bytes]
    address: str = ""
    register: Callable[[bytes], int] = lambda _pem: 42
    refuses: tuple[grpc.StatusCode, str] | None = None
    spoil: Callable[[EnrolResponse], None] = lambda _response: None
    before: Callable[[], object] = lambda: None
    most_entries: int = 1_000
    renewal: bytes = b""
    models: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    most_part_bytes: int = 1 << 20
    model_requests: list[ModelRequest] = field(default_factory=list)
    refreshes: list[RefreshRequest] = field(default_factory=list)
    withdrawn: list[WithdrawRequest] = field(default_factory=list)

    def Enrol(self, request: EnrolRequest, context: grpc.ServicerContext) -> EnrolResponse:  # noqa: N802
        self._refuse(context)
        check_request(request, request.device_key.hex())
        if request.token != TOKEN:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "no such token")
        pem = load_der_public_key(request.node_key).public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        node_id = self.register(pem)
        key = Ed25519PublicKey.from_public_bytes(request.device_key)
        response = EnrolResponse(
            node_id=node_id,
            certificate=certificate(key, str(node_id)),
            authority=authority(),
            entries=self.lines,
        )
        self.spoil(response)
        return response

    def Refresh(self, request: RefreshRequest, context: grpc.ServicerContext) -> RefreshResponse:  # noqa: N802
        self._refuse(context)
        check_request(request, _key_of(request.certificate))
        served = self.lines[request.log_length :][: self.most_entries]
        answer = RefreshResponse(entries=served, certificate=self.renewal)
        self.refreshes.append(request)
        return answer

    def Model(self, request: ModelRequest, context: grpc.ServicerContext) -> ModelResponse:  # noqa: N802
        self._refuse(context)
        check_request(request, _key_of(request.certificate))
        self.model_requests.append(request)
        receipt, model = self.models.get(request.plan_hash, (b"", b""))
        end = request.offset + min(request.most_bytes, self.most_part_bytes)
        return ModelResponse(receipt=receipt, part=model[request.offset : end])

    def Withdraw(self, request: WithdrawRequest, context: grpc.ServicerContext) -> WithdrawResponse:  # noqa: N802
        self._refuse(context)
        check_request(request, _key_of(request.certificate))
        self.withdrawn.append(request)
        return WithdrawResponse()

    def _refuse(self, context: grpc.ServicerContext) -> None:
        self.before()
        if self.refuses is not None:
            context.abort(*self.refuses)

    def invitation(self, server: str, ca: Path, genesis: str) -> Invitation:
        """For one device."""
        return Invitation(
            server=server,
            desk=self.address,
            ca=ca.read_text(),
            genesis=genesis,
            token=TOKEN,
            expires=datetime(2100, 1, 1, tzinfo=UTC),
        )


def _key_of(der: bytes) -> str:
    key = x509.load_der_x509_certificate(der).public_key()
    assert isinstance(key, Ed25519PublicKey)
    return key.public_bytes_raw().hex()


@contextmanager
def running(tls: Path, lines: list[bytes], **how: Any) -> Iterator[Desk]:
    """A desk on loopback with the certificate in `tls`."""
    desk = Desk(lines, **how)
    server = grpc.server(ThreadPoolExecutor(4))
    add_EnrolmentServicer_to_server(desk, server)  # type: ignore[no-untyped-call]
    pair = ((tls / "server.key").read_bytes(), (tls / "server.crt").read_bytes())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    desk.address = f"127.0.0.1:{port}"
    server.start()
    try:
        yield desk
    finally:
        server.stop(None).wait()
