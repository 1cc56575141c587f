"""`tacitly-server`: what an operator types.

Exit codes: 0 ok; 1 unexpected, and `health` if something is down; 2 usage or bad input (also
certificates, address, policy); 5 ledger or officers' log damaged or contradicted; 6 a server runs
here already, or a part of it cannot run, or a log has begun; 7 SuperLink unreachable or it
refused. Heavy imports are inside the commands: `--help` must answer at once.
"""

import sys
from pathlib import Path

import click

from tacitly_common.command import run_command
from tacitly_server.ledger_commands import ledger
from tacitly_server.options import home as _home

_DEFAULT_PORT = 8000
_DEFAULT_ENROLMENT_PORT = 8001

_names = click.option(
    "--name",
    "names",
    multiple=True,
    help="DNS name or address under which devices reach the server. Repeatable.",
)
_file = click.Path(path_type=Path, exists=True, dir_okay=False)
_port = click.IntRange(1, 65535)


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
    from tacitly_server.initialise import grant_public_key, initialise

    place = ServerHome(home)
    created = initialise(place, names, now=datetime.now(UTC))
    click.echo(f"{'created' if created else 'nothing to do in'} {home}")
    click.echo(f"give officers {place.tls / 'ca.crt'}; devices get it with their invitation")
    click.echo(f"give auditors {place.ledger_public_key}")
    click.echo(f"grant key {grant_public_key(place)}")
    if created:
        click.echo("next, with the public keys of three officers: `tacitly-server contract begin`")


@cli.command()
@_home
@_names
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", default=_DEFAULT_PORT, show_default=True, type=_port)
@click.option(
    "--enrolment-port",
    default=_DEFAULT_ENROLMENT_PORT,
    show_default=True,
    type=_port,
    help="Where devices enrol and officers submit.",
)
@click.option("--campaign", help="Hash of the campaign to run [default: the only started one].")
def up(
    home: Path,
    names: tuple[str, ...],
    host: str,
    port: int,
    enrolment_port: int,
    campaign: str | None,
) -> None:
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
    _report("starting; it takes some seconds until SuperLink answers")
    Supervisor(place, host, port, enrolment_port, campaign, report=_report, stop=stop).run()


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
@click.option("--person", required=True, help="The person's stable identifier; kept as an HMAC.")
@click.option("--address", help="Where devices reach the server [default: its certificate's].")
@click.option("--server-port", type=_port, help="... SuperLink [default: that of `up`].")
@click.option("--enrolment-port", type=_port, help="... the desk [default: that of `up`].")
@click.option("--days", type=click.IntRange(1, 365), default=7, show_default=True)
def invite(
    home: Path,
    person: str,
    address: str | None,
    server_port: int | None,
    enrolment_port: int | None,
    days: int,
) -> None:
    """Print an invitation for one device of a person: who has it may enrol as that person."""
    from datetime import UTC, datetime

    from tacitly_server.enrolment.invite import invite as make
    from tacitly_server.health import read_status
    from tacitly_server.home import ServerHome

    place = ServerHome(home)
    if server_port is None or enrolment_port is None:
        status = read_status(place)
        server_port = server_port or status.port
        enrolment_port = enrolment_port or status.enrolment_port
    invitation = make(
        place,
        person,
        address=address,
        server_port=server_port,
        enrolment_port=enrolment_port,
        days=days,
        now=datetime.now(UTC),
    )
    click.echo(invitation.to_json().decode(), nl=False)


@cli.command()
@_home
@click.argument("node_id", type=int)
def unregister(home: Path, node_id: int) -> None:
    """Shut a device out for ever; what its person has spent stays spent."""
    from tacitly_server.control import Control
    from tacitly_server.enrolment.registry import Ending, Registry
    from tacitly_server.health import read_status
    from tacitly_server.home import ServerHome
    from tacitly_server.ledger.place import database_of

    place = ServerHome(home)
    with (
        Registry(database_of(place)) as registry,
        Control.of(place, read_status(place).port) as control,
    ):
        registry.end(node_id, Ending.REVOKED)
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
def contract() -> None:
    """Begin the officers' log, and look at what it amounts to."""


@contract.command()
@_home
@click.option("--organisation", required=True, help="Who asks people to take part.")
@click.option(
    "--officer",
    "officers",
    multiple=True,
    required=True,
    metavar="NAME=KEY",
    help="A name and what `tacitly-officer key new` printed. At least three.",
)
@click.option("--policy", required=True, type=_file, help="As `tacitly-officer policy example`.")
def begin(home: Path, organisation: str, officers: tuple[str, ...], policy: Path) -> None:
    """Write the first entry of the officers' log, once and for good. Prints its hash."""
    from datetime import UTC, datetime

    from tacitly_server.campaigns.beginning import begin_log
    from tacitly_server.home import ServerHome

    begun = begin_log(
        ServerHome(home), organisation, officers, policy.read_bytes(), now=datetime.now(UTC)
    )
    click.echo(begun.genesis)
    click.echo("officers compare that hash; next: `tacitly-server up`", err=True)


@contract.command()
@_home
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table")
def show(home: Path, form: str) -> None:
    """Check the whole log, and show who may sign and what plans must keep to."""
    import msgspec

    from tacitly_server.campaigns.beginning import facts
    from tacitly_server.campaigns.officers_log import OfficersLog
    from tacitly_server.home import ServerHome

    found = facts(OfficersLog(ServerHome(home).officers_log).contract())
    if form == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    click.echo(f"{found.organisation}: {found.length} entries")
    click.echo(f"genesis    {found.genesis}\nhead       {found.head}")
    click.echo(f"grant key  {found.grant_key}")
    for officer in found.officers:
        click.echo(f"officer    {officer.name}\t{officer.public_key}\t{officer.standing}")
    for name, value in msgspec.to_builtins(found.policy).items():
        click.echo(f"policy     {name}\t{value}")


@cli.group()
def campaign() -> None:
    """Look at campaigns: officers decide on them (`tacitly-officer campaign`)."""


@campaign.command(name="list")
@_home
def list_(home: Path) -> None:
    """List the campaigns: hash, name, how it stands, released rounds of all."""
    from datetime import UTC, datetime

    from tacitly_server.campaigns.filing import list_campaigns
    from tacitly_server.campaigns.officers_log import OfficersLog
    from tacitly_server.home import ServerHome

    place = ServerHome(home)
    contract = OfficersLog(place.officers_log).contract()
    for name, state in list_campaigns(place, contract, now=datetime.now(UTC)).items():
        rounds = f"{state.progress.released_round}/{state.plan.rounds}"
        click.echo(f"{name}\t{state.plan.name}\t{state.standing}\t{rounds}")


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
