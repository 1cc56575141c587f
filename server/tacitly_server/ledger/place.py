"""Where a server keeps its ledger: in its home, unless `ledger.json` there says otherwise.

    {"database": "postgresql://tacitly@/tacitly", "witness": "/other/disk/ledger-witness.jsonl"}

Either field may be missing. The file may hold a password: 0600.
"""

from pathlib import Path

import msgspec

from tacitly_common.errors import UNDECODABLE, ValidationError
from tacitly_server.home import ServerHome
from tacitly_server.ledger.population import PopulationLedger
from tacitly_server.ledger.witness import Witness
from tacitly_server.private_files import read_private


class LedgerPlace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `ledger.json`; None is the place in the home."""

    database: str | None = None
    witness: str | None = None


def database_of(home: ServerHome) -> Path | str:
    """The path or URL of the population database.

    Raises:
        ValidationError: `ledger.json` cannot be understood, or others can read it.
    """
    return _place(home).database or home.population_database


def witness_of(home: ServerHome) -> Witness:
    """The witness, with the key that signs.

    Raises:
        ValidationError: as `database_of`, or there is no key.
    """
    given = _place(home).witness
    path = home.ledger_witness if given is None else Path(given)
    return Witness.open(path, home.ledger_key)


def open_ledger(home: ServerHome) -> PopulationLedger:
    """The ledger, for writing.

    Raises:
        LedgerError, ValidationError: as `PopulationLedger` and `witness_of`.
    """
    return PopulationLedger(database_of(home), witness_of(home))


def _place(home: ServerHome) -> LedgerPlace:
    if not home.ledger_place.exists():
        return LedgerPlace()
    try:
        return msgspec.json.decode(read_private(home.ledger_place), type=LedgerPlace)
    except UNDECODABLE as error:
        raise ValidationError(f"{home.ledger_place}: {error}; see docs/ledger.md") from error
