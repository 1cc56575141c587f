"""`tacitly-agent show`, `export`, `erase` and `retention`: what is stored belongs to the person.

Each decodes events in a process that ends with the command and leaves no dump.
"""

import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from tacitly_client.options import Day, Duration, format_option, home_option
from tacitly_common.command import confirm

if TYPE_CHECKING:
    from tacitly_client.store import Damage, Erased, Span
    from tacitly_client.store.scan import Proof
    from tacitly_client.stored import Stored

_Command = Callable[..., None]
_SECOND_NS: Final = 10**9


def _span_options(command: _Command) -> _Command:
    """--day, --last and --app."""
    for option in (
        click.option("--app", metavar="NAME", help="This application's."),
        click.option("--last", type=Duration(), metavar="10m", help="Of the last 90s, 10m, 2h."),
        click.option(
            "--day", type=Day(), metavar="2026-11-23", help="Of this day; today and yesterday too."
        ),
    ):
        command = option(command)
    return command


@click.command()
@home_option
@_span_options
@click.option("--events", "each_event", is_flag=True, help="Every event, as it is stored.")
@format_option
def show(
    home: Path,
    day: datetime | None,
    last: int | None,
    app: str | None,
    each_event: bool,
    as_json: bool,
) -> None:
    """Show what is stored, and what was not kept.

    Counts by day and application, and by the rule; each event with --events.
    """
    import msgspec

    from tacitly_client.home import AgentHome
    from tacitly_client.processes import forbid_dumps
    from tacitly_client.show import print_json
    from tacitly_client.store import EventStore
    from tacitly_client.stored import count_stored, line_of, of_span

    forbid_dumps()
    span = _span(day, last, app)
    damages: list[Damage] = []
    with EventStore.open(AgentHome(home).store) as store:
        if each_event:
            events = of_span(store, span, damages.append)
            if as_json:
                print_json({"events": [msgspec.to_builtins(event) for event in events]})
            else:
                for event in events:
                    click.echo(line_of(event))
        else:
            stored = count_stored(store, span, damages.append)
            if as_json:
                print_json(msgspec.to_builtins(stored))
            else:
                _print(stored)
    _refuse_damage(damages)


@click.command()
@home_option
@_span_options
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def export(home: Path, day: datetime | None, last: int | None, app: str | None, file: Path) -> None:
    """Write stored events to FILE.

    A line of JSON each, and their JSON schema beside it.
    """
    from tacitly_client.home import AgentHome
    from tacitly_client.processes import forbid_dumps
    from tacitly_client.store import EventStore
    from tacitly_client.stored import export as exported
    from tacitly_client.stored import of_span

    forbid_dumps()
    damages: list[Damage] = []
    with EventStore.open(AgentHome(home).store) as store:
        events = of_span(store, _span(day, last, app), damages.append)
        count = exported(events, file)
    click.echo(f"wrote {count} events to {file}")
    click.echo("They are in the clear there, and `tacitly-agent erase` does not reach that file.")
    _refuse_damage(damages)


