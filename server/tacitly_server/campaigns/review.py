"""What a plan must be before anybody signs it or files it: one that could run here as it stands."""

from datetime import datetime

from tacitly_common.campaign import (
    CLIENT_VERSION,
    CampaignPlan,
    PlanError,
    check_epsilon,
    parse_plan,
)
from tacitly_common.contract.acts import ContractError, OutsidePolicyError
from tacitly_common.contract.judge import plan_of
from tacitly_common.contract.log import Contract
from tacitly_common.contract.policy import Policy, judge_plan
from tacitly_common.errors import BudgetExceededError
from tacitly_common.wire.codes import ReplyCode


def runnable_plan(contract: Contract, plan_hash: str, *, now: datetime) -> CampaignPlan:
    """A proposed plan that could be approved and run as it stands, its cost computed anew.

    Raises:
        ContractError: it is malformed, misstates its cost, is over, is for other devices' code
            than there is.
        OutsidePolicyError, BudgetExceededError: as of `check_policy`.
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
    check_policy(plan, contract.policy)
    return plan


def check_policy(plan: CampaignPlan, policy: Policy) -> None:
    """Pass if the policy allows the plan and its budgets pay for it, were nothing spent yet.

    A month's budget is checked once for all of the plan's months: every participation is charged
    to each of them.

    Raises:
        OutsidePolicyError: the plan is not what the policy lets plans be.
        BudgetExceededError: its worst case alone is more than a month's or a life's.
    """
    verdict = judge_plan(plan, policy)
    if verdict is not ReplyCode.OK:
        raise OutsidePolicyError(
            verdict,
            f"the policy does not allow the plan ({verdict.name.lower()}); change the plan, or let "
            "two officers approve another policy first",
        )
    for scope, whose, epsilon, cap in (
        ("epoch", "a month's data", policy.epoch_epsilon, policy.epoch_nano_rho),
        ("lifetime", "a person's lifetime", policy.lifetime_epsilon, policy.lifetime_nano_rho),
    ):
        if plan.cap_nano_rho > cap:
            affordable = cap // plan.cost_nano_rho
            fewer = (
                f"allow {affordable} participations instead of {plan.participation.per_campaign}, "
                "or plan more noise"
                if affordable
                else "plan more noise: not even one participation is paid for"
            )
            raise BudgetExceededError(
                f"the plan may cost a person {plan.cap_nano_rho} nano-ρ, the policy allows {cap} "
                f"(ε {epsilon}) for {whose}; {fewer}",
                scope=scope,
            )


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
