"""Population ledgers for tests: a database, and a directory with its witness and key."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import text

from tacitly_common.accounting.caps import Caps
from tacitly_server.ledger.database import open_database, writing
from tacitly_server.ledger.export import verify_database
from tacitly_server.ledger.population import AttemptKey, AttemptState, PopulationLedger
from tacitly_server.ledger.witness import Witness, create_key

PLAN = "a" * 64
OTHER_PLAN = "b" * 64
RESULT = "e" * 64
SUBJECTS = [f"{i:064x}" for i in range(5)]
MONTH = ("2026-01",)
TWO_MONTHS = ("2026-01", "2026-02")


def caps(lifetime: int = 10**9, epoch: int = 10**9, campaign: int = 30) -> Caps:
    """Of which only the campaign's binds, unless a test says otherwise."""
    return Caps(lifetime, epoch, campaign)


def witness_in(directory: Path) -> Witness:
    """The witness in a directory; its key is made if missing."""
    key_file = directory / "ledger.key"
    if not key_file.exists():
        create_key(key_file)
    return Witness.open(directory / "ledger-witness.jsonl", key_file)


def open_ledger(path: Path) -> PopulationLedger:
    """The ledger of a SQLite file, with its witness beside it, for writing."""
    return PopulationLedger(path, witness_in(path.parent))


@dataclass(frozen=True)
class Books:
    """A ledger that can be opened again and again, also by another process."""

    where: Path | str
    directory: Path

    @property
    def witness(self) -> Witness:
        return witness_in(self.directory)

    def open(self) -> PopulationLedger:
        return PopulationLedger(self.where, self.witness)

    def problems(self) -> list[str]:
        """What an auditor finds who also has the witness."""
        last = self.witness.last()
        checkpoint = last.checkpoint if last and last.checkpoint.sequence else None
        return verify_database(self.where, [self.witness.public_key], checkpoint)

    def tamper(self, statement: str, **parameters: Any) -> None:
        """Change the database behind the ledger's back."""
        engine = open_database(self.where)
        with writing(engine) as connection:
            connection.execute(text(statement), parameters)
        engine.dispose()


def charge(
    ledger: PopulationLedger,
    key: AttemptKey,
    subjects: list[str] = SUBJECTS,
    *,
    cost: int = 10,
    cap: int = 30,
    epochs: tuple[str, ...] = MONTH,
    limits: Caps | None = None,
) -> bool:
    """Charge with what most tests need."""
    return ledger.charge(
        key, subjects, epochs=epochs, cost_nano_rho=cost, caps=limits or caps(campaign=cap)
    )


def finish(ledger: PopulationLedger, key: AttemptKey, state: AttemptState) -> None:
    """Mark, with a result where one is needed."""
    result = RESULT if state is AttemptState.RELEASED else None
    ledger.mark(key, state, result_sha256=result)
