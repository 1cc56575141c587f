"""What the officers' log says of a plan, as an officer reads it before signing."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tacitly_common.campaign import CampaignPlan
    from tacitly_common.contract.log import Contract

# Fewer digits of a hash could be another's tomorrow.
_FEWEST_DIGITS: Final = 8


def plan_meaning(plan: "CampaignPlan") -> dict[str, Any]:
    """What a plan does and costs. ε is computed here, and never below what ledgers enforce."""
    from tacitly_common.accounting.subject import shown_epsilon

    delta = float(plan.delta)
    return {
        "plan_hash": plan.hash,
        "name": plan.name,
        "purpose": plan.purpose,
        "legal_basis": plan.legal_basis.value,
        "content": plan.tokens.level.value,
        "data_epochs": plan.data_epochs,
        "population": plan.cohort.population,
        "cohort_target": plan.cohort.target,
        "cohort_minimum": plan.cohort.minimum,
        "rounds": plan.rounds,
        "participations": plan.participation.per_campaign,
        "clip_norm": str(plan.subject.clip_norm),
        "noise_multiplier": str(plan.subject.noise_multiplier),
        "encoding": plan.subject.encoding,
        "cost_nano_rho": plan.cost_nano_rho,
        "cap_nano_rho": plan.cap_nano_rho,
        "delta": str(plan.delta),
        "epsilon_stated": str(plan.worst_case.epsilon),
        "epsilon": shown_epsilon(plan.cap_nano_rho, delta),
        "epsilon_against_the_server": shown_epsilon(plan.server_cap_nano_rho, delta),
        "dpia": plan.references.dpia,
        "works_agreement": plan.references.works_agreement,
        "expires": plan.expires,
    }


def agreement(contract: "Contract", plan_hash: str) -> dict[str, Any]:
    """Who proposed a plan, and who has approved it and still counts."""
    proposal = contract.proposals[contract.campaigns[plan_hash].proposal]
    return {
        "proposer": proposal.proposer,
        "approved_by": tuple(sorted(contract.approvers(plan_hash))),
    }


def standing_of(contract: "Contract", plan_hash: str) -> dict[str, Any]:
    """Where the log has brought a plan; how far its rounds are is not in it."""
    from tacitly_server.campaigns.standing import Progress, standing

    word = standing(contract, plan_hash, Progress(), now=datetime.now(UTC))
    return {"plan_hash": plan_hash, "standing": word.value, **agreement(contract, plan_hash)}


def find_plan(contract: "Contract", text: str) -> str:
    """The hash of the one plan that is named by it, or by its beginning.

    Raises:
        ValidationError: none, or several.
    """
    return _only(text, {plan_hash: plan_hash for plan_hash in contract.campaigns})


def find(contract: "Contract", text: str) -> str:
    """Like `find_plan`, or the hash of the proposal of a change."""
    plans = {campaign.proposal: name for name, campaign in contract.campaigns.items()}
    names = {name: name for name in contract.campaigns}
    proposals = {entry: plans.get(entry, entry) for entry in contract.proposals}
    return _only(text, names | proposals)


def _only(text: str, known: "Mapping[str, str]") -> str:
    from tacitly_common.errors import ValidationError

    if len(text) < _FEWEST_DIGITS:
        raise ValidationError(f"{text!r} is too short; give at least {_FEWEST_DIGITS} digits")
    found = {name for digits, name in known.items() if digits.startswith(text)}
    if len(found) != 1:
        raise ValidationError(
            f"{len(found)} proposals in the officers' log begin with {text:.64}; "
            "see `tacitly-officer campaign list` and `tacitly-officer officer list`"
        )
    return found.pop()
