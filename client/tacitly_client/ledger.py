"""This device's budget: an attempt is charged, durably, before anything about it can leave.

    charge -> CHARGED -> RELEASED (its noised result is on the disk)
                      -> LOST     (no result; a retry is a new attempt and a new charge)

All amounts are integers of nano-ρ. The two caps, the campaign's and the person's own for life,
are checked and the charge written in one transaction (BEGIN IMMEDIATE: with SQLite's default two
writers overspend the last unit). Nothing is refunded. The record-level history, what Opacus's
accountant composes, is kept beside it and never added to it.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tacitly_common.errors import BudgetExceededError, LedgerError
from tacitly_common.validation import positive

_SCHEMA: Final = """
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
_BUSY_TIMEOUT_SECONDS: Final = 30.0


class AttemptState(StrEnum):
    """Where a charged attempt stands."""

    CHARGED = "charged"
    RELEASED = "released"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class AttemptKey:
    """Names one attempt at one round of one plan."""

    plan_hash: str
    round: int
    attempt: int


class DeviceLedger:
    """The ledger file. A context manager; safe with several processes on one file."""

    def __init__(self, path: Path, *, lifetime_cap_nano_rho: int) -> None:
        """Open or make the ledger.

        Raises:
            LedgerError: the file is not a sound ledger.
        """
        positive(lifetime_cap_nano_rho=lifetime_cap_nano_rho)
        self._path = path
        self._lifetime_cap = lifetime_cap_nano_rho
        with self._translated():
            self._db = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_SECONDS, isolation_level=None)
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
                self._db.executescript(_SCHEMA)
            except sqlite3.Error:
                self._db.close()
                raise
        path.chmod(0o600)

    @classmethod
    def existing(cls, path: Path, *, lifetime_cap_nano_rho: int) -> Self:
        """Open a ledger that must be there: a fresh one would forget what was spent.

        Raises:
            LedgerError: there is none, or it is not sound.
        """
        if not path.exists():
            raise LedgerError(
                f"{path} is missing; nothing is released without it, restore it from your backup"
            )
        return cls(path, lifetime_cap_nano_rho=lifetime_cap_nano_rho)

    def charge(self, key: AttemptKey, *, cost_nano_rho: int, campaign_cap_nano_rho: int) -> bool:
        """Charge an attempt; durable on return. True if newly charged, False if it was before.

        Raises:
            BudgetExceededError: it would pass a cap; nothing was charged.
        """
        positive(cost_nano_rho=cost_nano_rho, campaign_cap_nano_rho=campaign_cap_nano_rho)
        with self._transaction():
            if self.state(key) is not None:
                return False
            for name, spent, cap in (
                ("campaign", self.spent_nano_rho(key.plan_hash), campaign_cap_nano_rho),
                ("lifetime", self.spent_nano_rho(), self._lifetime_cap),
            ):
                if spent + cost_nano_rho > cap:
                    raise BudgetExceededError(
                        f"the {name} budget has {cap - spent} nano-rho left, the attempt costs "
                        f"{cost_nano_rho}; take part again when a new plan is agreed"
                    )
            self._db.execute(
                "INSERT INTO charge VALUES (?, ?, ?, ?, ?)",
                (key.plan_hash, key.round, key.attempt, cost_nano_rho, AttemptState.CHARGED),
            )
        return True

    def mark(self, key: AttemptKey, state: AttemptState) -> None:
        """Move a charged attempt to RELEASED or LOST; the same again changes nothing.

        Raises:
            LedgerError: not charged, or finished otherwise.
        """
        with self._transaction():
            current = self.state(key)
            if current == state:
                return
            if current != AttemptState.CHARGED:
                raise LedgerError(
                    f"round {key.round} attempt {key.attempt} is {current or 'not charged'} "
                    f"and cannot become {state}"
                )
            self._db.execute(
                "UPDATE charge SET state = ? WHERE (plan_hash, round, attempt) = (?, ?, ?)",
                (state, key.plan_hash, key.round, key.attempt),
            )

    def state(self, key: AttemptKey) -> AttemptState | None:
        """The attempt's state, None if it was never charged."""
        with self._translated():
            row = self._db.execute(
                "SELECT state FROM charge WHERE (plan_hash, round, attempt) = (?, ?, ?)",
                (key.plan_hash, key.round, key.attempt),
            ).fetchone()
        return None if row is None else AttemptState(row[0])

    def spent_nano_rho(self, plan_hash: str | None = None) -> int:
        """What a campaign, or all together, has cost so far."""
        condition, values = (
            ("", ()) if plan_hash is None else (" WHERE plan_hash = ?", (plan_hash,))
        )
        with self._translated():
            row = self._db.execute(
                "SELECT COALESCE(SUM(cost_nano_rho), 0) FROM charge" + condition,  # noqa: S608
                values,
            ).fetchone()
        return int(row[0])

    def record_history(self, plan_hash: str) -> list[tuple[float, float, int]]:
        """Opacus's accountant history of a campaign: (noise multiplier, sample rate, steps)."""
        with self._translated():
            return self._db.execute(
                "SELECT noise_multiplier, sample_rate, steps FROM record_history"
                " WHERE plan_hash = ? ORDER BY position",
                (plan_hash,),
            ).fetchall()

    def save_record_history(
        self, plan_hash: str, history: Sequence[tuple[float, float, int]]
    ) -> None:
        """Replace the stored history with a longer one; durable on return.

        Raises:
            LedgerError: it has fewer steps than the stored one: spent privacy cannot shrink.
        """
        with self._transaction():
            stored = sum(steps for _, _, steps in self.record_history(plan_hash))
            given = sum(steps for _, _, steps in history)
            if given < stored:
                raise LedgerError(f"a record history of {given} steps cannot replace {stored}")
            self._db.execute("DELETE FROM record_history WHERE plan_hash = ?", (plan_hash,))
            self._db.executemany(
                "INSERT INTO record_history VALUES (?, ?, ?, ?, ?)",
                [(plan_hash, position, *entry) for position, entry in enumerate(history)],
            )

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if self._db.in_transaction:  # SQLite may have rolled back itself, on a full disk
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise LedgerError(
                f"{self._path}: {error}; nothing is released without a sound ledger, "
                "restore it from your backup"
            ) from error
