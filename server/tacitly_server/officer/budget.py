"""`tacitly-officer budget`: what was spent, and how far the rest goes.

Figures are of the population and of its worst person; counts of fewer than five are not shown.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from tacitly_server.officer.output import (
    FILE,
    POSITIVE,
    delta_text,
    emit,
    epsilon_text,
    facts,
    format_option,
    indented,
    table,
)
from tacitly_server.officer.place import filed_plans, home_option, optional_policy, policy_option

if TYPE_CHECKING:
    from rich.console import Console

    from tacitly_common.campaign import CampaignPlan
    from tacitly_common.contract.policy import Policy
    from tacitly_server.ledger.outlook import Claim


_HIDDEN: Final = "\n* too few to show, or as many as would tell how many these are"


@dataclass(frozen=True, slots=True)
class Spending:
    """What the person who spent most has spent on something, and of how much if that is known."""

    on: str
    nano_rho: int
    epsilon: float
    cap_nano_rho: int | None
    cap_epsilon: float | None
    used_percent: int | None


@dataclass(frozen=True, slots=True)
class Share:
    """How many persons spent so much, and more than the share before; None: too few to show."""

    up_to_epsilon: float
    persons: int | None


@dataclass(frozen=True, slots=True)
class OtherCampaign:
    """Another campaign's further rounds: planned, feasible, and feasible after this plan."""

    hash: str
    name: str
    rounds_planned: int
    rounds_feasible: int
    rounds_feasible_after: int


@click.group()
def budget() -> None:
    """See what was spent, and how far the rest goes."""


