"""`tacitly-agent`: what a person, or who installs for them, types on an endpoint.

Exit codes: 0 ok, 1 unexpected, 2 usage or bad input, 3 refused by budget, 5 store or ledger
damaged. Heavy imports are inside the commands: `--help` must answer at once.
"""

from itertools import islice
from pathlib import Path
from typing import BinaryIO

import click

from tacitly_common.command import run_command

_home = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    default=lambda: _default_home(),
    show_default="the user's data directory",
    help="The agent's directory.",
)


@click.group()
def cli() -> None:
    """Keep your own events encrypted on this machine and take part in learning from them."""


def main() -> None:
    """Run the command."""
    run_command("tacitly-agent", cli)


@cli.command()
@_home
@click.option("--server", required=True, help="HOST:PORT of the aggregation server.")
@click.option(
    "--ca",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Certificate of the server's authority (PEM).",
)
@click.option(
    "--plan",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The campaign plan this machine agrees to.",
)
@click.option(
    "--lifetime-epsilon",
    type=click.FloatRange(min=0, min_open=True),
    default=8.0,
    show_default=True,
    help="Your own ceiling over all campaigns, at the plan's delta.",
)
@click.option(
    "--poll-seconds",
    type=float,
    default=3.0,
    show_default=True,
    help="How often to ask for work while a campaign is active.",
)
@click.option(
    "--idle-poll-seconds",
    type=float,
    default=60.0,
    show_default=True,
    help="How often to ask when nothing has happened for five minutes.",
)
@click.option(
    "--heartbeat-seconds",
    type=float,
    default=30.0,
    show_default=True,
    help="How often to tell the server that this machine is there.",
)
def init(
    home: Path,
    server: str,
    ca: Path,
    plan: Path,
    lifetime_epsilon: float,
    poll_seconds: float,
    idle_poll_seconds: float,
    heartbeat_seconds: float,
) -> None:
    """Set up a new agent: keys, empty store, plan. Prints the public key to register."""
    import msgspec

    from tacitly_client.home import AgentHome, AgentSettings
    from tacitly_client.ledger import DeviceLedger
    from tacitly_client.node.identity import create_node_key
    from tacitly_client.store import EventStore
    from tacitly_common.accounting.subject import cap_nano_rho
    from tacitly_common.campaign import read_plan
    from tacitly_common.vocabulary import Vocabulary

    agreed = read_plan(plan)
    Vocabulary(agreed.tokens)  # of a version that this Tacitly has, or nothing is set up
    settings = AgentSettings(
        server=server,
        lifetime_cap_nano_rho=cap_nano_rho(lifetime_epsilon, float(agreed.delta)),
        poll_seconds=poll_seconds,
        idle_poll_seconds=idle_poll_seconds,
        heartbeat_seconds=heartbeat_seconds,
    )
    place = AgentHome(home)
    # The store refuses to be created twice, so it comes first: a second init changes nothing.
    EventStore.create(place.store).close()
    home.chmod(0o700)
    DeviceLedger(place.ledger, lifetime_cap_nano_rho=settings.lifetime_cap_nano_rho).close()
    place.ca_certificate.write_bytes(ca.read_bytes())
    place.plan.write_bytes(agreed.to_json())
    place.settings.write_bytes(msgspec.json.format(msgspec.json.encode(settings)))
    click.echo(create_node_key(place), nl=False)


@cli.command()
@_home
def run(home: Path) -> None:
    """Take part in rounds until stopped (SIGTERM or Ctrl-C ends it cleanly)."""
    from tacitly_client.home import AgentHome, read_settings
    from tacitly_client.node.agent import run_agent
    from tacitly_client.processes import log_to_stderr

    place = AgentHome(home)
    log_to_stderr()
    run_agent(place, read_settings(place))


@cli.command()
@_home
def capture(home: Path) -> None:
    """Capture your own input until stopped, while the tray shows it and you consent to it."""
    from tacitly_client.capture.main import run_capture
    from tacitly_client.home import AgentHome

    run_capture(AgentHome(home))


@cli.command()
@_home
@click.argument("recording", type=click.File("rb"))
def replay(home: Path, recording: BinaryIO) -> None:
    """Fill the store from RECORDING, JSON lines of events ("-" for standard input)."""
    from tacitly_client.capture.replay import replay as replayed
    from tacitly_client.home import AgentHome
    from tacitly_client.store import EventStore

    count = 0
    with EventStore.open(AgentHome(home).store) as store:
        events = replayed(recording)
        while batch := list(islice(events, 1_024)):
            store.append(batch)
            count += len(batch)
    click.echo(f"stored {count} events")


@cli.command()
@_home
def status(home: Path) -> None:
    """Show what is stored, what has been spent and what has left this machine."""
    from tacitly_client.home import AgentHome, read_settings
    from tacitly_client.ledger import DeviceLedger
    from tacitly_client.store import Damage, EventStore, StoreError
    from tacitly_common.accounting.record import record_epsilon
    from tacitly_common.accounting.subject import epsilon_of
    from tacitly_common.campaign import read_plan

    place = AgentHome(home)
    settings = read_settings(place)
    plan = read_plan(place.plan)
    delta = float(plan.delta)
    with DeviceLedger.existing(
        place.ledger, lifetime_cap_nano_rho=settings.lifetime_cap_nano_rho
    ) as ledger:
        spent, spent_here = ledger.spent_nano_rho(), ledger.spent_nano_rho(plan.hash)
        history = ledger.record_history(plan.hash)
    left = place.egress_journal.read_bytes().count(b"\n") if place.egress_journal.exists() else 0
    damages: list[Damage] = []
    problem: StoreError | None = None
    try:
        with EventStore.open(place.store) as store:
            stored = f"{store.count(on_damage=damages.append)}"
    except StoreError as error:
        stored, problem = "unreadable", error
    click.echo(f"campaign          {plan.name} ({plan.purpose})")
    click.echo(f"events stored     {stored} (encrypted, on this machine only)")
    click.echo(f"messages sent     {left} (each listed in {place.egress_journal})")
    for name, amount, cap in (
        ("campaign budget", spent_here, plan.cap_nano_rho),
        ("lifetime budget", spent, settings.lifetime_cap_nano_rho),
    ):
        click.echo(
            f"{name}   ε {epsilon_of(amount, delta):.3f} of {epsilon_of(cap, delta):.3f}"
            f" at δ = {plan.delta} ({amount} of {cap} nano-ρ)"
        )
    click.echo(
        f"record level      ε {record_epsilon(history, delta):.3f} at δ = {plan.delta}, about any"
        f" {plan.record.window_tokens} events in a row (a separate account)"
    )
    if problem:
        raise problem
    if damages:
        raise StoreError(
            f"{len(damages)} part(s) of the store cannot be read and are left out, the rest is in "
            f"use; restore the file from a backup if you have one: {damages[0]}"
        )


@cli.command()
@_home
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase(home: Path, yes: bool) -> None:
    """Erase every stored event. What has been spent of the budget stays spent."""
    from tacitly_client.home import AgentHome
    from tacitly_client.store import EventStore

    if not yes:
        click.confirm("Erase every event stored on this machine?", abort=True)
    with EventStore.open(AgentHome(home).store) as store:
        click.echo(f"erased {store.erase()} events")


def _default_home() -> Path:
    from platformdirs import user_data_path

    return user_data_path("tacitly")
