"""What officers may ask of the desk."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tacitly_common.contract.acts import Entry, ProposePlan, parse_entry
from tacitly_common.contract.grant import parse_grant
from tacitly_common.contract.log import advance, plan_hash_of
from tacitly_common.wire.desk_errors import DeskInputError, DeskNotAuthorisedError
from tacitly_common.wire.desk_pb2 import (
    CampaignsRequest,
    CampaignsResponse,
    CampaignState,
    ReadLogRequest,
    ReadLogResponse,
    SubmitRequest,
    SubmitResponse,
)
from tacitly_common.wire.desk_pb2_grpc import OfficersServicer
from tacitly_server.campaigns.filing import create_campaign
from tacitly_server.campaigns.officers_log import OfficersLog
from tacitly_server.campaigns.review import runnable_plan
from tacitly_server.enrolment.alarms import read_alarms, told_to_officers
from tacitly_server.enrolment.checks import check_fresh, check_signed, page
from tacitly_server.enrolment.door import Call
from tacitly_server.home import CampaignDirectory, ServerHome
from tacitly_server.rounds.receipts import Outcome, read_receipts

_MOST_ENTRY_BYTES: Final = 256 * 1024
_FLOAT_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Officers(OfficersServicer):
    """The service `Officers` of desk.proto."""

    home: ServerHome
    log: OfficersLog
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def ReadLog(self, request: ReadLogRequest, context: Call) -> ReadLogResponse:  # noqa: N802
        """The log: anybody may read it, devices do."""
        del context
        return ReadLogResponse(entries=page(self.log.lines(request.first)))

    def Submit(self, request: SubmitRequest, context: Call) -> SubmitResponse:  # noqa: N802
        """Append an officer's entry; the same one again is no error.

        1. The entry may follow, which holds for officers' entries alone.
        2. A plan is one that could run here as it stands; it is filed with its model.
        3. The entry is appended.

        Filed first: a crash between the two leaves a campaign that nobody proposed and that
        nothing runs, and the officer's next try finds it filed. The other way round the log
        would promise a campaign whose model is lost.
        """
        if len(request.entry) > _MOST_ENTRY_BYTES:
            raise DeskInputError(f"an entry has at most {_MOST_ENTRY_BYTES} bytes")
        entry = parse_entry(request.entry)
        context.actor = entry.statement.signer
        contract = self.log.contract()
        if self._held(entry):
            return SubmitResponse(log_length=contract.length)
        following = advance(contract, entry)
        if isinstance(entry.statement.act, ProposePlan):
            plan_hash = plan_hash_of(entry.statement.act.plan)
            plan = runnable_plan(following, plan_hash, now=self.now())
            create_campaign(self.home, plan, _vector(request.model))
        elif request.model:
            raise DeskInputError("a model comes with a proposed plan and with nothing else")
        return SubmitResponse(log_length=self.log.append(entry).length)

    def Campaigns(self, request: CampaignsRequest, context: Call) -> CampaignsResponse:  # noqa: N802
        """How far each campaign is, for active officers."""
        contract = self.log.contract()
        officer = contract.officers.get(request.officer)
        if officer is None or not officer.active:
            raise DeskNotAuthorisedError(f"{request.officer!r:.80} is no active officer here")
        check_signed(request, officer.keys[-1])
        check_fresh(request.sent_at_unix_seconds, now=self.now())
        context.actor = request.officer
        return CampaignsResponse(
            campaigns=[
                _state(name, self.home.campaign(name)) for name in sorted(contract.campaigns)
            ],
            alarms=told_to_officers(read_alarms(self.home.alarms)),
        )

    def _held(self, entry: Entry) -> bool:
        """Whether the log holds exactly this entry: its answer was lost on the way."""
        return self.log.lines(entry.statement.sequence)[:1] == [entry.to_json()]


def _vector(model: bytes) -> NDArray[np.float32]:
    if len(model) % _FLOAT_BYTES:
        raise DeskInputError(f"a model of {len(model)} bytes is not one of float32 numbers")
    return np.frombuffer(model, "<f4").astype(np.float32, copy=False)


def _state(plan_hash: str, directory: CampaignDirectory) -> CampaignState:
    """What the receipts and the grant say of a campaign."""
    receipts = read_receipts(directory.receipts)
    refusals: Counter[str] = Counter()
    for receipt in receipts:
        refusals.update(receipt.refusals)
    outcomes = Counter(receipt.outcome for receipt in receipts)
    return CampaignState(
        plan_hash=plan_hash,
        released_rounds=outcomes[Outcome.RELEASED],
        lost_attempts=outcomes[Outcome.LOST],
        refusals=refusals,
        granted_until=_granted_until(directory),
    )


def _granted_until(directory: CampaignDirectory) -> str:
    try:
        signed = parse_grant(directory.grant.read_bytes())
    except FileNotFoundError:
        return ""
    return signed.grant.expires_at.isoformat() if signed else ""
