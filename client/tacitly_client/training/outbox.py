"""Noised results that have been paid for, kept to be sent again byte for byte.

A result is there whole or not at all, whatever moment a crash or a full disk picks.
"""

from pathlib import Path

from tacitly_client.files import PARTIAL_SUFFIX, write_whole
from tacitly_client.ledger import AttemptKey


class Outbox:
    """The directory of results, one file for each attempt."""

    def __init__(self, directory: Path) -> None:
        """Open or make the directory.

        Raises:
            OSError: it cannot be made.
        """
        self._directory = directory
        directory.mkdir(mode=0o700, exist_ok=True)

    def read(self, key: AttemptKey) -> bytes | None:
        """The result of an attempt, None if there is none."""
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, key: AttemptKey, result: bytes) -> None:
        """Keep a result; durable on return.

        Raises:
            OSError: it could not be written; there is no result then.
        """
        write_whole(self._path(key), result)

    def drop_other_plans(self, plan_hash: str) -> None:
        """Remove what nobody can ask for any more, and what a crash left half written."""
        for path in self._directory.iterdir():
            if path.suffix == PARTIAL_SUFFIX or not path.name.startswith(f"{plan_hash}-"):
                path.unlink()

    def _path(self, key: AttemptKey) -> Path:
        return self._directory / f"{key.plan_hash}-{key.round}-{key.attempt}.update"
