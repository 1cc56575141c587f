"""`tacitly-agent pause`, `resume`, `exclude`, `doctor`, `config`, `install-units`: what a person
needs with or without a running agent.

They write the files that the agent's processes read; none asks a process.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tacitly_client.options import Duration, format_option, home_option

if TYPE_CHECKING:
    from tacitly_client.home import AgentHome


@click.command()
@home_option
@click.option("--for", "seconds", type=Duration(), metavar="1h", help="90s, 10m, 2h or 7d.")
def pause(home: Path, seconds: int | None) -> None:
    """Capture nothing and train nothing for a time.

    Without --for until `resume`.
    """
    from tacitly_client.capture.clock import SystemClock
    from tacitly_client.pause import pause as paused

    paused(_set_up(home), SystemClock(), seconds)
    _tell(home)


@click.command()
@home_option
def resume(home: Path) -> None:
    """End any pause. What you have not consented to is still not captured."""
    from tacitly_client.capture.clock import SystemClock
    from tacitly_client.pause import resume as resumed

    resumed(_set_up(home), SystemClock())
    _tell(home)


@click.command()
@home_option
@click.argument("application")
@click.option("--remove", is_flag=True, help="Take the exclusion back.")
def exclude(home: Path, application: str, remove: bool) -> None:
    """Store and count nothing of APPLICATION from now on.

    It need not have been seen yet.
    """
    from tacitly_client.choices import exclude as excluded
    from tacitly_client.choices import include

    choices = (include if remove else excluded)(_set_up(home), application)
    click.echo(f"excluded: {', '.join(sorted(choices.excluded)) or 'none'}")
    if not remove:
        name = application.strip().lower()
        click.echo(f"what is stored of it already: `tacitly-agent erase --app {name}` removes it")


@click.command()
@home_option
@format_option
@click.pass_context
def doctor(context: click.Context, home: Path, as_json: bool) -> None:
    """Find what is amiss, and say what mends it.

    Exits with 1 if there is a problem.
    """
    import os

    from tacitly_client.capture.clock import SystemClock
    from tacitly_client.doctor import Health, Place, examine
    from tacitly_client.home import AgentHome

    findings = examine(Place(AgentHome(home), os.environ, SystemClock(), Path.home()))
    if as_json:
        from tacitly_client.show import print_json

        shown = {
            name: {"health": each.health.value, "found": each.found, "fix": each.fix}
            for name, each in findings.items()
        }
        print_json({"checks": shown})
    else:
        for name, each in findings.items():
            click.echo(f"{name:<14} {each.health.value:<8} {each.found}")
            if each.fix:
                click.echo(f"{'':<23} -> {each.fix}")
    context.exit(any(each.health is Health.PROBLEM for each in findings.values()))


@click.group()
def config() -> None:
    """Show the settings that are in force."""


@config.command("show")
@home_option
@format_option
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
def show_config(home: Path, as_json: bool, origin: bool) -> None:
    """Show every setting that is in force."""
    from tacitly_client.effective import effective_settings

    settings = effective_settings(_set_up(home))
    if as_json:
        from tacitly_client.show import print_json

        print_json(
            {
                "settings": {
                    each.name: {"value": each.value, "origin": each.origin}
                    if origin
                    else each.value
                    for each in settings
                }
            }
        )
        return
    name_width = max(len(each.name) for each in settings)
    width = max(len(each.shown) for each in settings) if origin else 0
    for each in settings:
        where = f"  ({each.origin})" if origin else ""
        click.echo(f"{each.name:<{name_width}}  {each.shown:<{width}}{where}")


@click.command("install-units")
@home_option
@click.option(
    "--by",
    type=click.Choice(["systemd", "desktop"]),
    help="Who starts the agent at login; systemd where it is there.",
)
def install_units(home: Path, by: str | None) -> None:
    """Have the agent started at each login. Without your consent it captures nothing."""
    from platformdirs import user_config_path

    from tacitly_client.units import install_autostart
    from tacitly_client.units import install_units as installed

    place, config = _set_up(home), user_config_path()
    by = by or ("systemd" if Path("/run/systemd/system").is_dir() else "desktop")
    if by == "desktop":
        click.echo(f"wrote {install_autostart(place, config)}")
        click.echo("the agent starts at your next login; now: `tacitly-agent run`")
        return
    names = []
    for path in installed(place, config):
        names.append(path.name)
        click.echo(f"wrote {path}")
    click.echo("to start it, now and at each login:")
    click.echo("  systemctl --user daemon-reload")
    click.echo(f"  systemctl --user enable --now {' '.join(names)}")


def _set_up(home: Path) -> "AgentHome":
    """The home of an enrolled agent.

    Raises:
        ValidationError: there is none, so nothing to pause or exclude.
    """
    from tacitly_client.home import AgentHome, read_settings

    place = AgentHome(home)
    read_settings(place)
    return place


def _tell(home: Path) -> None:
    from tacitly_client.capture.clock import SystemClock
    from tacitly_client.home import AgentHome
    from tacitly_client.now import read_now

    click.echo(f"capture: {read_now(AgentHome(home), SystemClock()).headline}")
