"""`tacitly-server ledger`: what an operator does with the population ledger."""

from pathlib import Path

import click

from tacitly_server import options


@click.group()
def ledger() -> None:
    """Back up the population ledger, put a backup back, and charge what it lacks."""


@ledger.command()
@options.home
@click.argument("file", type=click.Path(path_type=Path))
def backup(home: Path, file: Path) -> None:
    """Copy the ledger to FILE, which must be new; the server may run."""
    from tacitly_server.home import ServerHome
    from tacitly_server.ledger.backup import backup as copy
    from tacitly_server.ledger.place import database_of, witness_of

    place = ServerHome(home)
    copy(database_of(place), file, witness_of(place))
    click.echo(f"written to {file}")


@ledger.command()
@options.home
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def restore(home: Path, file: Path) -> None:
    """Make the backup in FILE the ledger; stop the server first."""
    from tacitly_server.home import ServerHome
    from tacitly_server.ledger.backup import restore as put_back
    from tacitly_server.ledger.place import database_of, witness_of

    place = ServerHome(home)
    if put_back(file, database_of(place), witness_of(place)):
        click.echo("restored; nothing was charged since the backup")
    else:
        click.echo("restored; run `tacitly-server ledger reconcile`: more was charged since then")


@ledger.command()
@options.home
@click.option(
    "--witness-lost",
    is_flag=True,
    help="The witness is gone for good and this ledger is the newest: begin a new witness.",
)
def reconcile(home: Path, witness_lost: bool) -> None:
    """Charge what the witness saw charged and the ledger does not hold."""
    from tacitly_server.home import ServerHome
    from tacitly_server.ledger.backup import reconcile as charge_gap
    from tacitly_server.ledger.place import database_of, witness_of

    place = ServerHome(home)
    charged = charge_gap(database_of(place), witness_of(place), witness_lost=witness_lost)
    click.echo(f"{charged} attempts charged; the ledger and its witness agree")
