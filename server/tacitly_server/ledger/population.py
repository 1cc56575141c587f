"""The population ledger: what every subject has spent, in integer nano-ρ.

The law of its records (never changes meaning; unknown states are refused):

    PLANNED -> CHARGED -> RELEASED | LOST        VOID only from PLANNED

    1. `plan` reserves the next attempt number of a round.
    2. `charge` takes the cost from every selected subject, in every scope, or from none. Only then
       may a message leave. Dropouts are not refunded.
    3. `mark` RELEASED after the result is durable, LOST if there is none.

An attempt that a crash left CHARGED without a durable result is LOST: the round is tried again
under a new number and a new charge.

Each change is journaled in its own transaction (`journal.py`) and witnessed before the call
returns (`witness.py`). A ledger that is behind its witness takes no change at all.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from sqlalchemy import ColumnElement, Connection, Executable, Row, func, insert, select, update

from tacitly_common.accounting.caps import Caps
from tacitly_common.campaign import ParticipationLimits
from tacitly_common.errors import LedgerError, ValidationError
from tacitly_common.validation import calendar_months, positive_integer, sha256_hex
from tacitly_server.ledger import budgets, journal, participation
from tacitly_server.ledger.database import open_database, reading, writing
from tacitly_server.ledger.journal import Kind
from tacitly_server.ledger.tables import ATTEMPTS, BUDGETS, CHARGES
from tacitly_server.ledger.witness import Witness


class AttemptState(StrEnum):
    """See the module's law."""

    PLANNED = "planned"
    CHARGED = "charged"
    RELEASED = "released"
    LOST = "lost"
    VOID = "void"


# How an attempt may end, and from where.
FOLLOWS: Final = {
    AttemptState.VOID: AttemptState.PLANNED,
    AttemptState.RELEASED: AttemptState.CHARGED,
    AttemptState.LOST: AttemptState.CHARGED,
}


