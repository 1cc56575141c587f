"""`tacitly-agent status`: what is captured, stored, joined and spent, and what has left."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from tacitly_client.now import Now, read_now
from tacitly_client.options import format_option, home_option

if TYPE_CHECKING:
    from decimal import Decimal

    from tacitly_client.home import AgentHome
    from tacitly_client.ledger import DeviceLedger
    from tacitly_common.campaign import CampaignPlan
    from tacitly_common.contract.log import Contract


class Budget(msgspec.Struct, frozen=True):
    """Spent of a cap, in the ledger's integers and as ε, rounded up."""

    spent_nano_rho: int
    cap_nano_rho: int
    epsilon: float
    epsilon_cap: float


class JoinedCampaign(msgspec.Struct, frozen=True, kw_only=True):
    """The campaign this device takes part in. `answer`: what its tasks get at most, now.

    The record level is about any `window_tokens` events in a row: an account of its own.
    """

    plan_hash: str
    name: str
    purpose: str
    proposed_by: str
    approved_by: tuple[str, ...]
    answer: str
    budget: Budget
    record_epsilon: float
    record_epsilon_cap: str
    window_tokens: int


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. `events_stored` is None if the store cannot be read.

    `no_consent` is why nothing may be captured; None: consent to capture stands.
    """

    now: Now
    no_consent: str | None
    organisation: str
    log_length: int
    log_problem: str | None
    delta: str
    campaign: JoinedCampaign | None
    events_stored: int | None
    messages_sent: int
    lifetime: Budget
    month_cap_nano_rho: int
    month_epsilon_cap: float
    record_epsilon_all: float


@click.command()
@home_option
@format_option
def status(home: Path, as_json: bool) -> None:
    """Show what is captured, stored, spent and sent."""
    from tacitly_client.home import AgentHome
    from tacitly_client.processes import forbid_dumps
    from tacitly_client.show import print_json
    from tacitly_client.store import Damage, EventStore, StoreError

    forbid_dumps()
    place = AgentHome(home)
    damages: list[Damage] = []
    problem: StoreError | None = None
    stored: int | None = None
    try:
        with EventStore.open(place.store) as store:
            stored = store.count(on_damage=damages.append)
    except StoreError as error:
        problem = error
    now = _status(place, stored)
    if as_json:
        print_json(msgspec.to_builtins(now))
    else:
        _print(place, now)
    if problem:
        raise problem
    if damages:
        raise StoreError(
            f"{len(damages)} part(s) of the store cannot be read and are left out, the rest is in "
            f"use; restore the file from a backup if you have one: {damages[0]}"
        )


def _status(place: "AgentHome", stored: int | None) -> Status:
    from tacitly_client.campaigns import joined_plan
    from tacitly_client.capture.clock import SystemClock
    from tacitly_client.consent import capture_consent
    from tacitly_client.contract_store import ContractStore
    from tacitly_client.home import read_settings
    from tacitly_client.ledger import DeviceLedger
    from tacitly_client.limits import own_limits
    from tacitly_client.show import rounded_up
    from tacitly_common.accounting.record import epsilon_of_rdp
    from tacitly_common.accounting.subject import shown_epsilon

    settings = read_settings(place)
    books = ContractStore(place)
    contract, problem, plan = books.load(), books.problem(), joined_plan(place)
    delta, limits = contract.policy.delta, own_limits(settings, contract.policy)
    sent = place.egress_journal
    with DeviceLedger.open(place.ledger) as ledger:
        return Status(
            now=read_now(place, SystemClock()),
            no_consent=capture_consent(place).why_not or None,
            organisation=contract.organisation,
            log_length=contract.length,
            log_problem=None if problem is None else problem.name,
            delta=str(delta),
            campaign=None if plan is None else _joined(contract, plan, ledger),
            events_stored=stored,
            messages_sent=sent.read_bytes().count(b"\n") if sent.exists() else 0,
            lifetime=_budget(ledger.spent_nano_rho(), limits.lifetime_nano_rho, delta),
            month_cap_nano_rho=limits.epoch_nano_rho,
            month_epsilon_cap=shown_epsilon(limits.epoch_nano_rho, float(delta)),
            record_epsilon_all=rounded_up(epsilon_of_rdp(ledger.record_rdp(), delta)),
        )


def _joined(contract: "Contract", plan: "CampaignPlan", ledger: "DeviceLedger") -> JoinedCampaign:
    from tacitly_client.campaigns import campaigns
    from tacitly_client.show import rounded_up
    from tacitly_common.accounting.record import epsilon_of_rdp
    from tacitly_common.wire.codes import ReplyCode

    found = campaigns(contract, plan, now=datetime.now(UTC))
    listed = next((each for each in found if each.plan_hash == plan.hash), None)
    spent = ledger.spent_nano_rho(plan.hash)
    return JoinedCampaign(
        plan_hash=plan.hash,
        name=plan.name,
        purpose=plan.purpose,
        proposed_by=listed.proposer if listed else "",
        approved_by=listed.approvers if listed else (),
        answer=(listed.answer if listed else ReplyCode.UNKNOWN_PLAN).name,
        budget=_budget(spent, plan.cap_nano_rho, plan.delta),
        record_epsilon=rounded_up(epsilon_of_rdp(ledger.record_rdp(plan.hash), plan.delta)),
        record_epsilon_cap=str(plan.record.cap_epsilon),
        window_tokens=plan.record.window_tokens,
    )


def _budget(spent_nano_rho: int, cap_nano_rho: int, delta: "Decimal") -> Budget:
    from tacitly_common.accounting.subject import shown_epsilon

    spent, cap = (shown_epsilon(amount, float(delta)) for amount in (spent_nano_rho, cap_nano_rho))
    return Budget(spent_nano_rho, cap_nano_rho, spent, cap)


def _print(place: "AgentHome", now: Status) -> None:
    from tacitly_client.show import text

    _print_now(now.now, now.no_consent)
    stored = "unreadable" if now.events_stored is None else now.events_stored
    entries = "1 entry" if now.log_length == 1 else f"{now.log_length} entries"
    click.echo(f"organisation      {now.organisation} (officers' log: {entries})")
    if now.log_problem is not None:
        click.echo(f"refused           {now.log_problem}: the server's last word about that log")
    joined = now.campaign
    if joined is None:
        click.echo("campaign          none; `tacitly-agent campaigns` lists what there is")
    else:
        approved = ", ".join(joined.approved_by) or "nobody"
        click.echo(f"campaign          {joined.name} ({joined.purpose}), {joined.plan_hash[:16]}")
        click.echo(f"approved by       {approved}; proposed by {joined.proposed_by}")
        click.echo(f"answers tasks     {joined.answer}")
    click.echo(f"events stored     {stored} (encrypted, on this machine only)")
    click.echo(f"messages sent     {now.messages_sent} (each listed in {place.egress_journal})")
    if joined is not None:
        click.echo(f"campaign budget   {_of(joined.budget, now.delta)}")
    click.echo(f"lifetime budget   {_of(now.lifetime, now.delta)}")
    click.echo(f"a month's data    at most ε {text(now.month_epsilon_cap)} at δ = {now.delta}")
    click.echo(f"record level      ε {text(now.record_epsilon_all)} over all campaigns")
    if joined is not None:
        click.echo(
            f"                  ε {text(joined.record_epsilon)} of {joined.record_epsilon_cap} in"
            f" this one, about any {joined.window_tokens} events in a row (a separate account)"
        )


def _print_now(now: Now, no_consent: str | None) -> None:
    waits = ", ".join(each.value for each in now.training_waits_for)
    click.echo(f"capture           {now.headline}")
    click.echo(f"consent           {f'none: {no_consent}' if no_consent else 'stands'}")
    click.echo(f"training          {now.training.value}{f': {waits}' if waits else ''}")
    click.echo(
        f"processes         {', '.join(now.processes) or 'none; `tacitly-agent run` starts them'}"
    )


def _of(budget: Budget, delta: str) -> str:
    from tacitly_client.show import text

    return f"ε {text(budget.epsilon)} of {text(budget.epsilon_cap)} spent, at δ = {delta}"
