"""`tacitly-server`: what an operator types.

Exit codes: 0 ok; 1 unexpected, and `health` if something is down; 2 usage or bad input (also
certificates, address, plan); 5 ledger damaged or contradicted; 6 a server runs here already,
or a part of it cannot run; 7 SuperLink unreachable or it refused. Heavy imports are inside the
commands: `--help` must answer at once.
"""

import sys
from pathlib import Path

import click

from tacitly_common.command import run_command
from tacitly_server.ledger_commands import ledger
from tacitly_server.options import home as _home

_DEFAULT_PORT = 8000

_names = click.option(
    "--name",
    "names",
    multiple=True,
    help="DNS name or address under which devices reach the server. Repeatable.",
)
_file = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group()
def cli() -> None:
    """Run the aggregation server: one directory, one command (`up`)."""


cli.add_command(ledger)


def main() -> None:
    """Run the command."""
    run_command("tacitly-server", cli)


@cli.command()
@_home
@_names
def init(home: Path, names: tuple[str, ...]) -> None:
    """Create keys, secrets and certificates; keep what is there."""
    from datetime import UTC, datetime

    from tacitly_server.home import ServerHome
    from tacitly_server.initialise import initialise

    place = ServerHome(home)
    created = initialise(place, names, now=datetime.now(UTC))
    click.echo(f"{'created' if created else 'nothing to do in'} {home}")
    click.echo(f"give devices {place.tls / 'ca.crt'}, and auditors {place.ledger_public_key}")


@cli.command()
@_home
@_names
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", default=_DEFAULT_PORT, show_default=True, type=click.IntRange(1, 65535))
@click.option("--campaign", help="Hash of the campaign to run [default: the only unfinished one].")
def up(home: Path, names: tuple[str, ...], host: str, port: int, campaign: str | None) -> None:
    """Run the server until it is stopped (SIGTERM or Ctrl-C ends it cleanly).

    At an address other than 127.0.0.1 only the calls of devices are answered.
    """
    import signal
    import threading
    from datetime import UTC, datetime

    from tacitly_server.home import ServerHome
    from tacitly_server.initialise import initialise
    from tacitly_server.supervisor import Supervisor

    place = ServerHome(home)
    if initialise(place, names, now=datetime.now(UTC)):
        click.echo(f"created keys and certificates in {home}")
    stop = threading.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, lambda _signal, _frame: stop.set())
    Supervisor(place, host, port, campaign, report=_report, stop=stop).run()


@cli.command()
@_home
def health(home: Path) -> None:
    """Print what runs and how far it is, as JSON; exit code 1 if something is down."""
    import msgspec

    from tacitly_server.health import health as look
    from tacitly_server.home import ServerHome

    answer = look(ServerHome(home))
    click.echo(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())
    sys.exit(0 if answer.healthy else 1)


@cli.command()
@_home
@click.option("--public-key", required=True, type=_file, help="What `tacitly-agent init` printed.")
@click.option("--person", required=True, help="The person's stable identifier; kept as an HMAC.")
def register(home: Path, public_key: Path, person: str) -> None:
    """Admit a device of a person. Doing it again changes nothing."""
    from tacitly_server.control import Control
    from tacitly_server.enrolment import read_public_key
    from tacitly_server.enrolment import register as enrol
    from tacitly_server.health import read_status
    from tacitly_server.home import ServerHome

    place = ServerHome(home)
    key = read_public_key(public_key.read_bytes(), source=str(public_key))
    with Control.of(place, read_status(place).port) as control:
        enrolment = enrol(place, control, key, person=person)
    known = "" if enrolment.new else " (was registered already)"
    click.echo(f"node {enrolment.node_id}{known}")


@cli.command()
@_home
@click.argument("node_id", type=int)
def unregister(home: Path, node_id: int) -> None:
    """Shut a device out for ever; what its person has spent stays spent."""
    from tacitly_server.control import Control
    from tacitly_server.health import read_status
    from tacitly_server.home import ServerHome

    place = ServerHome(home)
    with Control.of(place, read_status(place).port) as control:
        control.unregister(node_id)
    click.echo(f"node {node_id} is shut out")


@cli.command()
@_home
def nodes(home: Path) -> None:
    """List the devices: node id and whether it is online."""
    from tacitly_server.control import Control
    from tacitly_server.health import read_status
    from tacitly_server.home import ServerHome

    place = ServerHome(home)
    with Control.of(place, read_status(place).port) as control:
        for node in control.nodes():
            click.echo(f"{node.node_id}\t{node.status}")


@cli.command()
@_home
@_names
def renew(home: Path, names: tuple[str, ...]) -> None:
    """Make a new server certificate under the same authority; devices need nothing."""
    from datetime import UTC, datetime

    from tacitly_server import certificates
    from tacitly_server.home import ServerHome

    ends = certificates.renew(ServerHome(home).tls, names, now=datetime.now(UTC))
    click.echo(f"the new certificate ends on {ends:%Y-%m-%d}; restart `tacitly-server up`")


@cli.group()
def campaign() -> None:
    """File and list campaigns."""


@campaign.command()
@_home
@click.option("--plan", required=True, type=_file, help="The plan, JSON.")
@click.option("--model", required=True, type=_file, help="float32 vector in numpy's .npy format.")
def create(home: Path, plan: Path, model: Path) -> None:
    """File a campaign, checked against its plan. Prints its hash."""
    import numpy as np

    from tacitly_common.campaign import read_plan
    from tacitly_common.errors import ValidationError
    from tacitly_server.campaigns.filing import create_campaign
    from tacitly_server.home import ServerHome

    read = read_plan(plan)
    try:
        vector = np.load(model, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValidationError(f"{model} is not an .npy file; give the model of the plan") from error
    create_campaign(ServerHome(home), read, vector)
    click.echo(read.hash)


@campaign.command(name="list")
@_home
def list_(home: Path) -> None:
    """List the campaigns: hash, name, released rounds of all."""
    from tacitly_server.campaigns.filing import list_campaigns
    from tacitly_server.home import ServerHome

    for name, state in list_campaigns(ServerHome(home)).items():
        click.echo(f"{name}\t{state.plan.name}\t{state.released_round}/{state.plan.rounds}")


@campaign.command(name="app-hash")
def app_hash_() -> None:
    """Print the hash that a plan for this server must name as its `app_hash`."""
    from tacitly_server.bundle import app_hash

    click.echo(app_hash())


def _report(line: str) -> None:
    from datetime import UTC, datetime

    click.echo(f"{datetime.now(UTC):%H:%M:%S} {line}")


if __name__ == "__main__":
    main()
