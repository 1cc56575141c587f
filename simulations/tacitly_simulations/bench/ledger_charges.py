"""How long a charge of 1,000 devices takes: `python -m tacitly_simulations.bench.ledger_charges`.

Durable on the disk that holds the temporary folder, witness and signature included. The first and
the last charges stand beside each other: history must not show.
"""

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Final

import click

from tacitly_common.accounting.caps import Caps
from tacitly_server.ledger.population import AttemptState, PopulationLedger
from tacitly_server.ledger.witness import Witness, create_key

_PLAN: Final = "a" * 64
_WINDOW: Final = 20
_UNLIMITED: Final = Caps(2**62, 2**62, 2**62)


def charge_seconds(where: Path | str, directory: Path, devices: int, charges: int) -> list[float]:
    """The seconds of each of so many charges of all devices on a new ledger, one month each."""
    create_key(directory / "ledger.key")
    witness = Witness.open(directory / "ledger-witness.jsonl", directory / "ledger.key")
    subjects = [f"{device:064x}" for device in range(devices)]
    taken = []
    with PopulationLedger(where, witness) as ledger:
        for number in range(1, charges + 1):
            key = ledger.plan(_PLAN, number)
            began = time.perf_counter()
            ledger.charge(key, subjects, epochs=("2026-01",), cost_nano_rho=1, caps=_UNLIMITED)
            taken.append(time.perf_counter() - began)
            ledger.mark(key, AttemptState.LOST)
    return taken


@click.command()
@click.option("--devices", default=1_000, show_default=True, type=click.IntRange(1))
@click.option("--charges", default=500, show_default=True, type=click.IntRange(2 * _WINDOW))
@click.option("--database", help="URL of an empty PostgreSQL database [default: a SQLite file].")
def main(devices: int, charges: int, database: str | None) -> None:
    """Charge all devices again and again, and compare the last charges with the first."""
    with tempfile.TemporaryDirectory(prefix="tacitly-charges-") as folder:
        directory = Path(folder)
        taken = charge_seconds(database or directory / "population.db", directory, devices, charges)
    first, last = (1_000 * median(part) for part in (taken[:_WINDOW], taken[-_WINDOW:]))
    click.echo(
        f"{devices} devices: {first:.0f} ms a charge at first, {last:.0f} ms after {charges} "
        f"charges (medians of {_WINDOW}; fastest {1_000 * min(taken):.0f} ms)"
    )


if __name__ == "__main__":
    main()