@click.command()
@home_option
@click.option("--all", "everything", is_flag=True, help="Every event.")
@_span_options
@click.option("--yes", is_flag=True, help="Do not ask.")
@format_option
def erase(
    home: Path,
    everything: bool,
    day: datetime | None,
    last: int | None,
    app: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Erase stored events for good, and prove it.

    Every file is read afterwards to see whether anything of them is left.
    What has been spent of the budget stays spent.
    """
    from tacitly_client.home import AgentHome
    from tacitly_client.processes import forbid_dumps
    from tacitly_client.store import EventStore, Span
    from tacitly_client.store.scan import prove

    if sum((everything, day is not None, last is not None, app is not None)) != 1:
        raise click.UsageError("say what: --all, --day 2026-11-23, --last 10m or --app NAME")
    if not yes:
        confirm(_question(day, last, app), "nothing was erased")
    forbid_dumps()
    place = AgentHome(home)
    span, now_ns = _span(day, last, app), time.time_ns()
    with EventStore.open(place.store) as store:
        erased = store.erase(span.since_ns, span.until_ns, app=span.app)
        # What happens from now on is another matter.
        until_ns = now_ns if span.until_ns is None else min(now_ns, span.until_ns)
        gone = Span(span.since_ns, until_ns, span.app)
        proof = prove(place.root, store, gone, erased.traces)
        protection = store.protection
    if as_json:
        _print_erased_json(erased, proof)
    else:
        _print_erased(place.root, erased, proof, protection)
    _refuse_unproven(proof)


@click.command()
@home_option
@click.option("--days", type=click.IntRange(1), help="Keep no day's events longer than this.")
@click.option("--megabytes", type=click.IntRange(1), help="Beyond this the oldest events go.")
@click.option(
    "--after-training/--not-after-training",
    "after_training",
    default=None,
    help="Whether a day goes as soon as a campaign has learned from it.",
)
@format_option
def retention(
    home: Path,
    days: int | None,
    megabytes: int | None,
    after_training: bool | None,
    as_json: bool,
) -> None:
    """Show, and change, how long events are kept."""
    import msgspec

    from tacitly_client.home import AgentHome
    from tacitly_client.show import print_json
    from tacitly_client.store import EventStore, expire

    place = AgentHome(home)
    wanted: dict[str, Any] = {
        "cap_days": days,
        "max_bytes": None if megabytes is None else megabytes * 2**20,
        "delete_after_training": after_training,
    }
    changes = {name: value for name, value in wanted.items() if value is not None}
    with EventStore.open(place.store) as store:
        if changes:
            store.set_retention(msgspec.structs.replace(store.retention, **changes))
            expire(place.store)
        policy = store.retention
    if as_json:
        print_json(msgspec.to_builtins(policy))
    else:
        click.echo(policy.in_words())


def _span(day: datetime | None, last_seconds: int | None, app: str | None) -> "Span":
    """What lies in all that was given."""
    from tacitly_client.store import Span
    from tacitly_client.store.days import local_bounds_ns

    since_ns, until_ns = (None, None) if day is None else local_bounds_ns(day.date())
    if last_seconds is not None:
        recent_ns = time.time_ns() - last_seconds * _SECOND_NS
        since_ns = recent_ns if since_ns is None else max(since_ns, recent_ns)
    return Span(since_ns, until_ns, app)


def _question(day: datetime | None, last_seconds: int | None, app: str | None) -> str:
    if day is not None:
        return f"Erase every event of {day:%Y-%m-%d} that is stored on this machine?"
    if last_seconds is not None:
        since = datetime.now().astimezone() - timedelta(seconds=last_seconds)
        return f"Erase every event since {since:%Y-%m-%d %H:%M:%S} that is stored on this machine?"
    if app is not None:
        return f"Erase every event of {app} that is stored on this machine?"
    return "Erase every event stored on this machine?"


def _print(stored: "Stored") -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from tacitly_client.stored import printable

    # No upright lines: the fonts of windows leave gaps in them.
    table, unkept = Table(box=SIMPLE, pad_edge=False), Table(box=SIMPLE, pad_edge=False)
    for heading in ("day", "application"):
        table.add_column(heading, overflow="fold")
    for heading in ("events", "keys among them"):
        table.add_column(heading, justify="right")
    for heading in ("day", "rule"):
        unkept.add_column(heading, overflow="fold")
    unkept.add_column("keys not kept", justify="right")
    for of_day in stored.days:
        for each in of_day.applications:
            name = Text(printable(each.app) or "(unknown)")
            table.add_row(str(of_day.day), name, str(each.events), str(each.keys))
        for rule, count in sorted(of_day.not_kept.items()):
            unkept.add_row(str(of_day.day), Text(rule), str(count))
    console = Console()
    if table.row_count:
        console.print(f"events stored: {stored.events:,} ({stored.size_bytes:,} bytes)")
        console.print(table)
    else:
        console.print("nothing is stored")
    if unkept.row_count:
        console.print(unkept)
    console.print(f"kept: {stored.retention.in_words()}", soft_wrap=True)
    console.print(f"key:  {stored.key}", soft_wrap=True)


def _print_erased(root: Path, erased: "Erased", proof: "Proof", protection: str) -> None:
    if erased.events == 0:
        click.echo("nothing of that was stored; `tacitly-agent show` says what is")
    else:
        click.echo(f"erased {erased.events} events from {erased.segments} file(s)")
    click.echo("The key that opened them was replaced and destroyed; what stays has a new one.")
    if proof.holds:
        click.echo(
            f"Looked through {proof.files} files ({proof.size_bytes:,} bytes) below {root}: none "
            "of it found, in the clear or sealed, nor the old key."
        )
    click.echo("Not looked through: free blocks of the disk, backups, other folders.")
    click.echo(f"The key is {protection}.")


def _print_erased_json(erased: "Erased", proof: "Proof") -> None:
    from tacitly_client.show import print_json

    print_json(
        {
            "events": erased.events,
            "segments": erased.segments,
            "proof": {
                "holds": proof.holds,
                "files": proof.files,
                "size_bytes": proof.size_bytes,
                "found": [str(path) for path in proof.found],
                "keys_left": list(proof.keys_left),
                "segments_left": [str(path) for path in proof.segments_left],
                "events_left": proof.events_left,
            },
        }
    )


def _refuse_unproven(proof: "Proof") -> None:
    from tacitly_client.store import StoreError

    if proof.holds:
        return
    places = [*map(str, proof.found), *map(str, proof.segments_left), *proof.keys_left]
    left = f", and the store still gives {proof.events_left} of them" if proof.events_left else ""
    raise StoreError(
        f"traces of what was erased are still in {'; '.join(places) or 'no file'}{left}; remove "
        "those files, or erase again"
    )


def _refuse_damage(damages: "Iterable[Damage]") -> None:
    from tacitly_client.store import StoreError

    found = list(damages)
    if found:
        raise StoreError(
            f"{len(found)} part(s) of the store cannot be read and are left out; restore the file "
            f"from a backup if you have one: {found[0]}"
        )
