"""How a campaign stands: in one word, and why it does not run in a sentence.

From the officers' log and from how far the campaign is; the server and an officer's command
answer alike.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tacitly_common.contract.acts import APPROVALS_NEEDED
from tacitly_common.contract.judge import judge_campaign, plan_of
from tacitly_common.contract.log import Contract
from tacitly_common.wire.codes import ReplyCode


class Standing(StrEnum):
    """What a campaign waits for, or what it came to."""

    PROPOSED = "proposed"
    APPROVED = "approved"
    RUNNING = "running"
    STOPPED = "stopped"
    EXPIRED = "expired"
    FINISHED = "finished"
    # It may not run as policy or software are now.
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Progress:
    """The last released round (0: none yet), and the attempts lost since."""

    released_round: int = 0
    lost_in_a_row: int = 0


_BY_CODE = {
    ReplyCode.OK: Standing.RUNNING,
    ReplyCode.PLAN_NOT_APPROVED: Standing.PROPOSED,
    ReplyCode.CAMPAIGN_EXPIRED: Standing.EXPIRED,
    ReplyCode.CAMPAIGN_STOPPED: Standing.APPROVED,
}


def standing(contract: Contract, plan_hash: str, progress: Progress, *, now: datetime) -> Standing:
    """The word for a campaign that was proposed."""
    plan = plan_of(contract, plan_hash)
    if isinstance(plan, ReplyCode):
        return Standing.REFUSED
    if progress.released_round >= plan.rounds:
        return Standing.FINISHED
    last_round = contract.campaigns[plan_hash].last_round
    limited = last_round is not None and progress.released_round >= last_round
    if limited or progress.lost_in_a_row >= plan.stop.lost_in_a_row:
        return Standing.STOPPED
    code = judge_campaign(contract, plan_hash, now=now)
    return _BY_CODE.get(code, Standing.REFUSED)


def why_not(contract: Contract, plan_hash: str, *, now: datetime) -> str:
    """What keeps a campaign from running, with the smallest fix; "" if nothing does."""
    code = judge_campaign(contract, plan_hash, now=now)
    if code is ReplyCode.OK:
        return ""
    name = f"campaign {plan_hash[:12]}"
    if code is ReplyCode.UNKNOWN_PLAN:
        return f"{name} is not in the officers' log; have it proposed"
    campaign = contract.campaigns[plan_hash]
    if code is ReplyCode.PLAN_NOT_APPROVED:
        approvals = len(contract.approvers(plan_hash))
        return (
            f"{name} has {approvals} of {APPROVALS_NEEDED} approvals by active officers; "
            "have it approved"
        )
    if code is ReplyCode.CAMPAIGN_STOPPED:
        if campaign.last_round == 0:
            return f"{name} was stopped by an officer; propose another plan to go on"
        return f"{name} is approved and not started; have an officer start it"
    if code is ReplyCode.CAMPAIGN_EXPIRED:
        return f"{name} has expired; propose a plan that expires later"
    return f"{name} is refused ({code.name.lower()}); propose a plan that keeps to the policy"
