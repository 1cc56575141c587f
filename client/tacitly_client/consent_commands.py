"""`tacitly-agent consent`: be asked, see what you agreed to, take it back."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from tacitly_client.options import format_option, home_option
from tacitly_common.command import confirm

if TYPE_CHECKING:
    from tacitly_client.consent import Receipt
    from tacitly_client.redaction import ContentLevel


@click.group()
def consent() -> None:
    """Agree to capture or not; see it, withdraw it."""


def _level(
    _context: click.Context, _option: click.Parameter, value: str | None
) -> "ContentLevel | None":
    from tacitly_client.redaction import ContentLevel

    return ContentLevel(value) if value else None


def _levels(
    _context: click.Context, _option: click.Parameter, values: tuple[str, ...]
) -> "dict[str, ContentLevel]":
    from tacitly_client.redaction import ContentLevel

    named = {}
    for value in values:
        app, _, level = value.rpartition("=")
        if not app.strip() or level not in set(ContentLevel):
            raise click.BadParameter(
                f"{value!r} is not APPLICATION=LEVEL with a level of {', '.join(ContentLevel)}"
            )
        named[app.strip().lower()] = ContentLevel(level)
    return named


@consent.command("give")
@home_option
@click.option(
    "--language",
    type=click.Choice(["en", "de"]),
    help="The notice's language; your desktop's if not given.",
)
@click.option(
    "--level",
    type=click.Choice(["counts", "classes"]),
    callback=_level,
    help="How much is stored of applications that you do not name; at first: classes.",
)
@click.option(
    "--application",
    "applications",
    multiple=True,
    callback=_levels,
    metavar="APPLICATION=LEVEL",
    help="How much is stored of this one; may be given again.",
)
@click.option("--yes", is_flag=True, help="Agree to what is shown, without being asked.")
def give(
    home: Path,
    language: str | None,
    level: "ContentLevel | None",
    applications: "dict[str, ContentLevel]",
    yes: bool,
) -> None:
    """Read the notice; agree to capture, or do not."""
    from tacitly_client.asking import agree, capture_asked, chosen_in_words
    from tacitly_client.home import AgentHome
    from tacitly_client.notice import Language, desktop_language, words

    place = AgentHome(home)
    spoken = Language(language) if language else desktop_language(os.environ)
    said = words(spoken)
    asked = capture_asked(place, spoken, level=level, applications=applications)
    click.echo(f"{asked.text}\n{chosen_in_words(asked)}")
    if not yes:
        confirm(said.question, said.refused, yes=said.yes)
    agree(place, asked, now=datetime.now(UTC))
    click.echo(said.agreed)


@consent.command()
@home_option
@format_option
def show(home: Path, as_json: bool) -> None:
    """Show what you agreed to, when, and whether it stands."""
    from tacitly_client.consent import capture_consent, read_receipts
    from tacitly_client.home import AgentHome
    from tacitly_client.show import print_json

    place = AgentHome(home)
    receipts, now = read_receipts(place), capture_consent(place)
    if as_json:
        document = {"stands": now.receipt is not None, "why_not": now.why_not}
        print_json({"capture": document, "receipts": msgspec.to_builtins(receipts)})
        return
    for receipt in receipts:
        click.echo(_in_words(receipt))
        click.echo(f"    you read {place.notices / receipt.notice_sha256}.txt")
    if now.receipt is not None:
        click.echo("consent to capture stands")
    else:
        click.echo(f"nothing may be captured: {now.why_not}")


@consent.command()
@home_option
def withdraw(home: Path) -> None:
    """Take back all consent, at once: capture and campaigns. Needs no network."""
    from tacitly_client.consent import withdraw as withdrawn
    from tacitly_client.home import AgentHome

    withdrawn(AgentHome(home), now=datetime.now(UTC))
    click.echo("withdrawn: nothing is captured, no campaign is answered")
    click.echo("what is stored stays until it expires; `tacitly-agent erase` removes it now")


def _in_words(receipt: "Receipt") -> str:
    at = receipt.given_at or receipt.withdrawn_at
    did = "agreed to" if receipt.stands else "withdrew"
    what = f"campaign {receipt.plan_hash[:16]}" if receipt.plan_hash else "capture"
    levels = {"default": receipt.level} if receipt.level else {}
    kept = ", ".join(f"{app}: {level}" for app, level in (levels | receipt.applications).items())
    purposes = ", ".join(receipt.purposes)
    return f"{at:%Y-%m-%d %H:%M} UTC  {did} {what} for {purposes}" + (f" ({kept})" if kept else "")
