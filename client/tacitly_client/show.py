"""What a person reads about campaigns and budgets, in words and as JSON.

An ε is shown rounded up: never less than what the ledger enforces.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import click
import msgspec

from tacitly_client.campaigns import Campaign
from tacitly_client.limits import OwnLimits
from tacitly_common.accounting.odds import gaussian_mu, share_caught
from tacitly_common.accounting.subject import shown_epsilon
from tacitly_common.campaign import CampaignPlan, Family, Level
from tacitly_common.contract.log import Contract
from tacitly_common.wire.codes import ReplyCode

SCHEMA_VERSION: Final = 1
_FALSE_ALARM_SHARE: Final = 0.05
_LEVELS: Final = {
    Level.CLASSES: "kinds of keys (letter, digit, ...), never which",
    Level.CHARACTERS: "characters that were typed, digits masked",
}
_FAMILIES: Final = {
    Family.APPLICATIONS: "switches between applications",
    Family.KEYS: "keys",
    Family.PAUSES: "pauses",
    Family.POINTER: "pointer",
}


def rounded_up(epsilon: float) -> float:
    """To 1/10,000, never below the value: as `shown_epsilon`, for the record level's ε."""
    return math.ceil(10_000 * epsilon) / 10_000 if math.isfinite(epsilon) else epsilon


def text(epsilon: float) -> str:
    """An ε that was rounded up, for people."""
    return f"{epsilon:.4f}" if math.isfinite(epsilon) else "∞"


def print_json(document: dict[str, Any]) -> None:
    """One document on standard output."""
    content = msgspec.json.encode({"schema_version": SCHEMA_VERSION, **document})
    click.echo(msgspec.json.format(content).decode())


def campaigns_document(
    contract: Contract, found: Sequence[Campaign], problem: ReplyCode | None
) -> dict[str, Any]:
    """`tacitly-agent campaigns` as JSON."""
    return {
        "organisation": contract.organisation,
        "log_length": contract.length,
        "log_problem": None if problem is None else problem.name,
        "campaigns": [_campaign_document(each) for each in found],
    }


def _campaign_document(campaign: Campaign) -> dict[str, Any]:
    plan = campaign.plan
    asked = {} if plan is None else _plan_document(plan)
    return {
        "plan_hash": campaign.plan_hash,
        "proposed_by": campaign.proposer,
        "approved_by": list(campaign.approvers),
        "answer": campaign.answer.name,
        **asked,
    }


def _plan_document(plan: CampaignPlan) -> dict[str, Any]:
    delta = float(plan.delta)
    return {
        "name": plan.name,
        "purpose": plan.purpose,
        "legal_basis": plan.legal_basis.value,
        "data_epochs": list(plan.data_epochs),
        "participations": plan.participation.per_campaign,
        "cost_nano_rho": plan.cost_nano_rho,
        "cap_nano_rho": plan.cap_nano_rho,
        "epsilon_per_participation": shown_epsilon(plan.cost_nano_rho, delta),
        "epsilon_worst_case": shown_epsilon(plan.cap_nano_rho, delta),
        "delta": str(plan.delta),
        "expires": plan.expires.isoformat(),
    }


def print_campaigns(
    contract: Contract, found: Sequence[Campaign], problem: ReplyCode | None
) -> None:
    """`tacitly-agent campaigns` for people."""
    from rich.console import Console
    from rich.table import Table

    if not found:
        click.echo(f"{contract.organisation} has proposed no campaign yet")
    table = Table(title=f"{contract.organisation}: {len(found)} campaign(s)")
    for heading in ("campaign", "name", "purpose", "approved by", "ε at most", "until", "answer"):
        table.add_column(heading, overflow="fold")
    for campaign in found:
        plan = campaign.plan
        unread = ("?", "?", "?", "?")
        name, purpose, epsilon, until = unread if plan is None else _cells(plan)
        approved = ", ".join(campaign.approvers) or "nobody"
        beginning = campaign.plan_hash[:16]
        table.add_row(beginning, name, purpose, approved, epsilon, until, campaign.answer.name)
    console = Console()
    if found:
        console.print(table)
    if problem is not None:
        console.print(
            f"The server's last word about the officers' log was refused ({problem.name}): "
            "until it says something sound, every task is answered with that."
        )


def _cells(plan: CampaignPlan) -> tuple[str, str, str, str]:
    worst = shown_epsilon(plan.cap_nano_rho, float(plan.delta))
    return plan.name, plan.purpose, text(worst), f"{plan.expires:%Y-%m-%d}"


def asked_in_words(
    contract: Contract, plan: CampaignPlan, limits: OwnLimits, *, spent_nano_rho: int, room: int
) -> Iterator[str]:
    """What joining means, a line at a time.

    `room`: how many participations the person's limits leave, of those planned.
    """
    delta, often = float(plan.delta), plan.participation
    campaign = contract.campaigns[plan.hash]
    proposer = contract.proposals[campaign.proposal].proposer
    approvers = " and ".join(sorted(contract.approvers(plan.hash)))
    families = ", ".join(_FAMILIES[family] for family in plan.tokens.families)
    once = text(shown_epsilon(plan.cost_nano_rho, delta))
    worst = text(shown_epsilon(plan.cap_nano_rho, delta))
    caught = math.ceil(100 * share_caught(_FALSE_ALARM_SHARE, gaussian_mu(plan.cap_nano_rho)))
    yield f"campaign     {plan.name} of {contract.organisation} ({plan.hash[:16]})"
    yield f"agreed by    {approvers}; proposed by {proposer}"
    yield f"purpose      {plan.purpose}; legal basis: {plan.legal_basis.value}"
    yield f"learns from  {families}, in {', '.join(plan.data_epochs)}"
    yield f"             kept of each: {_LEVELS[plan.tokens.level]}"
    yield "what leaves  one model update a time: numbers, cut to size and noised on this machine"
    yield f"how often    at most {often.per_campaign} times, {often.per_epoch} for one month's data"
    yield f"             at least {often.minimum_gap_hours} hours apart"
    yield f"cost         ε {once} a time, {worst} in all at the most (δ = {plan.delta})"
    yield "             who tests whether you took part, and is wrong about 5 of 100 who did not,"
    yield f"             finds at most {caught} of 100 who did"
    yield (
        f"your limits  ε {text(shown_epsilon(limits.lifetime_nano_rho, delta))} for life, "
        f"{text(shown_epsilon(spent_nano_rho, delta))} spent: room for {room} of "
        f"{often.per_campaign} times"
    )
    yield f"until        {plan.expires:%Y-%m-%d %H:%M} UTC"