@budget.command()
@home_option
@policy_option
@click.option("--delta", type=POSITIVE, default=1e-6, show_default=True, help="Without a policy.")
@format_option
def show(home: Path, policy_file: Path | None, delta: float, form: str) -> None:
    """Show what people have spent, for life and on each month's data.

    With a policy beside its limits, at its δ.
    """
    from tacitly_common.accounting.caps import Caps
    from tacitly_common.accounting.subject import shown_epsilon
    from tacitly_server.home import ServerHome
    from tacitly_server.ledger.overview import overview
    from tacitly_server.ledger.place import database_of
    from tacitly_server.ledger.summary import summary

    policy, where = optional_policy(policy_file), database_of(ServerHome(home))
    caps, lifetime_cap, month_cap = None, None, None
    if policy is not None:
        # No campaign's quota is looked at here; a month's cap is the most that one may have.
        caps = Caps(policy.lifetime_nano_rho, policy.epoch_nano_rho, policy.epoch_nano_rho)
        lifetime_cap, month_cap = caps.lifetime_nano_rho, caps.epoch_nano_rho
        delta = float(policy.delta)

    def spending(on: str, nano_rho: int, cap: int | None) -> Spending:
        epsilon = shown_epsilon(nano_rho, delta)
        if cap is None:
            return Spending(on, nano_rho, epsilon, None, None, None)
        used = -(-100 * nano_rho // cap)
        return Spending(on, nano_rho, epsilon, cap, shown_epsilon(cap, delta), used)

    totals = summary(where, caps)
    most = [
        *(
            spending(one.month, one.largest_spent_nano_rho, month_cap)
            for one in overview(where).months
        ),
        spending("lifetime", totals.largest_spent_nano_rho, lifetime_cap),
    ]
    shares = [
        Share(shown_epsilon(one.up_to_nano_rho, delta), one.subjects) for one in totals.distribution
    ]
    document = {
        "delta": delta,
        "persons": totals.subjects,
        "worst_person": most,
        "distribution": shares,
    }

    def drawn(console: "Console") -> None:
        console.print(
            table(
                f"The person who spent most (δ {delta_text(delta)})",
                {"on": "left", "ε": "right", "of": "right", "budget used": "right"},
                (
                    (
                        one.on,
                        epsilon_text(one.epsilon),
                        "" if one.cap_epsilon is None else epsilon_text(one.cap_epsilon),
                        "" if one.used_percent is None else f"{one.used_percent}%",
                    )
                    for one in most
                ),
            )
        )
        console.print(
            table(
                f"Persons by what they spent in their lifetime; in all: {_count(totals.subjects)}",
                {"up to ε": "right", "persons": "right"},
                ((epsilon_text(one.up_to_epsilon), _count(one.persons)) for one in shares),
            )
        )
        if None in [totals.subjects, *(one.persons for one in shares)]:
            console.print(indented(_HIDDEN))

    emit(document, form, drawn)


@budget.command()
@click.argument("file", type=FILE)
@home_option
@policy_option
@format_option
def forecast(file: Path, home: Path, policy_file: Path | None, form: str) -> None:
    """Show how many rounds of the plan in FILE the budgets still pay for, and when they end.

    Every other campaign on the server that is not over is shown too: as it stands, and if everybody
    first spends on the plan in FILE what it may cost them. Without a policy a plan's own worst case
    is its only limit.
    """
    from datetime import UTC, datetime

    from tacitly_common.campaign import read_plan
    from tacitly_server.home import ServerHome
    from tacitly_server.ledger.outlook import outlook
    from tacitly_server.ledger.place import database_of

    where, now = database_of(ServerHome(home)), datetime.now(UTC)
    read, policy = read_plan(file), optional_policy(policy_file)
    claim = _claim(read, policy)
    own = outlook(where, claim, now=now)
    others = []
    for other in filed_plans(home):
        if other.hash == read.hash or other.expires <= now:
            continue
        before = outlook(where, _claim(other, policy), now=now)
        after = outlook(where, _claim(other, policy), now=now, beside=claim)
        if before.rounds_planned > 0:
            others.append(
                OtherCampaign(
                    other.hash,
                    other.name,
                    before.rounds_planned,
                    before.rounds_feasible,
                    after.rounds_feasible,
                )
            )
    document = {"hash": read.hash, "name": read.name, **asdict(own), "other_campaigns": others}

    def drawn(console: "Console") -> None:
        short = own.rounds_feasible < own.rounds_planned
        pace = "not known before two charges"
        if own.rounds_per_day is not None:
            pace = f"{own.rounds_per_day:,.1f} a day"
        console.print(
            facts(
                f"What is left for {read.name}",
                {
                    "rounds released": f"{own.rounds_released:,}",
                    "rounds to come": f"{own.rounds_planned:,}",
                    "of these feasible": ("[bold red]" if short else "[bold]")
                    + f"{min(own.rounds_planned, own.rounds_feasible):,}[/]",
                    "persons who can pay": _count(own.persons_left)
                    + f" of {read.cohort.population:,}",
                    "pace so far": pace,
                    "at that pace it ends": "" if own.ends is None else f"{own.ends:%Y-%m-%d}",
                },
            )
        )
        if own.persons_left is None:
            console.print(indented(_HIDDEN))
        if others:
            console.print(
                table(
                    "Other campaigns: rounds that stay feasible",
                    {"campaign": "left", "to come": "right", "now": "right", "after": "right"},
                    (
                        (
                            one.name,
                            f"{one.rounds_planned:,}",
                            f"{min(one.rounds_planned, one.rounds_feasible):,}",
                            f"{min(one.rounds_planned, one.rounds_feasible_after):,}",
                        )
                        for one in others
                    ),
                )
            )

    emit(document, form, drawn)


def _claim(plan: "CampaignPlan", policy: "Policy | None") -> "Claim":
    from tacitly_server.ledger.outlook import Claim
    from tacitly_server.rounds.permit import caps_of

    return Claim(
        plan_hash=plan.hash,
        epochs=plan.data_epochs,
        cost_nano_rho=plan.cost_nano_rho,
        caps=caps_of(plan, policy),
        population=plan.cohort.population,
        asked=plan.cohort.asked,
        rounds=plan.rounds,
    )


def _count(persons: int | None) -> str:
    return "*" if persons is None else f"{persons:,}"
