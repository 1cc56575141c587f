"""May this campaign run? The same answer on both sides, from the officers' log alone."""

from datetime import datetime

import msgspec

from tacitly_common.campaign import CLIENT_VERSION, CampaignPlan, Output, PlanError, parse_plan
from tacitly_common.contract.log import Contract
from tacitly_common.contract.policy import judge_plan
from tacitly_common.errors import UNDECODABLE
from tacitly_common.wire.codes import ReplyCode


def plan_of(contract: Contract, plan_hash: str) -> CampaignPlan | ReplyCode:
    """A proposed plan, whether approved or not, or why there is none to look at.

    | the log holds                                   | answer         |
    |-------------------------------------------------|----------------|
    | no such plan                                    | UNKNOWN_PLAN   |
    | one that names an output there is not           | UNKNOWN_OUTPUT |
    | one that is malformed, or misstates its cost    | PLAN_MALFORMED |
    """
    campaign = contract.campaigns.get(plan_hash)
    if campaign is None:
        return ReplyCode.UNKNOWN_PLAN
    document = campaign.plan.encode()
    try:
        plan = parse_plan(document)
    except PlanError:
        known = {output.value for output in Output}
        return (
            ReplyCode.UNKNOWN_OUTPUT
            if not _outputs(document) <= known
            else ReplyCode.PLAN_MALFORMED
        )
    return plan if plan.to_json() == document else ReplyCode.PLAN_MALFORMED


def judge_campaign(contract: Contract, plan_hash: str, *, now: datetime) -> ReplyCode:
    """OK if the plan may be joined and run at `now`.

    | refused because                                                   | code              |
    |-------------------------------------------------------------------|-------------------|
    | `plan_of` has none                                                | as there          |
    | it is outside the policy as it is now                             | as `judge_plan`   |
    | fewer than two active officers besides its proposer approve it    | PLAN_NOT_APPROVED |
    | it names another client's code                                    | CLIENT_VERSION    |
    | it is over                                                        | CAMPAIGN_EXPIRED  |
    | nobody has started it, or an officer has stopped it               | CAMPAIGN_STOPPED  |
    """
    plan = plan_of(contract, plan_hash)
    if isinstance(plan, ReplyCode):
        return plan
    code = judge_plan(plan, contract.policy)
    if code is not ReplyCode.OK:
        return code
    if not contract.approved(plan_hash):
        return ReplyCode.PLAN_NOT_APPROVED
    if plan.client_version != CLIENT_VERSION:
        return ReplyCode.CLIENT_VERSION
    if now >= plan.expires:
        return ReplyCode.CAMPAIGN_EXPIRED
    campaign = contract.campaigns[plan_hash]
    if not campaign.started or campaign.last_round == 0:
        return ReplyCode.CAMPAIGN_STOPPED
    return ReplyCode.OK


def judge_round(contract: Contract, plan_hash: str, round_number: int) -> ReplyCode:
    """OK unless an officer has limited the campaign to earlier rounds."""
    last_round = contract.campaigns[plan_hash].last_round
    if last_round is not None and round_number > last_round:
        return ReplyCode.CAMPAIGN_STOPPED
    return ReplyCode.OK


def _outputs(document: bytes) -> set[str]:
    """What the outputs of a plan that does not parse say, as far as they can be read."""
    try:
        fields = msgspec.json.decode(document, type=dict[str, object])
    except UNDECODABLE:
        return set()
    outputs = fields.get("outputs")
    return {str(output) for output in outputs} if isinstance(outputs, list) else set()
