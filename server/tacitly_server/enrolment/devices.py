"""What devices may ask of the desk."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tacitly_common.wire.desk_errors import DeskError, DeskInputError, DeskNotAuthorisedError
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
from tacitly_common.wire.desk_pb2_grpc import EnrolmentServicer
from tacitly_server.campaigns.officers_log import OfficersLog
from tacitly_server.campaigns.released import read_released
from tacitly_server.control import Control
from tacitly_server.enrolment.alarms import Alarm, AlarmKind, raise_alarm
from tacitly_server.enrolment.authority import Authority, Device, ends_soon
from tacitly_server.enrolment.checks import check_fresh, check_signed, page
from tacitly_server.enrolment.door import Call
from tacitly_server.enrolment.registration import (
    fingerprint,
    read_node_key,
    register,
    unregister,
)
from tacitly_server.enrolment.registry import Admitted, Ending, Enrolled, Keys, Registry
from tacitly_server.home import ServerHome

_HASH: Final = re.compile(r"[0-9a-f]{64}")
_KEY_BYTES: Final = 32
_MOST_TOKEN: Final = 64
_MOST_ATTEMPTS: Final = 1 << 40
_PART_BYTES: Final = 1024 * 1024
_MOST_OFFSET: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class Devices(EnrolmentServicer):
    """The service `Enrolment` of desk.proto."""

    registry: Registry
    authority: Authority
    control: Control
    log: OfficersLog
    home: ServerHome
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def Enrol(self, request: EnrolRequest, context: Call) -> EnrolResponse:  # noqa: N802
        """Admit a device.

        1. The device holds the key that it wants certified.
        2. The token is given to these keys: from now on it admits no others.
        3. SuperLink registers the node.
        4. Node, subject and certificate are written, all or nothing.

        A crash anywhere leaves what the same request, made again, goes on from. A node that was
        registered and not written belongs to nobody, and no round selects it.
        """
        key = read_node_key(request.node_key)
        if len(request.device_key) != _KEY_BYTES or len(request.token) > _MOST_TOKEN:
            raise DeskInputError(f"device_key must have {_KEY_BYTES} bytes, token 32 characters")
        keys = Keys(fingerprint(key), request.device_key.hex())
        check_signed(request, keys.device_key)
        entries = self.log.lines()
        if not entries:
            raise DeskError("no officers' log has begun here; ask the operator to begin one")
        admitted = self.registry.claim(request.token, keys, now=self.now()).admitted
        if admitted is None:
            node_id = register(self.control, key)
            admitted = self._admit(request, keys, node_id)
        context.actor = str(admitted.node_id)
        return EnrolResponse(
            node_id=admitted.node_id,
            certificate=admitted.certificate,
            authority=self.authority.der,
            entries=page(entries),
        )

    def Refresh(self, request: RefreshRequest, context: Call) -> RefreshResponse:  # noqa: N802
        """New log entries; a new certificate if the old one ends soon; alarms are raised."""
        certificate, device = self._admitted(request, context)
        self._compare(device, request)
        now = self.now()
        renewed = b""
        if ends_soon(certificate, now=now):
            key = bytes.fromhex(certificate.public_key)
            renewed = self.authority.certify(device.node_id, key, now=now)
        entries = page(self.log.lines(request.log_length))
        return RefreshResponse(entries=entries, certificate=renewed)

    def Model(self, request: ModelRequest, context: Call) -> ModelResponse:  # noqa: N802
        """A part of a campaign's newest released model: of any campaign, whoever takes part.

        A device asks for what runs, joined or not, so that its asking does not tell which.
        """
        self._admitted(request, context)
        if not _HASH.fullmatch(request.plan_hash) or request.offset > _MOST_OFFSET:
            raise DeskInputError(
                f"plan_hash must be 64 lower-case hex digits, offset at most {_MOST_OFFSET}"
            )
        released = read_released(
            self.home.campaign(request.plan_hash).released_model,
            offset=request.offset,
            most_bytes=min(request.most_bytes, _PART_BYTES),
        )
        return ModelResponse(receipt=released.receipt, part=released.part)

    def Withdraw(self, request: WithdrawRequest, context: Call) -> WithdrawResponse:  # noqa: N802
        """Shut the device out for ever. Asked again, it is made sure of again."""
        _, device = self._authenticated(request, context)
        self.registry.end(device.node_id, Ending.WITHDRAWN)
        unregister(self.control, device.node_id)
        return WithdrawResponse()

    def _admit(self, request: EnrolRequest, keys: Keys, node_id: int) -> Admitted:
        now = self.now()
        certificate = self.authority.certify(node_id, request.device_key, now=now)
        return self.registry.admit(request.token, keys, node_id, certificate, now=now)

    def _admitted(
        self, request: RefreshRequest | ModelRequest, context: Call
    ) -> tuple[Device, Enrolled]:
        """The caller, authenticated, which has not left or been shut out."""
        certificate, device = self._authenticated(request, context)
        if device.ended is not None:
            raise DeskNotAuthorisedError(
                f"this device was {device.ended}; ask for a new invitation to take part again"
            )
        return certificate, device

    def _authenticated(
        self, request: RefreshRequest | ModelRequest | WithdrawRequest, context: Call
    ) -> tuple[Device, Enrolled]:
        """The caller: it holds the key of a certificate of ours, and asks now."""
        now = self.now()
        certificate = self.authority.read_device(request.certificate, now=now)
        check_signed(request, certificate.public_key)
        check_fresh(request.sent_at_unix_seconds, now=now)
        device = self.registry.device(certificate.node_id)
        if device is None or device.device_key != certificate.public_key:
            raise DeskNotAuthorisedError("this device is not enrolled here; enrol it anew")
        context.actor = str(device.node_id)
        return certificate, device

    def _compare(self, device: Enrolled, request: RefreshRequest) -> None:
        """Hold what the device says it paid against what it said before and what was charged."""
        attempts = request.attempts
        if attempts > _MOST_ATTEMPTS:
            raise DeskInputError(f"attempts must be at most {_MOST_ATTEMPTS}")
        if request.ledger_head and not _HASH.fullmatch(request.ledger_head):
            raise DeskInputError("ledger_head must be 64 lower-case hex digits, or empty")
        if attempts == device.attempts:
            return
        charged = self.registry.attempts_charged(device.subject)
        if attempts > charged:
            self._alarm(AlarmKind.AHEAD, device, attempts, charged)
        if attempts < device.attempts:
            self._alarm(AlarmKind.ROLLED_BACK, device, attempts, device.attempts)
        # Last: a crash raises an alarm twice rather than never.
        self.registry.report(device.node_id, attempts=attempts, ledger_head=request.ledger_head)

    def _alarm(self, kind: AlarmKind, device: Enrolled, attempts: int, charged: int) -> None:
        raise_alarm(
            self.home.alarms,
            Alarm(
                time=self.now(),
                kind=kind,
                node=str(device.node_id),
                attempts=attempts,
                charged=charged,
            ),
        )
