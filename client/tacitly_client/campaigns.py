"""What this device's person is asked to take part in, and joining or leaving it.

Judged from the officers' log that this device holds and from the person's own limits. What the
server says about a campaign is not asked for.
"""

from dataclasses import dataclass
from datetime import datetime

from tacitly_client.consent import Asked, give, takes_part, withdraw
from tacitly_client.files import write_whole
from tacitly_client.home import AgentHome
from tacitly_client.limits import OwnLimits
from tacitly_client.notice import Language
from tacitly_common.campaign import CampaignPlan, PlanError, check_epsilon, parse_plan
from tacitly_common.contract.judge import judge_campaign, plan_of
from tacitly_common.contract.log import Contract
from tacitly_common.errors import BudgetExceededError, TacitlyError, ValidationError
from tacitly_common.vocabulary import Vocabulary
from tacitly_common.wire.codes import ReplyCode

_FEWEST_DIGITS = 8
_WHY = {
    ReplyCode.PLAN_MALFORMED: "its plan is malformed, or says it costs less than it does",
    ReplyCode.UNKNOWN_OUTPUT: "it asks for an output that there is not",
    ReplyCode.CLIENT_VERSION: "it is for another version of Tacitly",
    ReplyCode.CAMPAIGN_EXPIRED: "it is over",
}


class NotApprovedError(TacitlyError):
    """Officers have yet to approve or start it, or have stopped it."""

    exit_code = 4


class UnsoundCampaignError(TacitlyError):
    """It is not what the organisation's policy or its own plan says, or does not fit here."""

    exit_code = 5


class JoinedAnotherError(TacitlyError):
    """One campaign at a time."""

    exit_code = 6


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign of the log. `plan` is None if it cannot be read.

    `answer` is what a task of it would be answered at most: OK, or why not.
    """

    plan_hash: str
    plan: CampaignPlan | None
    proposer: str
    approvers: tuple[str, ...]
    answer: ReplyCode


def campaigns(
    contract: Contract, joined: CampaignPlan | None, *, now: datetime
) -> tuple[Campaign, ...]:
    """All campaigns of the log, in the order in which they were proposed."""
    return tuple(_campaign(contract, name, joined, now) for name in contract.campaigns)


def _campaign(
    contract: Contract, plan_hash: str, joined: CampaignPlan | None, now: datetime
) -> Campaign:
    plan = plan_of(contract, plan_hash)
    code = judge_campaign(contract, plan_hash, now=now)
    if code is ReplyCode.OK and (joined is None or joined.hash != plan_hash):
        code = ReplyCode.NOT_JOINED
    return Campaign(
        plan_hash=plan_hash,
        plan=plan if isinstance(plan, CampaignPlan) else None,
        proposer=contract.proposals[contract.campaigns[plan_hash].proposal].proposer,
        approvers=tuple(sorted(contract.approvers(plan_hash))),
        answer=code,
    )


def find(contract: Contract, beginning: str) -> str:
    """The hash of the one campaign whose hash begins so.

    Raises:
        ValidationError: there is none, or more than one.
    """
    found = [name for name in contract.campaigns if name.startswith(beginning)]
    if len(found) != 1 or len(beginning) < _FEWEST_DIGITS:
        raise ValidationError(
            f"{len(found)} campaigns begin with {beginning!r:.80}; give at least "
            f"{_FEWEST_DIGITS} digits of one that `tacitly-agent campaigns` lists"
        )
    return found[0]


def check(contract: Contract, plan_hash: str, *, now: datetime) -> CampaignPlan:
    """The plan of a campaign that may be joined. Imports scipy.

    Raises:
        NotApprovedError: officers have not approved or started it, or have stopped it.
        UnsoundCampaignError: anything else is wrong with it; the code's name and why.
    """
    code = judge_campaign(contract, plan_hash, now=now)
    plan = plan_of(contract, plan_hash)
    if code is ReplyCode.PLAN_NOT_APPROVED:
        raise NotApprovedError(
            f"{code.name}: {len(contract.approvers(plan_hash))} of 2 approvals; "
            "ask again when two officers have approved it"
        )
    if code is ReplyCode.CAMPAIGN_STOPPED:
        raise NotApprovedError(f"{code.name}: no officer has started it, or one has stopped it")
    if isinstance(plan, ReplyCode) or code is not ReplyCode.OK:
        why = _WHY.get(code, "it is outside the organisation's policy")
        raise UnsoundCampaignError(f"{code.name}: {why}; tell an officer")
    try:
        check_epsilon(plan)
        size = Vocabulary(plan.tokens).size
    except (PlanError, ValidationError) as error:
        raise UnsoundCampaignError(str(error)) from None
    if size != plan.model.vocabulary_size:
        raise UnsoundCampaignError(
            f"the plan's model is over {plan.model.vocabulary_size} tokens, its vocabulary has "
            f"{size}; tell an officer"
        )
    return plan


def check_room(plan: CampaignPlan, limits: OwnLimits, *, spent_nano_rho: int) -> int:
    """How many participations the person's own limits have room for, of those planned.

    Raises:
        BudgetExceededError: for none.
    """
    left = min(limits.lifetime_nano_rho - spent_nano_rho, limits.epoch_nano_rho)
    room = min(plan.participation.per_campaign, left // plan.cost_nano_rho)
    if room < 1:
        raise BudgetExceededError(
            f"one participation costs {plan.cost_nano_rho} nano-ρ and your own limits leave "
            f"{max(left, 0)}; what is spent stays spent",
            scope="lifetime" if limits.lifetime_nano_rho - spent_nano_rho <= left else "epoch",
        )
    return room


def join(home: AgentHome, plan: CampaignPlan, asked: str, *, now: datetime) -> None:
    """Take part from now on; a running agent notices. `asked`: what the person was shown.

    This is consent to the plan's purpose, and a receipt of it is kept.

    Raises:
        JoinedAnotherError: in another campaign already.
    """
    current = joined_plan(home)
    if current is not None and current.hash != plan.hash:
        raise JoinedAnotherError(
            f"campaign {current.name} ({current.hash[:16]}) is joined; "
            "run `tacitly-agent leave` first"
        )
    if current is None:
        agreed = Asked(asked, Language.EN, purposes=(plan.purpose,), plan_hash=plan.hash)
        give(home, agreed, now=now)
    write_whole(home.plan, plan.to_json())


def leave(home: AgentHome, *, now: datetime) -> bool:
    """Take part no more, from now on; False if no campaign was joined.

    Consent to it is withdrawn; that to capture stays.
    """
    was_joined = home.plan.exists()
    return bool(withdraw(home, now=now, capture=False)) or was_joined


def joined_plan(home: AgentHome) -> CampaignPlan | None:
    """The plan of the campaign that was joined and to which consent stands; None if none is.

    Raises:
        PlanError: `plan.json` holds no plan.
    """
    try:
        document = home.plan.read_bytes()
    except FileNotFoundError:
        return None
    plan = parse_plan(document, source=str(home.plan))
    return plan if takes_part(home, plan.hash) else None
