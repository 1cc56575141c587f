"""A population ledger for tests: its witness and key lie beside it, or in a directory given."""

from pathlib import Path

from tacitly_server.ledger.population import PopulationLedger
from tacitly_server.ledger.witness import Witness, create_key

# The data's month of everything that tests charge, unless they care.
MONTH = ("2026-01",)


def witness_in(directory: Path) -> Witness:
    """The witness in a directory; its key is made if missing."""
    key_file = directory / "ledger.key"
    if not key_file.exists():
        create_key(key_file)
    return Witness.open(directory / "ledger-witness.jsonl", key_file)


def open_ledger(path: Path) -> PopulationLedger:
    """The ledger of a SQLite file, with its witness, for writing."""
    return PopulationLedger(path, witness_in(path.parent))
