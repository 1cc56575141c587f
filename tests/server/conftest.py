"""The ledger's two databases: a suite that asks for `books` runs on each."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ledgers import Books
from postgres import Cluster, cluster


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    """A private PostgreSQL; skipped, or failed, where it is not installed."""
    with cluster() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def books(request: pytest.FixtureRequest, tmp_path: Path) -> Books:
    """A new ledger, not yet opened."""
    if request.param == "sqlite":
        return Books(tmp_path / "population.db", tmp_path)
    running: Cluster = request.getfixturevalue("postgresql")
    return Books(running.new_database(), tmp_path)