@dataclass(frozen=True, slots=True, order=True)
class AttemptKey:
    """The name of an attempt: rounds and attempts count from 1."""

    plan_hash: str
    round: int
    attempt: int

    @property
    def facts(self) -> dict[str, Any]:
        """As columns of attempts and journal."""
        return {"plan_hash": self.plan_hash, "round": self.round, "attempt": self.attempt}

    @property
    def row(self) -> ColumnElement[bool]:
        """Its row in attempts."""
        return (
            (ATTEMPTS.c.plan_hash == self.plan_hash)
            & (ATTEMPTS.c.round == self.round)
            & (ATTEMPTS.c.attempt == self.attempt)
        )


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the ledger holds of an attempt. `subjects` were charged `cost_nano_rho` each."""

    key: AttemptKey
    state: AttemptState
    cost_nano_rho: int
    subjects: int


class PopulationLedger:
    """The ledger at a path or URL. Close it, or use it in a `with` block.

    Without a `witness` it can only be read.
    """

    def __init__(
        self,
        where: Path | str,
        witness: Witness | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine = open_database(where)
        self._witness = witness
        self._now = now

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the database."""
        self._engine.dispose()

    def plan(self, plan_hash: str, round_number: int) -> AttemptKey:
        """Reserve the next attempt number of a round. It is never given out again.

        Raises:
            LedgerError: the ledger is behind its witness, or opened without one.
        """
        same_round = (ATTEMPTS.c.plan_hash == plan_hash) & (ATTEMPTS.c.round == round_number)
        with self._writing() as (connection, witness):
            self._lock(connection, witness)  # before the numbers are read
            last = connection.execute(
                select(func.max(ATTEMPTS.c.attempt)).where(same_round)
            ).scalar_one()
            key = AttemptKey(plan_hash, round_number, (last or 0) + 1)
            connection.execute(
                insert(ATTEMPTS).values(**key.facts, state=AttemptState.PLANNED, cost_nano_rho=0)
            )
            journal.append(connection, Kind.PLANNED, now=self._now(), **key.facts)
        return key

    def charge(
        self,
        key: AttemptKey,
        subjects: Collection[str],
        *,
        epochs: tuple[str, ...],
        cost_nano_rho: int,
        caps: Caps,
    ) -> bool:
        """Charge every subject `cost_nano_rho` in every scope, or none. Durable on return.

        `epochs` are the months (YYYY-MM) whose data the plan may use: everyone is charged for all
        of them, so that nobody learns who has data of which. True if charged now; False if this
        very charge was made before (nothing is charged again).

        Raises:
            BudgetExceededError: it would overdraw a subject; nobody was charged.
            LedgerError: the attempt was not planned, was voided, or was charged differently; or as
                `plan`. If only witnessing failed, the charge stands, and nothing may be sent.
            ValidationError: no subject or month, one twice, or a cost that is no positive integer.
        """
        positive_integer(cost_nano_rho=cost_nano_rho)
        calendar_months(epochs=epochs)
        names = sorted(set(subjects))
        if not names or len(names) != len(subjects):
            raise ValidationError(
                f"{len(subjects)} subjects, {len(names)} different; charge each once, at least one"
            )
        rows = [(subject, month, cost_nano_rho) for subject in names for month in epochs]
        with self._writing() as (connection, witness):
            attempt = find(connection, key)
            new = _known(attempt.state) is AttemptState.PLANNED
            if not new:
                check_same_charge(connection, key, attempt.id, rows)
            else:
                write_charge(connection, key, attempt.id, rows, caps)
                self._lock(connection, witness)
                journal.append_charge(connection, key.facts, rows, caps, now=self._now())
        return new

    def mark(
        self, key: AttemptKey, state: AttemptState, *, result_sha256: str | None = None
    ) -> None:
        """Move an attempt to RELEASED, LOST or VOID. Durable on return.

        `result_sha256` names what was released, and only that.

        Raises:
            LedgerError: the attempt is unknown, or the law knows no such step; or as `plan`.
            ValidationError: RELEASED without a result, or a result of something else.
        """
        if (state is AttemptState.RELEASED) != (result_sha256 is not None):
            raise ValidationError(
                f"an attempt that becomes {state} has {result_sha256 or 'no'} result; "
                "give the SHA-256 of what is released"
            )
        if result_sha256 is not None:
            sha256_hex(result_sha256=result_sha256)
        with self._writing() as (connection, witness):
            attempt = find(connection, key)
            if FOLLOWS.get(state) != attempt.state:
                raise LedgerError(
                    f"round {key.round} attempt {key.attempt} is {attempt.state} and cannot "
                    f"become {state}"
                )
            self._lock(connection, witness)
            finish(connection, key, state, result_sha256, now=self._now())

    def state(self, key: AttemptKey) -> AttemptState | None:
        """Where an attempt stands, or None if it was never planned."""
        with reading(self._engine) as connection:
            state = connection.execute(select(ATTEMPTS.c.state).where(key.row)).scalar_one_or_none()
        return None if state is None else _known(state)

    def attempts(self, plan_hash: str) -> list[Attempt]:
        """Every attempt of a plan, in order."""
        charged = (
            select(func.count(CHARGES.c.subject.distinct()))
            .where(CHARGES.c.attempt_id == ATTEMPTS.c.id)
            .correlate(ATTEMPTS)
            .scalar_subquery()
        )
        with reading(self._engine) as connection:
            rows = connection.execute(
                select(ATTEMPTS, charged.label("subjects"))
                .where(ATTEMPTS.c.plan_hash == plan_hash)
                .order_by(ATTEMPTS.c.round, ATTEMPTS.c.attempt)
            ).all()
        return [
            Attempt(
                AttemptKey(row.plan_hash, row.round, row.attempt),
                _known(row.state),
                row.cost_nano_rho,
                row.subjects,
            )
            for row in rows
        ]

    def open_attempts(self, plan_hash: str) -> list[Attempt]:
        """The attempts that a crash left PLANNED or CHARGED."""
        unfinished = (AttemptState.PLANNED, AttemptState.CHARGED)
        return [a for a in self.attempts(plan_hash) if a.state in unfinished]

    def spent_nano_rho(
        self, subject: str, plan_hash: str | None = None, *, epoch: str | None = None
    ) -> int:
        """What a subject has spent: on one plan, on one month's data, or in its lifetime."""
        if plan_hash is not None and epoch is not None:
            raise ValidationError("totals are kept by plan and by month, not by both; give one")
        scope = budgets.LIFETIME
        if plan_hash is not None:
            scope = budgets.campaign(plan_hash)
        elif epoch is not None:
            scope = budgets.epoch(epoch)
        query = select(BUDGETS.c.spent_nano_rho).where(scope.rows, BUDGETS.c.subject == subject)
        with reading(self._engine) as connection:
            return connection.execute(query).scalar_one_or_none() or 0

    def exhausted(
        self, plan_hash: str, *, epochs: tuple[str, ...], cost_nano_rho: int, caps: Caps
    ) -> frozenset[str]:
        """The subjects whom a further charge would overdraw: selection leaves them out.

        Who was never charged is not among them; a cost above a cap is a `ValidationError`.
        """
        positive_integer(cost_nano_rho=cost_nano_rho)
        calendar_months(epochs=epochs)
        least = min(budgets.by_scope(caps).values())
        if cost_nano_rho > least:
            raise ValidationError(
                f"one participation costs {cost_nano_rho} nano-ρ, more than the cap {least}"
            )
        overdrawn = budgets.beyond(plan_hash, epochs=epochs, cost_nano_rho=cost_nano_rho, caps=caps)
        return self._subjects(select(BUDGETS.c.subject).where(overdrawn))

    def resting(
        self, plan_hash: str, round_number: int, limits: ParticipationLimits
    ) -> frozenset[str]:
        """Who was charged for another round of the plan too short a while ago."""
        query = participation.resting(plan_hash, round_number, limits, now=self._now())
        return self._subjects(query)

    def often_asked(self, epochs: Collection[str], *, most: int) -> frozenset[str]:
        """Who was charged `most` times or more for the data of one of these months."""
        return self._subjects(participation.often_asked(epochs, most=most))

    def _subjects(self, query: Executable) -> frozenset[str]:
        with reading(self._engine) as connection:
            return frozenset(connection.execute(query).scalars())

    @contextmanager
    def _writing(self) -> Iterator[tuple[Connection, Witness]]:
        if self._witness is None:
            raise LedgerError("this ledger was opened without its witness and can only be read")
        with writing(self._engine) as connection:
            yield connection, self._witness
            journal.lock(connection)
            self._witness.sign(connection, self._now())
        self._witness.catch_up(self._engine)

    def _lock(self, connection: Connection, witness: Witness) -> None:
        journal.lock(connection)
        witness.check(connection)


