"""What this device may be charged, and charging it: one transaction, all scopes or none.

Integers of nano-ρ are checked against the caps on the person's life, on each data epoch and on the
campaign; the attempt's DP-SGD steps against the record level's cap, in pico-RDP, an account of its
own. The transaction is BEGIN IMMEDIATE: with SQLite's default two writers overspend the last unit.
Nothing is refunded.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tacitly_client.ledger import journal, schema
from tacitly_client.ledger.books import enter, record_rdp
from tacitly_client.ledger.former import migrate
from tacitly_client.ledger.journal import Entry, Head, Kind, pack_rdp
from tacitly_client.ledger.schema import EVERY_EPOCH, Scope
from tacitly_common.accounting.caps import Caps
from tacitly_common.accounting.record import admits, compose, epsilon_of_rdp, rdp_of_steps
from tacitly_common.campaign import ParticipationLimits
from tacitly_common.errors import BudgetExceededError, LedgerError, TooSoonError
from tacitly_common.validation import calendar_months, positive_integer, utc

_SECONDS_PER_HOUR: Final = 3_600
_NOTHING: Final = (0, 0)


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


@dataclass(frozen=True, slots=True)
class RecordSteps:
    """The DP-SGD steps an attempt will take, and the (ε, δ) that a campaign's steps keep within."""

    noise_multiplier: Decimal
    sample_rate: Decimal
    steps: int
    cap_epsilon: Decimal
    delta: Decimal

    def rdp(self) -> tuple[int, ...]:
        """Their pico-RDP."""
        return rdp_of_steps(self.noise_multiplier, self.sample_rate, self.steps)


