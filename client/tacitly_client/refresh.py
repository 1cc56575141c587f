"""Asking the desk what the officers have signed since. The log is believed, the desk is not.

    contract = refresh(home, now=now)       # DeskError: no answer; ContractError: a bad one

What leaves: this device's certificate, how many entries of the log it has, how many attempts its
ledger was charged for and the ledger's head, all signed with the device's key. None is a function
of events; each is in the journal.
"""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from tacitly_client.contract_store import ContractStore
from tacitly_client.device_identity import (
    device_certificate,
    keep_certificate,
    sign_as_device,
)
from tacitly_client.home import AgentHome, read_enrolment
from tacitly_client.ledger_report import LedgerReport, ask_ledger
from tacitly_client.node.egress_journal import Call, EgressJournal
from tacitly_common.contract.log import Contract

if TYPE_CHECKING:
    import grpc

    from tacitly_common.wire.desk_pb2 import RefreshRequest

_TIMEOUT_SECONDS: Final = 15.0
_SLICE_SECONDS: Final = 0.2


def refresh(
    home: AgentHome,
    *,
    now: datetime,
    report: Callable[[], LedgerReport] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Contract:
    """Ask for new entries and take them over; the contract as it is then.

    `report` gives the ledger's; another process that opens it here if None. `stopped` turning true
    ends the wait for the desk, which else may last its timeout.

    Raises:
        DeskError: the desk did not answer, or refused; nothing has changed.
        ContractError: what it answered is unsound; that is not taken over, and `contract.problem`
            says why.
        CertificateError: it sent a certificate that is not for this device.
        LedgerError, EgressError: the ledger or the journal cannot be used; nothing was sent.
        ValidationError: no agent is enrolled here.
    """
    from tacitly_common.wire.desk_client import ask
    from tacitly_common.wire.desk_pb2_grpc import EnrolmentStub

    store, node_id = ContractStore(home), read_enrolment(home).node_id
    contract, told = store.load(), report() if report else ask_ledger(home.ledger)
    patient = until(stopped)
    with open_desk(home) as channel:
        stub = EnrolmentStub(channel)
        while True:
            request = _request(home, contract.length, told, now)
            answer = ask(patient(stub.Refresh), request, timeout_seconds=_TIMEOUT_SECONDS)
            contract = store.extend(list(answer.entries), after=request.log_length)
            if answer.certificate:
                keep_certificate(home, answer.certificate, node_id=node_id)
            if not answer.entries:
                return contract


def _request(
    home: AgentHome, log_length: int, report: LedgerReport, now: datetime
) -> "RefreshRequest":
    """The signed request, already in the journal."""
    from tacitly_common.wire.desk_pb2 import RefreshRequest

    request = RefreshRequest(
        certificate=device_certificate(home),
        log_length=log_length,
        attempts=report.attempts,
        ledger_head=report.head,
        sent_at_unix_seconds=int(now.timestamp()),
    )
    sign_as_device(home, request)
    EgressJournal(home.egress_journal).record_call(
        Call(
            time=now.timestamp(),
            call="refresh",
            bytes=request.ByteSize(),
            log_length=log_length,
            attempts=report.attempts,
            ledger_head=report.head,
        )
    )
    return request


def until(stopped: Callable[[], bool]) -> Callable[[Any], Callable[..., Any]]:
    """Makes a stub's method one that ends early: another thread may not close its channel."""
    import grpc

    from tacitly_common.wire.desk_errors import DeskError

    def patient(method: Any) -> Callable[..., Any]:
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

    return patient


def open_desk(home: AgentHome) -> "grpc.Channel":
    """A channel to this device's desk.

    Raises:
        ValidationError: no agent is enrolled here.
    """
    from tacitly_common.wire.desk_client import desk_channel

    return desk_channel(read_enrolment(home).desk, home.ca_certificate.read_bytes())
