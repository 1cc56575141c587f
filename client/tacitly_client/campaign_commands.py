"""`tacitly-agent campaigns`, `join`, `leave`: what is asked of this person, and their answer."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tacitly_client.options import format_option, home_option
from tacitly_common.command import confirm

if TYPE_CHECKING:
    from tacitly_client.home import AgentHome
    from tacitly_common.contract.log import Contract


@click.command()
@home_option
@format_option
def campaigns(home: Path, as_json: bool) -> None:
    """List campaigns and what each would cost you.

    And who approved it, and what this machine would answer.
    """
    from tacitly_client.campaigns import campaigns as listed
    from tacitly_client.campaigns import joined_plan
    from tacitly_client.contract_store import ContractStore
    from tacitly_client.home import AgentHome
    from tacitly_client.show import campaigns_document, print_campaigns, print_json

    place, now = AgentHome(home), datetime.now(UTC)
    contract = _refreshed(place, now)
    problem = ContractStore(place).problem()
    found = listed(contract, joined_plan(place), now=now)
    if as_json:
        print_json(campaigns_document(contract, found, problem))
    else:
        print_campaigns(contract, found, problem)


@click.command()
@home_option
@click.argument("plan_hash", metavar="HASH")
@click.option("--yes", is_flag=True, help="Do not ask.")
def join(home: Path, plan_hash: str, yes: bool) -> None:
    """Take part in campaign HASH.

    Checks it, shows what it asks, and asks you. The first eight digits are enough.
    """
    from tacitly_client import campaigns as offered
    from tacitly_client.contract_store import ContractStore
    from tacitly_client.home import AgentHome, read_settings
    from tacitly_client.ledger import DeviceLedger
    from tacitly_client.limits import own_limits
    from tacitly_client.show import asked_in_words

    place, now = AgentHome(home), datetime.now(UTC)
    contract = _refreshed(place, now)
    problem = ContractStore(place).problem()
    if problem is not None:
        raise offered.UnsoundCampaignError(
            f"{problem.name}: the server's last word about the officers' log was refused; "
            "ask an officer before you join anything"
        )
    plan = offered.check(contract, offered.find(contract, plan_hash), now=now)
    limits = own_limits(read_settings(place), contract.policy)
    with DeviceLedger.open(place.ledger) as ledger:
        spent = ledger.spent_nano_rho()
    room = offered.check_room(plan, limits, spent_nano_rho=spent)
    asked = "\n".join(asked_in_words(contract, plan, limits, spent_nano_rho=spent, room=room))
    click.echo(asked)
    if not yes:
        confirm("Take part?", "not joined")
    offered.join(place, plan, asked, now=datetime.now(UTC))
    click.echo(f"joined {plan.name}; `tacitly-agent leave` ends it at any time")


@click.command()
@home_option
def leave(home: Path) -> None:
    """Take part no more, from now on. What was spent stays spent."""
    from tacitly_client.campaigns import leave as left
    from tacitly_client.home import AgentHome, read_enrolment

    place = AgentHome(home)
    read_enrolment(place)
    click.echo("left" if left(place, now=datetime.now(UTC)) else "no campaign was joined")


def _refreshed(place: "AgentHome", now: datetime) -> "Contract":
    """The contract after a refresh; as this machine has it where the desk does not answer.

    Raises:
        ContractError: the desk answered with a log that is refused.
    """
    from tacitly_client.contract_store import ContractStore
    from tacitly_client.refresh import refresh
    from tacitly_common.wire.desk_errors import DeskError

    try:
        return refresh(place, now=now)
    except DeskError as error:
        click.echo(f"tacitly-agent: the desk: {error}; this is as of the last refresh", err=True)
        return ContractStore(place).load()
