"""`tacitly-officer ledger`: read, check and export the population ledger. Changes nothing."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tacitly_server.officer.output import (
    POSITIVE,
    delta_text,
    emit,
    epsilon_text,
    facts,
    format_option,
    table,
)
from tacitly_server.officer.place import home_option

if TYPE_CHECKING:
    from rich.console import Console

# How many problems are shown in a table; the document has them all.
_SHOWN_PROBLEMS = 20


@click.group()
def ledger() -> None:
    """Read, check and export the ledger."""


@ledger.command()
@home_option
@click.option("--delta", type=POSITIVE, default=1e-6, show_default=True, help="For ε.")
@format_option
def show(home: Path, delta: float, form: str) -> None:
    """Show each campaign's attempts and the head of the journal."""
    from tacitly_common.accounting.subject import shown_epsilon
    from tacitly_server.home import ServerHome
    from tacitly_server.ledger.overview import overview
    from tacitly_server.ledger.place import database_of

    found = overview(database_of(ServerHome(home)))
    document = {"entries": found.entries, "head": found.head, "campaigns": found.campaigns}

    def drawn(console: "Console") -> None:
        console.print(facts("Journal", {"entries": f"{found.entries:,}", "head": found.head}))
        console.print(
            table(
                f"Attempts by campaign (ε of the worst person at δ {delta_text(delta)})",
                {
                    "campaign": "left",
                    "released": "right",
                    "lost": "right",
                    "open": "right",
                    "void": "right",
                    "ε": "right",
                },
                (
                    (
                        f"{one.plan_hash[:16]}",
                        f"{one.released:,}",
                        f"{one.lost:,}",
                        f"{one.unfinished:,}",
                        f"{one.void:,}",
                        epsilon_text(shown_epsilon(one.largest_spent_nano_rho, delta)),
                    )
                    for one in found.campaigns
                ),
            )
        )

    emit(document, form, drawn)


@ledger.command()
@home_option
@click.option(
    "--public-key",
    "public_keys",
    multiple=True,
    help="64 hex digits, kept elsewhere; may be given again [default: ledger.pub of the home].",
)
@format_option
def verify(home: Path, public_keys: tuple[str, ...], form: str) -> None:
    """Replay the whole ledger and hold it against its witness; exit code 5 names the place.

    For an export, on a machine without Tacitly: python verify_ledger.py.
    """
    from tacitly_common.errors import LedgerError
    from tacitly_server.home import ServerHome
    from tacitly_server.ledger.export import verify_database
    from tacitly_server.ledger.place import database_of, witness_of

    place = ServerHome(home)
    where, last = database_of(place), witness_of(place).last()
    keys = public_keys or (place.ledger_public_key.read_text().strip(),)
    witnessed = None if last is None or last.checkpoint.sequence == 0 else last.checkpoint
    problems = verify_database(where, keys, witnessed)
    document = {
        "in_order": not problems,
        "public_keys": keys,
        "witnessed_entry": None if witnessed is None else witnessed.sequence,
        "problems": problems,
    }

    def drawn(console: "Console") -> None:
        for problem in problems[:_SHOWN_PROBLEMS]:
            console.print(problem, style="bold red")
        if not problems:
            upto = "nothing" if witnessed is None else f"entry {witnessed.sequence}"
            console.print(f"The ledger is in order; witnessed up to {upto}.")

    emit(document, form, drawn)
    if problems:
        raise LedgerError(
            f"{len(problems)} problems in the ledger, the first: {problems[0]}; stop the server, "
            "keep the files as they are and restore from a backup"
        )


@ledger.command()
@home_option
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="A new file."
)
@format_option
def export(home: Path, out: Path, form: str) -> None:
    """Write the whole ledger to a new file that an auditor can check alone.

    It names people by their HMAC: personal data, to be handled as such.
    """
    from tacitly_server.home import ServerHome
    from tacitly_server.ledger import export as exporting
    from tacitly_server.ledger.place import database_of

    records = exporting.export(database_of(ServerHome(home)), out)
    document = {"file": str(out), "records": records}

    def drawn(console: "Console") -> None:
        console.print(f"{records:,} records in {out}", soft_wrap=True)

    emit(document, form, drawn)
