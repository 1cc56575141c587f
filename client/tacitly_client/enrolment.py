"""How a device comes in with an invitation, and how it leaves for good.

    contract = enrol(home, invitation, lifetime_epsilon=8.0, now=now)
    withdraw(home, now=now)

Keys are made here and never leave. An enrolment that was cut off is run again with the same
invitation: the same keys get the same answer. `enrolment.json` is written last.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tacitly_client.consent import withdraw as withdraw_consent
from tacitly_client.contract_store import ContractStore
from tacitly_client.device_identity import (
    device_certificate,
    device_key,
    keep_authority,
    keep_certificate,
    sign_as_device,
)
from tacitly_client.files import remove, write_whole
from tacitly_client.home import AgentHome, AgentSettings, Enrolment, TrainWhen, read_enrolment
from tacitly_client.node.egress_journal import Call, EgressJournal
from tacitly_client.node.identity import create_node_key, load_node_key
from tacitly_client.refresh import open_desk
from tacitly_common.contract.log import Contract, read_log
from tacitly_common.errors import TacitlyError
from tacitly_common.invitation import Invitation

if TYPE_CHECKING:
    from tacitly_common.wire.desk_pb2 import EnrolResponse


class AlreadyEnrolledError(TacitlyError):
    """This home is a device already."""

    exit_code = 6


def enrol(
    home: AgentHome,
    invitation: Invitation,
    *,
    lifetime_epsilon: float,
    now: datetime,
    train_when: TrainWhen = TrainWhen.IDLE,
    timing: Mapping[str, float] | None = None,
) -> Contract:
    """Make this home a device of the invited person; what the officers' log amounts to.

    A long log is handed out in parts: the first refresh brings the rest.

    `lifetime_epsilon` is the person's own ceiling over all campaigns, at the policy's δ.
    `train_when` and `timing` hold what of `AgentSettings` shall be other than it ships. A ledger
    and a store that are there already stay: what was spent, here, stays spent.

    Raises:
        AlreadyEnrolledError: it is one already; nothing has changed.
        DeskError: the desk cannot be reached, or takes the token for no good one.
        ContractError: the log is unsound or not the invitation's.
        CertificateError: the certificate is not for this device.
    """
    from tacitly_client.ledger import DeviceLedger
    from tacitly_client.store import EventStore
    from tacitly_common.accounting.subject import cap_nano_rho

    if home.enrolment.exists():
        raise AlreadyEnrolledError(
            f"{home.root} is enrolled already; use another --home, or run "
            f"`tacitly-agent withdraw --home {home.root}` first"
        )
    home.create()
    write_whole(home.ca_certificate, invitation.ca.encode())
    response = _ask_to_enrol(home, invitation, now)
    entries = list(response.entries)
    policy = read_log(entries, genesis=invitation.genesis).policy
    settings = AgentSettings(
        server=invitation.server,
        lifetime_cap_nano_rho=cap_nano_rho(lifetime_epsilon, float(policy.delta)),
        train_when=train_when,
        **timing or {},
    )
    keep_authority(home, response.authority)
    keep_certificate(home, response.certificate, node_id=response.node_id)
    if not home.store.exists():
        EventStore.create(home.store).close()
    if not home.ledger.exists():
        DeviceLedger.create(home.ledger).close()
    contract = ContractStore(home).begin(entries, genesis=invitation.genesis)
    write_whole(home.settings, msgspec.json.format(msgspec.json.encode(settings)))
    enrolment = Enrolment(
        desk=invitation.desk, genesis=invitation.genesis, node_id=response.node_id
    )
    write_whole(home.enrolment, msgspec.json.format(msgspec.json.encode(enrolment)))
    return contract


def withdraw(home: AgentHome, *, now: datetime) -> None:
    """Leave for good: the desk is told, then keys, certificate and kept results are erased.

    All consent is withdrawn first, whether or not the desk can be told. Events
    (`tacitly-agent erase` removes them), the ledger and the journal of what left stay.

    Raises:
        DeskError: the desk was not reached or refused; consent is withdrawn, the keys stay.
        ValidationError: no agent is enrolled here.
    """
    read_enrolment(home)
    withdraw_consent(home, now=now)
    # Without it an earlier withdrawal got through, and was cut off before its end.
    if home.device_certificate.exists():
        _ask_to_withdraw(home, now)
        remove(home.device_certificate)
    if home.outbox.exists():
        for result in home.outbox.iterdir():
            remove(result)
    for path in (
        home.node_key,
        home.device_key,
        home.authority_certificate,
        home.node_id,
        home.contract,
        home.contract_problem,
        home.settings,
        home.enrolment,
    ):
        remove(path)


def _ask_to_withdraw(home: AgentHome, now: datetime) -> None:
    from tacitly_common.wire.desk_client import ask
    from tacitly_common.wire.desk_pb2 import WithdrawRequest
    from tacitly_common.wire.desk_pb2_grpc import EnrolmentStub

    request = WithdrawRequest(
        certificate=device_certificate(home), sent_at_unix_seconds=int(now.timestamp())
    )
    sign_as_device(home, request)
    call = Call(time=now.timestamp(), call="withdraw", bytes=request.ByteSize())
    EgressJournal(home.egress_journal).record_call(call)
    with open_desk(home) as channel:
        ask(EnrolmentStub(channel).Withdraw, request)


def _ask_to_enrol(home: AgentHome, invitation: Invitation, now: datetime) -> "EnrolResponse":
    from tacitly_common.wire.desk_client import ask, desk_channel
    from tacitly_common.wire.desk_pb2 import EnrolRequest
    from tacitly_common.wire.desk_pb2_grpc import EnrolmentStub

    request = EnrolRequest(
        token=invitation.token, node_key=_node_key(home), device_key=device_key(home)
    )
    sign_as_device(home, request)
    call = Call(time=now.timestamp(), call="enrol", bytes=request.ByteSize())
    EgressJournal(home.egress_journal).record_call(call)
    with desk_channel(invitation.desk, invitation.ca.encode()) as channel:
        response: EnrolResponse = ask(EnrolmentStub(channel).Enrol, request)
    return response


def _node_key(home: AgentHome) -> bytes:
    """The public key for Flower, DER; made if there is none."""
    if not home.node_key.exists():
        create_node_key(home)
    return (
        load_node_key(home)
        .public_key()
        .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )
