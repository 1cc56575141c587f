"""`tacitly-agent model fetch` and `model show`: what this device's person gets from campaigns."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tacitly_client.options import format_option, home_option

if TYPE_CHECKING:
    from tacitly_common.contract.model_receipt import ModelReceipt


@click.group()
def model() -> None:
    """Fetch and verify the models that campaigns released."""


@model.command()
@home_option
@click.argument("plan_hash", required=False)
def fetch(home: Path, plan_hash: str | None) -> None:
    """Fetch the newest model of PLAN_HASH, or of all that runs. A bad one is refused with 5."""
    from tacitly_client.campaigns import find
    from tacitly_client.contract_store import ContractStore
    from tacitly_client.home import AgentHome
    from tacitly_client.model_fetch import fetch_model, running_campaigns

    place, now = AgentHome(home), datetime.now(UTC)
    contract = ContractStore(place).load()
    if plan_hash is not None:
        wanted = [find(contract, plan_hash)]
    else:
        wanted = list(running_campaigns(contract, now=now))
    if not wanted:
        click.echo("no campaign runs; `tacitly-agent campaigns` lists what there is")
    for each in wanted:
        fetched = fetch_model(place, each, now=now)
        if fetched is None:
            click.echo(f"{each[:16]}: no round was released yet")
        else:
            click.echo(f"{_line(fetched.receipt)}, {'new' if fetched.new else 'held already'}")


@model.command()
@home_option
@format_option
def show(home: Path, as_json: bool) -> None:
    """Show the model that suggestions are made with, verified anew."""
    from tacitly_client.home import AgentHome
    from tacitly_client.models import Models
    from tacitly_client.show import print_json

    used = Models.open(AgentHome(home)).newest()
    if as_json:
        print_json(
            {
                "plan_hash": used.receipt.plan_hash,
                "name": used.plan.name,
                "round": used.receipt.round,
                "attempt": used.receipt.attempt,
                "model_sha256": used.receipt.model_sha256,
                "released_at": used.receipt.released_at.isoformat(),
                "level": used.plan.tokens.level.value,
                "parameters": used.plan.model.parameters,
            }
        )
        return
    click.echo(f"{used.plan.name}: {_line(used.receipt)}")
    click.echo(f"SHA-256 {used.receipt.model_sha256}, {used.plan.model.parameters} weights")


def _line(receipt: "ModelReceipt") -> str:
    return (
        f"{receipt.plan_hash[:16]}: round {receipt.round}, "
        f"released {receipt.released_at:%Y-%m-%d %H:%M} UTC"
    )
