"""`make bench`: everything measured in one run, as a table and as JSON."""

import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import click
from rich.console import Console

from tacitly_common.errors import TacitlyError


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("out/bench.json"),
    show_default=True,
)
@click.option("--rounds", default=6, show_default=True, type=click.IntRange(3))
@click.option("--idle-seconds", default=45.0, show_default=True, type=click.FloatRange(5))
@click.option("--repetitions", default=10, show_default=True, type=click.IntRange(1))
def bench(out: Path, rounds: int, idle_seconds: float, repetitions: int) -> None:
    """Measure rounds beside stock Flower, steps beside Opacus, and masking beside SecAgg+."""
    from tacitly_simulations.bench.masking import measure_masking, show_masking
    from tacitly_simulations.bench.report import show, write_json
    from tacitly_simulations.bench.rounds import measure_rounds
    from tacitly_simulations.bench.training import measure

    # Opacus's hooks sit on a module whose input is tokens, which have no gradient.
    warnings.filterwarnings("ignore", message="Full backward hook is firing")
    # As wide as the table, also where there is no terminal.
    console = Console(highlight=False, width=110)
    before = os.getloadavg()[0]
    directory = Path(tempfile.mkdtemp(prefix="tacitly-bench-"))
    rows = measure_rounds(directory, rounds=rounds, idle_seconds=idle_seconds, report=console.print)
    # Kept when something failed: the logs are in there.
    shutil.rmtree(directory)
    console.print("training steps")
    timing = measure(repetitions)
    masking = measure_masking(console.print)
    show(console, rows, timing)
    show_masking(console, masking)
    write_json(out, rows, timing, masking, loads=(before, os.getloadavg()[0]))
    console.print(f"written to {out}")


def main() -> None:
    """Run the command; a deliberate error becomes one line and its exit code."""
    try:
        bench()
    except TacitlyError as error:
        click.echo(f"bench: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
