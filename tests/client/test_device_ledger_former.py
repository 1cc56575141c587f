"""A ledger of the first form is brought to this form, and what it had spent stays spent."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from device_ledgers import COST, caps, charge, limits
from tacitly_client.ledger import AttemptKey, AttemptState, DeviceLedger, verify
from tacitly_client.ledger import former as former_module
from tacitly_common.accounting.record import compose, rdp_of_steps
from tacitly_common.errors import BudgetExceededError, LedgerError, TooSoonError

# What the code of the first form ran, statement by statement.
FIRST_FORM = """
CREATE TABLE IF NOT EXISTS charge (
    plan_hash TEXT NOT NULL,
    round INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    cost_nano_rho INTEGER NOT NULL CHECK (cost_nano_rho > 0),
    state TEXT NOT NULL CHECK (state IN ('charged', 'released', 'lost')),
    PRIMARY KEY (plan_hash, round, attempt)
) STRICT;
CREATE TABLE IF NOT EXISTS record_history (
    plan_hash TEXT NOT NULL,
    position INTEGER NOT NULL,
    noise_multiplier REAL NOT NULL,
    sample_rate REAL NOT NULL,
    steps INTEGER NOT NULL,
    PRIMARY KEY (plan_hash, position)
) STRICT;
"""
OLD, NEW = "a" * 64, "b" * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of the first form: three attempts, two of them ended, and two histories."""
    place = tmp_path / "ledger.db"
    with closing(sqlite3.connect(place, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.executescript(FIRST_FORM)
        for attempt, state in enumerate(("released", "lost", "charged")):
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO charge VALUES (?, ?, ?, ?, ?)", (OLD, 1, attempt, COST, state))
            db.execute("COMMIT")
        db.executemany(
            "INSERT INTO record_history VALUES (?, ?, ?, ?, ?)",
            [(OLD, 0, 0.8, 0.1, 15), (OLD, 1, 1.1, 0.01, 40)],
        )
    return place


def test_spent_budget_states_and_steps_are_kept(path: Path) -> None:
    with DeviceLedger.open(path) as ledger:
        states = [ledger.state(AttemptKey(OLD, 1, attempt)) for attempt in range(3)]
        assert states == [AttemptState.RELEASED, AttemptState.LOST, AttemptState.CHARGED]
        assert ledger.spent_nano_rho() == ledger.spent_nano_rho(OLD) == 3 * COST
        steps = compose(rdp_of_steps(0.8, 0.1, 15), rdp_of_steps(1.1, 0.01, 40))
        assert ledger.record_rdp(OLD) == ledger.record_rdp() == steps
        assert verify(path) == ledger.head()
        assert ledger.head().counter == 7  # three charges, two ends, two histories


def test_attempts_whose_epochs_are_not_known_count_in_every_epoch(path: Path) -> None:
    with DeviceLedger.open(path) as ledger:
        assert ledger.spent_of_epoch_nano_rho("2026-10") == 3 * COST
        with pytest.raises(BudgetExceededError, match="epoch 2026-10 budget has 1 "):
            charge(
                ledger, AttemptKey(NEW, 1, 1), epochs=("2026-10",), caps=caps(epoch=3 * COST + 1)
            )
        with pytest.raises(TooSoonError, match="2026-10 and 3 are paid for"):
            charge(ledger, AttemptKey(NEW, 1, 1), epochs=("2026-10",), limits=limits(per_epoch=3))
        assert charge(ledger, AttemptKey(NEW, 1, 1), epochs=("2026-10",))
        assert ledger.spent_of_epoch_nano_rho("2026-10") == 4 * COST
        assert ledger.spent_of_epoch_nano_rho("2026-11") == 3 * COST


def test_an_attempt_left_charged_can_still_end(path: Path) -> None:
    with DeviceLedger.open(path) as ledger:
        ledger.mark(AttemptKey(OLD, 1, 2), AttemptState.LOST)
    verify(path)


def test_it_happens_once(path: Path) -> None:
    with DeviceLedger.open(path) as first, DeviceLedger.open(path) as second:
        assert first.head() == second.head()
        assert first.spent_nano_rho() == second.spent_nano_rho() == 3 * COST


def test_a_failure_on_the_way_leaves_the_first_form_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(former_module, "rdp_of_steps", full)
        with pytest.raises(LedgerError, match="disk is full"):
            DeviceLedger.open(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM charge").fetchone() == (3,)
        assert db.execute("SELECT count(*) FROM record_history").fetchone() == (2,)
        assert db.execute("PRAGMA user_version").fetchone() == (0,)
    with DeviceLedger.open(path) as ledger:
        assert ledger.spent_nano_rho() == 3 * COST
