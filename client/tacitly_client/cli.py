"""`tacitly-agent`: what a person, or who installs for them, types on an endpoint.

Exit codes: docs/commands.md. Heavy imports are inside the commands: `--help` must answer at once.
"""

from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import click

from tacitly_client.assist.terminal import suggest
from tacitly_client.campaign_commands import campaigns, join, leave
from tacitly_client.consent_commands import consent
from tacitly_client.control_commands import (
    config,
    doctor,
    exclude,
    install_units,
    pause,
    resume,
)
from tacitly_client.model_commands import model
from tacitly_client.options import home_option
from tacitly_client.processing_record import processing_record
from tacitly_client.status import status
from tacitly_client.store_commands import erase, export, retention, show
from tacitly_common.command import confirm, run_command


@click.group()
def cli() -> None:
    """Keep your own events encrypted on this machine and take part in learning from them.

    Begin with `enrol INVITATION`, then `consent give` and `run`.
    """


def main() -> None:
    """Run the command."""
    run_command("tacitly-agent", cli)


@cli.command()
@home_option
@click.argument(
    "invitation", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=False)
)
@click.option(
    "--lifetime-epsilon",
    type=click.FloatRange(min=0, min_open=True),
    default=8.0,
    show_default=True,
    help="Your own ceiling over all campaigns, at the organisation's delta.",
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
@click.option(
    "--refresh-seconds",
    type=float,
    default=3_600.0,
    show_default=True,
    help="How often to ask what the officers have signed.",
)
@click.option(
    "--train-when",
    type=click.Choice(["idle", "always"]),
    default="idle",
    show_default=True,
    help="While nobody would notice, or whenever a round asks (machines that nobody sits at).",
)
def enrol(
    home: Path, invitation: Path, lifetime_epsilon: float, train_when: str, **timing: float
) -> None:
    """Set up this machine with INVITATION, a file.

    You were given it; whoever has it may use it once. Nothing is joined or captured yet.
    """
    from tacitly_client.enrolment import enrol as enrolled
    from tacitly_client.home import AgentHome, TrainWhen
    from tacitly_common.invitation import read_invitation

    contract = enrolled(
        AgentHome(home),
        read_invitation(invitation),
        lifetime_epsilon=lifetime_epsilon,
        now=datetime.now(UTC),
        train_when=TrainWhen(train_when),
        timing=timing,
    )
    officers = sum(officer.active for officer in contract.officers.values())
    click.echo(f"enrolled at {contract.organisation}, which has {officers} privacy officers")
    click.echo("`tacitly-agent campaigns` lists what you may take part in")
    click.echo("nothing is captured unless you agree: `tacitly-agent consent give`")


@cli.command()
@home_option
@click.option("--no-capture", is_flag=True, help="Start neither tray nor capture.")
def run(home: Path, no_capture: bool) -> None:
    """Run the agent, until Ctrl-C or SIGTERM ends it.

    It takes part in the campaign that you joined. On a desktop also the tray and, once you have
    consented, the capture of your own input.
    """
    import os

    from tacitly_client.consent import capture_consent
    from tacitly_client.daemon.supervisor import parts_for, supervise
    from tacitly_client.home import AgentHome, read_settings
    from tacitly_client.processes import log_to_stderr

    log_to_stderr()
    place, parts = AgentHome(home), parts_for(os.environ, capture=not no_capture)
    read_settings(place)
    click.echo(f"starting {', '.join(part.name for part in parts)}; Ctrl-C ends them")
    if no_capture:
        click.echo("nothing is captured: --no-capture")
    elif "capture" not in {part.name for part in parts}:
        click.echo("no desktop here (neither DISPLAY nor WAYLAND_DISPLAY): nothing is captured")
    elif why_not := capture_consent(place).why_not:
        click.echo(f"nothing is captured: {why_not}; `tacitly-agent consent give` asks you")
    else:
        click.echo("`tacitly-agent status` says what is captured")
    supervise(place, parts)


@cli.command("browser-install")
@home_option
def browser_install(home: Path) -> None:
    """Let your browsers tell which fields are secret.

    The extension does; this makes it known to them.
    """
    import sys

    from tacitly_client.browser_host import install

    program = str(Path(sys.argv[0]).resolve())
    for path in install(home, [program, "browser-host", "--home", str(home)], Path.home()):
        click.echo(f"wrote {path}")
    click.echo("now load the extension: see client/webextension/README.md")


@cli.command("browser-host", hidden=True)
@home_option
def browser_host(home: Path) -> None:
    """What a browser starts to speak to the agent; of no use to a person."""
    import os
    import sys

    from tacitly_client.browser_host import serve
    from tacitly_client.capture.clock import SystemClock
    from tacitly_client.home import AgentHome

    serve(sys.stdin.buffer, AgentHome(home).browsers, os.getppid(), SystemClock())


@cli.command()
@home_option
@click.argument("recording", type=click.File("rb"))
def replay(home: Path, recording: BinaryIO) -> None:
    """Fill the store from RECORDING, JSON lines of events.

    "-" is the standard input.
    """
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


@cli.group()
def ledger() -> None:
    """Check this machine's own record of what is spent."""


@ledger.command()
@home_option
def verify(home: Path) -> None:
    """Check the ledger against its journal. Names the place that does not fit, and exits with 5."""
    from tacitly_client.home import AgentHome
    from tacitly_client.ledger import verify as verified

    head = verified(AgentHome(home).ledger)
    click.echo(f"ok (entries: {head.counter}, head: {head.hash})")


@cli.command()
@home_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def withdraw(home: Path, yes: bool) -> None:
    """Leave for good.

    Withdraws all consent, tells the server, erases this machine's keys.
    What was spent stays spent. `consent withdraw` tells nobody.
    """
    from tacitly_client.enrolment import withdraw as withdrawn
    from tacitly_client.home import AgentHome, read_enrolment

    place = AgentHome(home)
    read_enrolment(place)
    if not yes:
        confirm("Leave for good? Coming back takes a new invitation.", "nothing has changed")
    withdrawn(place, now=datetime.now(UTC))
    click.echo("withdrawn; your events are still here, `tacitly-agent erase --all` removes them")


for command in (
    *(campaigns, consent, join, leave, model, processing_record, status, suggest),
    *(config, doctor, exclude, install_units, pause, resume),
    *(show, export, erase, retention),
):
    cli.add_command(command)
