"""`tacitly-sim`: what an evaluator types.

Exit codes: 0 ok, 1 unexpected, 2 usage or bad input. Heavy imports are inside the commands:
`--help` must answer at once.
"""

import sys
from pathlib import Path

import click

from tacitly_common.errors import TacitlyError


@click.group()
def cli() -> None:
    """Evaluate learning and privacy on recorded or synthetic people, on this machine."""


def main() -> None:
    """Run the command; a deliberate error becomes one line and its exit code."""
    try:
        cli()
    except TacitlyError as error:
        click.echo(f"tacitly-sim: {error}", err=True)
        sys.exit(error.exit_code)


@cli.command()
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of the CoAuthor recordings [default: synthetic typists, made on the spot].",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("out/demo"),
    show_default=True,
    help="Where the deployment lives and the report is written; emptied first.",
)
@click.option("--agents", type=click.IntRange(min=8), default=8, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=8, show_default=True)
def demo(data_dir: Path | None, out: Path, agents: int, rounds: int) -> None:
    """Run a real deployment on this machine: server, agents, budgets, report."""
    from tacitly_simulations.demo.demo import run_demo

    run_demo(out, data_dir=data_dir, agents=agents, rounds=rounds)
