"""Asking the desk what the officers have signed since. The log is believed, the desk is not.

    contract = refresh(home, now=now)       # DeskError: no answer; ContractError: a bad one

What leaves: this device's certificate, how many entries of the log it has, how many attempts its
ledger was charged for and the ledger's head, all signed with the device's key. None is a function
of events; each is in the journal.
"""

import ssl
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from tacitly_client.contract_store import ContractStore
from tacitly_client.home import AgentHome, read_enrolment
from tacitly_client.ledger_report import ask_ledger
from tacitly_client.node.egress_journal import Call, EgressJournal
from tacitly_common.contract.desk import REFRESH, signed_fields
from tacitly_common.contract.log import Contract
from tacitly_common.contract.signatures import read_private_pem, sign
from tacitly_common.errors import ValidationError

if TYPE_CHECKING:
    import grpc

_TIMEOUT_SECONDS: Final = 15.0
_SLICE_SECONDS: Final = 0.2


def refresh(
    home: AgentHome, *, now: datetime, stopped: Callable[[], bool] = lambda: False
) -> Contract:
    """Ask for new entries and take them over; the contract as it is then.

    `stopped` turning true ends the wait for the desk, which else may last its timeout.

    Raises:
        DeskError: the desk did not answer, or refused; nothing has changed.
        ContractError: what it answered is unsound; the log stays, and `contract.problem` says why.
        LedgerError, EgressError: the ledger or the journal cannot be used; nothing was sent.
        ValidationError: no agent is enrolled here.
    """
    from tacitly_common.wire.desk_client import ask
    from tacitly_common.wire.desk_pb2 import RefreshRequest
    from tacitly_common.wire.desk_pb2_grpc import EnrolmentStub

    store = ContractStore(home)
    length = store.load().length
    report = ask_ledger(home.ledger)
    certificate, moment = device_certificate(home), int(now.timestamp())
    signature = sign_with_device_key(
        home, REFRESH, certificate, length, report.attempts, report.head, moment
    )
    request = RefreshRequest(
        certificate=certificate,
        log_length=length,
        attempts=report.attempts,
        ledger_head=report.head,
        sent_at_unix_seconds=moment,
        signature=signature,
    )
    EgressJournal(home.egress_journal).record_call(
        Call(
            time=now.timestamp(),
            call="refresh",
            bytes=request.ByteSize(),
            log_length=length,
            attempts=report.attempts,
            ledger_head=report.head,
        )
    )
    with open_desk(home) as channel:
        patient = _until(stopped, EnrolmentStub(channel).Refresh)
        response = ask(patient, request, timeout_seconds=_TIMEOUT_SECONDS)
    return store.extend(list(response.entries), after=length)


def _until(stopped: Callable[[], bool], method: Any) -> Callable[..., Any]:
    """A call of a stub's method that ends early: another thread may not close its channel."""
    import grpc

    from tacitly_common.wire.desk_errors import DeskError

    def call(request: Any, *, timeout: float) -> Any:
        asked = method.future(request, timeout=timeout)
        while not stopped():
            try:
                return asked.result(timeout=_SLICE_SECONDS)
            except grpc.FutureTimeoutError:
                continue
        asked.cancel()
        raise DeskError("given up waiting for the desk, since the agent ends")

    return call


def open_desk(home: AgentHome) -> "grpc.Channel":
    """A channel to this device's desk.

    Raises:
        ValidationError: no agent is enrolled here.
    """
    from tacitly_common.wire.desk_client import desk_channel

    return desk_channel(read_enrolment(home).desk, home.ca_certificate.read_bytes())


def device_certificate(home: AgentHome) -> bytes:
    """The device's certificate, DER.

    Raises:
        ValidationError: missing or malformed.
    """
    try:
        return ssl.PEM_cert_to_DER_cert(home.device_certificate.read_text("ascii"))
    except (OSError, ValueError):
        raise ValidationError(
            f"{home.device_certificate} is no certificate; restore it from your backup"
        ) from None


def sign_with_device_key(home: AgentHome, purpose: str, *fields: bytes | str | int) -> str:
    """The device's signature of a request's fields, hex.

    Raises:
        ValidationError: the key is missing or malformed.
    """
    try:
        document = home.device_key.read_bytes()
    except OSError:
        raise ValidationError(
            f"{home.device_key} is missing; restore it from your backup, or enrol anew"
        ) from None
    return sign(read_private_pem(document, source=home.device_key), purpose, signed_fields(*fields))