def write_charge(
    connection: Connection,
    key: AttemptKey,
    attempt_id: int,
    rows: list[tuple[str, str, int]],
    caps: Caps | None,
) -> None:
    """The charges (subject, month, nano-ρ), their totals and the attempt's state.

    Raises:
        BudgetExceededError: a total would exceed `caps`; the caller rolls back.
    """
    cost_nano_rho = rows[0][2]
    budgets.spend(
        connection,
        attempt_id,
        sorted({subject for subject, _, _ in rows}),
        plan_hash=key.plan_hash,
        epochs=sorted({epoch for _, epoch, _ in rows}),
        cost_nano_rho=cost_nano_rho,
        caps=caps,
    )
    connection.execute(
        update(ATTEMPTS)
        .where(key.row)
        .values(state=AttemptState.CHARGED, cost_nano_rho=cost_nano_rho)
    )


def finish(
    connection: Connection,
    key: AttemptKey,
    state: AttemptState,
    result_sha256: str | None,
    *,
    now: datetime,
) -> None:
    """Write how an attempt ended; the law was looked at and the journal is locked."""
    connection.execute(update(ATTEMPTS).where(key.row).values(state=state))
    facts = key.facts | ({} if result_sha256 is None else {"digest": result_sha256})
    journal.append(connection, Kind(state.value), now=now, **facts)


def check_same_charge(
    connection: Connection, key: AttemptKey, attempt_id: int, rows: list[tuple[str, str, int]]
) -> None:
    """Pass if an attempt was charged exactly so.

    Raises:
        LedgerError: otherwise.
    """
    charges = select(CHARGES.c.subject, CHARGES.c.epoch, CHARGES.c.cost_nano_rho).where(
        CHARGES.c.attempt_id == attempt_id
    )
    if {tuple(row) for row in connection.execute(charges)} != set(rows):
        raise LedgerError(
            f"round {key.round} attempt {key.attempt} was voided, or charged otherwise; "
            "plan a new attempt"
        )


def find(connection: Connection, key: AttemptKey) -> Row[Any]:
    """An attempt's row, locked until the transaction ends.

    Raises:
        LedgerError: it was never planned, or is in a state of another version.
    """
    found = connection.execute(select(ATTEMPTS).where(key.row).with_for_update()).one_or_none()
    if found is None:
        raise LedgerError(
            f"round {key.round} attempt {key.attempt} was never planned; call plan() first"
        )
    _known(found.state)
    return found


def _known(state: str) -> AttemptState:
    try:
        return AttemptState(state)
    except ValueError:
        raise LedgerError(
            f"the ledger holds the state {state!r:.80}, which this version does not know; "
            "use the Tacitly that wrote it"
        ) from None
