"""What a plan must be before anybody signs it or files it: one that could run here as it stands."""

from datetime import datetime

from tacitly_common.campaign import (
    CLIENT_VERSION,
    CampaignPlan,
    PlanError,
    check_epsilon,
    parse_plan,
)
from tacitly_common.contract.acts import ContractError
from tacitly_common.contract.judge import plan_of
from tacitly_common.contract.log import Contract
from tacitly_common.contract.policy import judge_plan
from tacitly_common.errors import BudgetExceededError
from tacitly_common.wire.codes import ReplyCode


def runnable_plan(contract: Contract, plan_hash: str, *, now: datetime) -> CampaignPlan:
    """A proposed plan that could be approved and run as it stands, its cost computed anew.

    Raises:
        ContractError: it is malformed, misstates its cost, is over, is for other devices' code
            than there is, or leaves the policy.
        BudgetExceededError: it may cost a person more than the policy allows for a lifetime, or
            for the data of one month.
    """
    plan = _sound(contract, plan_hash)
    if plan.client_version != CLIENT_VERSION:
        raise ContractError(
            ReplyCode.CLIENT_VERSION,
            f"the plan is for devices with Tacitly {plan.client_version:.80}, not {CLIENT_VERSION}",
        )
    if now >= plan.expires:
        raise ContractError(
            ReplyCode.CAMPAIGN_EXPIRED, f"the plan expired at {plan.expires}; set a later end"
        )
    policy = contract.policy
    code = judge_plan(plan, policy)
    if code is not ReplyCode.OK:
        raise ContractError(
            code,
            f"the plan leaves the organisation's policy ({code.name.lower()}); "
            "change it, or the policy first",
        )
    for scope, cap in (
        ("a lifetime", policy.lifetime_nano_rho),
        ("one month's data", policy.epoch_nano_rho),
    ):
        if plan.cap_nano_rho > cap:
            raise BudgetExceededError(
                f"the plan may cost a person {plan.cap_nano_rho} nano-ρ, the policy allows {cap} "
                f"for {scope}; plan fewer participations or more noise"
            )
    return plan


def _sound(contract: Contract, plan_hash: str) -> CampaignPlan:
    """The plan, if it says what it is and what it costs."""
    found = plan_of(contract, plan_hash)
    if found is ReplyCode.UNKNOWN_PLAN:
        raise ContractError(found, f"no plan {plan_hash[:16]}... was proposed")
    try:
        plan = parse_plan(contract.campaigns[plan_hash].plan.encode())
        check_epsilon(plan)
    except PlanError as error:
        code = found if isinstance(found, ReplyCode) else ReplyCode.PLAN_MALFORMED
        raise ContractError(code, str(error)) from None
    if isinstance(found, ReplyCode):
        raise ContractError(found, "the plan is not in canonical form")
    return plan
