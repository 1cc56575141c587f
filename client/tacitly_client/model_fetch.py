"""Asking the desk for a campaign's newest released model. The receipt is believed, the desk is not.

    fetched = fetch_model(home, plan_hash, now=now)     # None: the campaign has released none yet

What leaves: this device's certificate and a campaign's hash, signed; each request is journalled.
A running agent asks for every campaign that runs, whether its person has joined or not.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from tacitly_client.device_identity import device_certificate, sign_as_device
from tacitly_client.home import AgentHome
from tacitly_client.models import Models
from tacitly_client.node.egress_journal import Call, EgressJournal
from tacitly_client.refresh import open_desk, until
from tacitly_common.campaign import CampaignPlan
from tacitly_common.contract.judge import judge_campaign
from tacitly_common.contract.log import Contract
from tacitly_common.contract.model_receipt import (
    ModelReceipt,
    ModelRefusedError,
    check_newer,
    check_receipt,
)
from tacitly_common.wire.codes import ReplyCode

if TYPE_CHECKING:
    from tacitly_common.wire.desk_pb2 import ModelResponse

_TIMEOUT_SECONDS: Final = 15.0
_PART_BYTES: Final = 1024 * 1024
# Rounds may be released while a model is fetched; not this often.
_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Fetched:
    """The model that this device now has. `new`: it was not here before."""

    receipt: ModelReceipt
    new: bool


def running_campaigns(contract: Contract, *, now: datetime) -> Iterator[str]:
    """The plan hashes of campaigns that may run at `now`: what every device asks for alike."""
    for plan_hash in contract.campaigns:
        if judge_campaign(contract, plan_hash, now=now) is ReplyCode.OK:
            yield plan_hash


def fetch_model(
    home: AgentHome,
    plan_hash: str,
    *,
    now: datetime,
    stopped: Callable[[], bool] = lambda: False,
) -> Fetched | None:
    """Have the newest model of a campaign on this device, verified.

    `stopped` turning true ends the wait for the desk.

    Raises:
        ModelRefusedError: what the desk serves is not taken; the model before stays.
        DeskError: the desk did not answer, or refused.
        EgressError: the journal cannot be written; nothing was sent.
        ContractError, ValidationError: the officers' log is unsound, or no agent is enrolled.
        OSError: it could not be kept.
    """
    from tacitly_common.wire.desk_client import ask
    from tacitly_common.wire.desk_pb2_grpc import EnrolmentStub

    models = Models.open(home)
    plan = models.known_plan(plan_hash)
    with open_desk(home) as channel:
        method = until(stopped)(EnrolmentStub(channel).Model)

        def asked(offset: int, most_bytes: int) -> "ModelResponse":
            request = _request(home, plan_hash, offset, most_bytes, now)
            answer: ModelResponse = ask(method, request, timeout_seconds=_TIMEOUT_SECONDS)
            return answer

        for _ in range(_TRIES):
            document = asked(0, 0).receipt
            if not document:
                return None
            receipt = check_receipt(document, plan, grant_key=models.contract.grant_key)
            held = models.held(plan)
            check_newer(receipt, held)
            if held is not None and held.place == receipt.place:
                return Fetched(held, new=False)
            content = _content(plan, document, asked)
            if content is not None:
                return Fetched(models.keep(plan, document, content).receipt, new=True)
    raise ModelRefusedError(
        f"the desk served another model each of {_TRIES} times; fetch it again later"
    )


def _content(
    plan: CampaignPlan, document: bytes, asked: Callable[[int, int], "ModelResponse"]
) -> bytes | None:
    """All parts of the model with this receipt; None if another was released meanwhile."""
    size = 4 * plan.model.parameters
    content = bytearray()
    while len(content) < size:
        answer = asked(len(content), min(_PART_BYTES, size - len(content)))
        if answer.receipt != document:
            return None
        if not answer.part:
            break  # too short: its length is refused
        content += answer.part
    return bytes(content)


def _request(home: AgentHome, plan_hash: str, offset: int, most_bytes: int, now: datetime) -> Any:
    """The signed request, already in the journal."""
    from tacitly_common.wire.desk_pb2 import ModelRequest

    request = ModelRequest(
        certificate=device_certificate(home),
        plan_hash=plan_hash,
        offset=offset,
        most_bytes=most_bytes,
        sent_at_unix_seconds=int(now.timestamp()),
    )
    sign_as_device(home, request)
    EgressJournal(home.egress_journal).record_call(
        Call(time=now.timestamp(), call="model", bytes=request.ByteSize(), plan=plan_hash)
    )
    return request