class DeviceLedger:
    """The ledger file. A context manager; safe with several processes on one file."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        """Use `create` or `open`."""
        self._path = path
        self._db = db

    @classmethod
    def create(cls, path: Path) -> Self:
        """Begin a ledger, once in an agent's life; mode 0600.

        Raises:
            LedgerError: there is a file already, or it cannot be written.
        """
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise LedgerError(f"{path}: {error.strerror}; a ledger is begun once") from error
        with schema.ledger_errors(path):
            db = schema.connect(path)
            with schema.transaction(db):
                schema.create_tables(db)
        return cls(path, db)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the ledger, which must be there: a fresh one would forget what was spent.

        A ledger of the first form is brought to this form; that may take a few seconds.

        Raises:
            LedgerError: there is none, it is not sound, or it is of a later version.
        """
        if not path.exists():
            raise LedgerError(
                f"{path} is missing; nothing is released without it, restore it from your backup"
            )
        with schema.ledger_errors(path):
            db = schema.connect(path)
            try:
                if schema.version(db) == 0:
                    with schema.transaction(db):
                        if schema.version(db) == 0:  # no other process was faster
                            migrate(db)
                if schema.version(db) != schema.SCHEMA_VERSION:
                    raise LedgerError(
                        f"{path} is a ledger of version {schema.version(db)}, this Tacitly reads "
                        f"{schema.SCHEMA_VERSION}; use the Tacitly that wrote it"
                    )
            except BaseException:
                db.close()
                raise
        return cls(path, db)

    def charge(
        self,
        key: AttemptKey,
        *,
        epochs: tuple[str, ...],
        cost_nano_rho: int,
        caps: Caps,
        limits: ParticipationLimits,
        record: RecordSteps,
        now: datetime,
    ) -> bool:
        """Charge an attempt and its steps; durable on return. False if it was charged before.

        The full cost is charged in each of `epochs`, and once for the campaign and for life. Its
        time is `now`, or that of the campaign's latest attempt where the clock says an earlier one.

        Raises:
            BudgetExceededError: it would pass a cap, which `scope` names; nothing was charged.
            TooSoonError: `limits` allow no attempt, or none yet; nothing was charged.
            ValidationError: an argument is unusable.
            LedgerError: locked for too long, damaged, full disk; nothing was charged.
        """
        positive_integer(cost_nano_rho=cost_nano_rho)
        calendar_months(epochs=epochs)
        utc(now=now)
        steps_rdp = record.rdp()  # takes long the first time: before the lock
        with self._transaction():
            if self.state(key) is not None:
                return False
            at_seconds = max(int(now.timestamp()), self._latest_seconds(key.plan_hash))
            self._check_budgets(key, epochs, cost_nano_rho, caps)
            self._check_record(key, record, steps_rdp)
            self._check_counts(key, epochs, limits)
            self._check_gaps(key, limits, at_seconds)
            charged = Entry(
                kind=Kind.CHARGED,
                plan_hash=key.plan_hash,
                round=key.round,
                attempt=key.attempt,
                cost_nano_rho=cost_nano_rho,
                epochs=" ".join(epochs),
                at_seconds=at_seconds,
                noise_multiplier=str(record.noise_multiplier),
                sample_rate=str(record.sample_rate),
                steps=record.steps,
                rdp=pack_rdp(steps_rdp),
            )
            enter(self._db, charged)
        return True

    def mark(self, key: AttemptKey, state: AttemptState) -> None:
        """Move a charged attempt to RELEASED or LOST; the same again changes nothing.

        Raises:
            LedgerError: not charged, or finished otherwise.
        """
        with self._transaction():
            if self.state(key) == state:
                return
            ended = Entry(
                kind=Kind(state), plan_hash=key.plan_hash, round=key.round, attempt=key.attempt
            )
            enter(self._db, ended)

    def state(self, key: AttemptKey) -> AttemptState | None:
        """The attempt's state, None if it was never charged."""
        with self._errors():
            row = self._db.execute(
                "SELECT state FROM attempt WHERE (plan_hash, round, attempt) = (?, ?, ?)",
                (key.plan_hash, key.round, key.attempt),
            ).fetchone()
        return None if row is None else AttemptState(row[0])

    def spent_nano_rho(self, plan_hash: str | None = None) -> int:
        """What a campaign, or one's whole life, has cost so far."""
        scope = Scope.LIFETIME if plan_hash is None else Scope.CAMPAIGN
        return self._total(scope, plan_hash or "")[0]

    def spent_of_epoch_nano_rho(self, epoch: str) -> int:
        """What the data of a month ("2026-11") have cost so far."""
        return self._total(Scope.EPOCH, epoch)[0]

    def attempts(self, plan_hash: str | None = None) -> int:
        """How many attempts of a campaign, or ever, have been charged."""
        scope = Scope.LIFETIME if plan_hash is None else Scope.CAMPAIGN
        return self._total(scope, plan_hash or "")[1]

    def record_rdp(self, plan_hash: str | None = None) -> tuple[int, ...]:
        """The record level's pico-RDP of a campaign, or of all together."""
        with self._errors():
            return record_rdp(self._db, plan_hash)

    def head(self) -> Head:
        """How many changes this ledger has seen, and the hash that stands for all of them."""
        with self._errors():
            return journal.head(self._db)

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

    def _check_counts(
        self, key: AttemptKey, epochs: tuple[str, ...], limits: ParticipationLimits
    ) -> None:
        for scope, name, most in (
            (Scope.CAMPAIGN, key.plan_hash, limits.per_campaign),
            *((Scope.EPOCH, epoch, limits.per_epoch) for epoch in epochs),
        ):
            attempts = self._total(scope, name)[1]
            if attempts >= most:
                of = f"in the data of {name}" if scope is Scope.EPOCH else "in this campaign"
                raise TooSoonError(
                    f"the plan allows {most} attempt(s) {of} and {attempts} are paid for; "
                    "take part again when a new plan is agreed"
                )

    def _check_gaps(self, key: AttemptKey, limits: ParticipationLimits, at_seconds: int) -> None:
        gap_rounds = limits.minimum_gap_rounds
        near = self._db.execute(
            "SELECT round FROM attempt"
            " WHERE plan_hash = ? AND round > ? AND round < ? AND round != ? LIMIT 1",
            (key.plan_hash, key.round - gap_rounds, key.round + gap_rounds, key.round),
        ).fetchone()
        if near is not None:
            raise TooSoonError(
                f"round {key.round} lies {abs(key.round - near[0])} from round {near[0]}, which "
                f"this device took part in; the plan wants {gap_rounds}: wait for a later round"
            )
        latest_other = self._latest_seconds(key.plan_hash, but_round=key.round)
        passed, wanted = at_seconds - latest_other, limits.minimum_gap_hours * _SECONDS_PER_HOUR
        if passed < wanted:
            raise TooSoonError(
                f"{passed} s after another round the plan wants {wanted} s to have passed; "
                f"wait {wanted - passed} s"
            )

    def _check_budgets(
        self, key: AttemptKey, epochs: tuple[str, ...], cost_nano_rho: int, caps: Caps
    ) -> None:
        for scope, name, cap in (
            (Scope.CAMPAIGN, key.plan_hash, caps.campaign_nano_rho),
            *((Scope.EPOCH, epoch, caps.epoch_nano_rho) for epoch in epochs),
            (Scope.LIFETIME, "", caps.lifetime_nano_rho),
        ):
            left = cap - self._total(scope, name)[0]
            if cost_nano_rho > left:
                shown = f"{scope} {name}" if scope is Scope.EPOCH else scope
                raise BudgetExceededError(
                    f"the {shown} budget has {left} nano-rho left, the attempt costs "
                    f"{cost_nano_rho}; take part again when a new plan is agreed",
                    scope=scope,
                )

    def _check_record(
        self, key: AttemptKey, record: RecordSteps, steps_rdp: tuple[int, ...]
    ) -> None:
        spent = self.record_rdp(key.plan_hash)
        if not admits(spent, steps_rdp, epsilon=record.cap_epsilon, delta=record.delta):
            would_be = epsilon_of_rdp(compose(spent, steps_rdp), record.delta)
            raise BudgetExceededError(
                f"{record.steps} more steps would take the record level's epsilon to "
                f"{would_be:.4f} of {record.cap_epsilon} at delta {record.delta}; "
                "take part again when a new plan is agreed",
                scope="record",
            )

    def _total(self, scope: Scope, name: str) -> tuple[int, int]:
        """(nano-ρ, attempts) of a scope; those that count in every epoch are in each epoch's."""
        with self._errors():
            rows = self._db.execute(
                "SELECT spent_nano_rho, attempts FROM total WHERE scope = ? AND name IN (?, ?)",
                (scope, name, EVERY_EPOCH),
            ).fetchall()
        spent, attempts = map(sum, zip(_NOTHING, *rows, strict=True))
        return spent, attempts

    def _latest_seconds(self, plan_hash: str, *, but_round: int | None = None) -> int:
        """When the campaign's latest attempt, of another round if one is given, was charged.

        The Unix epoch if there is none.
        """
        row = self._db.execute(
            "SELECT at_seconds FROM attempt WHERE plan_hash = ? AND round IS NOT ?"
            " ORDER BY at_seconds DESC LIMIT 1",
            (plan_hash, but_round),
        ).fetchone()
        return 0 if row is None else int(row[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors(), schema.transaction(self._db):
            yield

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with schema.ledger_errors(self._path):
            yield
