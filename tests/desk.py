"""A desk as a process of its own beside a real SuperLink, and devices and officers that call it."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agreement import begin_log
from officers import KEYS
from our_server import OurSuperLink, our_superlink
from stock_flower import eventually, free_port
from tacitly_common.contract.acts import Act, Entry
from tacitly_common.contract.log import next_entry
from tacitly_common.contract.signatures import public_hex
from tacitly_common.invitation import Invitation
from tacitly_common.wire.desk_client import ask, desk_channel
from tacitly_common.wire.desk_errors import DeskError
from tacitly_common.wire.desk_pb2 import (
    CampaignsRequest,
    CampaignsResponse,
    EnrolRequest,
    EnrolResponse,
    ModelRequest,
    ModelResponse,
    ReadLogRequest,
    RefreshRequest,
    RefreshResponse,
    SubmitRequest,
    SubmitResponse,
    WithdrawRequest,
)
from tacitly_common.wire.desk_pb2_grpc import EnrolmentStub, OfficersStub
from tacitly_common.wire.desk_requests import sign_request
from tacitly_server.campaigns.officers_log import OfficersLog
from tacitly_server.enrolment.invite import invite
from tacitly_server.home import ServerHome

MODULE = ("-m", "tacitly_server.enrolment")


@dataclass
class Desk:
    """A running desk."""

    superlink: OurSuperLink
    port: int
    process: subprocess.Popen[bytes]
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def home(self) -> ServerHome:
        return self.superlink.home

    @property
    def log(self) -> OfficersLog:
        return OfficersLog(self.home.officers_log)

    def channel(self) -> grpc.Channel:
        ca = (self.home.tls / "ca.crt").read_bytes()
        channel = desk_channel(f"127.0.0.1:{self.port}", ca)
        self.stack.callback(channel.close)
        return channel

    def invite(self, person: str = "ada", *, days: int = 7, ago_days: int = 0) -> Invitation:
        now = datetime.fromtimestamp(time.time() - 86_400 * ago_days, UTC)
        return invite(
            self.home,
            person,
            address="127.0.0.1",
            server_port=self.superlink.port,
            enrolment_port=self.port,
            days=days,
            now=now,
        )

    def device(self, person: str = "ada") -> "Device":
        """A device that was invited and has enrolled."""
        device = Device(self)
        device.enrol(self.invite(person).token)
        return device

    def append(self, signer: str, act: Act) -> Entry:
        """An entry that an officer brings without the desk."""
        entry = self.entry(signer, act)
        self.log.append(entry)
        return entry

    def entry(self, signer: str, act: Act) -> Entry:
        contract = self.log.contract()
        return next_entry(contract, act, signer=signer, key=KEYS[signer], at=datetime.now(UTC))

    def submit(self, entry: Entry | bytes, model: bytes = b"") -> SubmitResponse:
        document = entry if isinstance(entry, bytes) else entry.to_json()
        stub = OfficersStub(self.channel())
        answer: SubmitResponse = ask(stub.Submit, SubmitRequest(entry=document, model=model))
        return answer

    def campaigns(
        self, officer: str = "ada", key: Ed25519PrivateKey | None = None, *, skew_seconds: int = 0
    ) -> CampaignsResponse:
        request = CampaignsRequest(
            officer=officer, sent_at_unix_seconds=int(time.time()) + skew_seconds
        )
        sign_request(request, key or KEYS[officer])
        answer: CampaignsResponse = ask(OfficersStub(self.channel()).Campaigns, request)
        return answer


@dataclass
class Device:
    """A device's keys, and what it got when it enrolled."""

    desk: Desk
    node_key: ec.EllipticCurvePrivateKey = field(
        default_factory=partial(ec.generate_private_key, ec.SECP384R1())
    )
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    answer: EnrolResponse = field(default_factory=EnrolResponse)

    def request(self, token: str) -> EnrolRequest:
        request = EnrolRequest(
            token=token,
            node_key=self.node_key.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            ),
            device_key=bytes.fromhex(public_hex(self.key)),
        )
        sign_request(request, self.key)
        return request

    def enrol(self, token: str) -> EnrolResponse:
        self.answer = ask(EnrolmentStub(self.desk.channel()).Enrol, self.request(token))
        return self.answer

    def refresh(self, *, skew_seconds: int = 0, **fields: Any) -> RefreshResponse:
        request = RefreshRequest(
            certificate=self.answer.certificate,
            sent_at_unix_seconds=int(time.time()) + skew_seconds,
        )
        for name, value in fields.items():
            setattr(request, name, value)
        sign_request(request, self.key)
        answer: RefreshResponse = ask(EnrolmentStub(self.desk.channel()).Refresh, request)
        return answer

    def model(self, plan_hash: str, *, offset: int = 0, most_bytes: int = 1 << 20) -> ModelResponse:
        request = ModelRequest(
            certificate=self.answer.certificate,
            plan_hash=plan_hash,
            offset=offset,
            most_bytes=most_bytes,
            sent_at_unix_seconds=int(time.time()),
        )
        sign_request(request, self.key)
        answer: ModelResponse = ask(EnrolmentStub(self.desk.channel()).Model, request)
        return answer

    def withdraw(self) -> None:
        request = WithdrawRequest(
            certificate=self.answer.certificate, sent_at_unix_seconds=int(time.time())
        )
        sign_request(request, self.key)
        ask(EnrolmentStub(self.desk.channel()).Withdraw, request)


def desk_arguments(superlink: OurSuperLink, port: int) -> list[str]:
    return [
        *("--home", str(superlink.home.root), "--port", str(port)),
        *("--server-port", str(superlink.port)),
    ]


@contextmanager
def running_desk(
    superlink: OurSuperLink, program: Sequence[str] = MODULE, *, port: int | None = None
) -> Iterator[Desk]:
    """Start a desk, wait until it answers, and end it on leaving."""
    port = port or free_port()
    with (superlink.home.logs / "desk.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *program, *desk_arguments(superlink, port)], stdout=log, stderr=log
        )
    desk = Desk(superlink, port, process)
    try:
        eventually(partial(answers, desk))
        yield desk
    finally:
        desk.stack.close()
        process.send_signal(signal.SIGTERM)
        process.wait()


def answers(desk: Desk) -> bool:
    try:
        ask(OfficersStub(desk.channel()).ReadLog, ReadLogRequest(), timeout_seconds=2)
    except DeskError:
        return False
    return True


@contextmanager
def desk_beside_superlink(root: Path) -> Iterator[Desk]:
    """SuperLink, a log that has begun, and a desk."""
    with our_superlink(root) as superlink:
        begin_log(superlink.home)
        with running_desk(superlink) as desk:
            yield desk
