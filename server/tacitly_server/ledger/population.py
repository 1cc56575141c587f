"""The population ledger: what every subject has spent, in integer nano-ρ.

The law of its records (never changes meaning; unknown states are refused):

    PLANNED -> CHARGED -> RELEASED | LOST        VOID only from PLANNED

    1. `plan` reserves the next attempt number of a round.
    2. `charge` takes the cost from every selected subject, or from none. Only then may a
       message leave. Dropouts are not refunded.
    3. `mark` RELEASED after the result is durable, LOST if there is none.

An attempt that a crash left CHARGED without a durable result is LOST: the round is tried again
under a new number and a new charge.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sqlalchemy import ColumnElement, Connection, Row, func, insert, literal, select, update
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from tacitly_common.errors import BudgetExceededError, LedgerError, ValidationError
from tacitly_server.ledger.database import (
    ATTEMPTS,
    CHARGES,
    TOTALS,
    open_database,
    reading,
    writing,
)


class AttemptState(StrEnum):
    """See the module's law."""

    PLANNED = "planned"
    CHARGED = "charged"
    RELEASED = "released"
    LOST = "lost"
    VOID = "void"


_FOLLOWS: Final = {
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


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the ledger holds of an attempt. `subjects` were charged `cost_nano_rho` each."""

    key: AttemptKey
    state: AttemptState
    cost_nano_rho: int
    subjects: int


class PopulationLedger:
    """The ledger in `population.db`. Close it, or use it in a `with` block."""

    def __init__(self, path: Path) -> None:
        self._engine = open_database(path)

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
        """Release the file."""
        self._engine.dispose()

    def plan(self, plan_hash: str, round_number: int) -> AttemptKey:
        """Reserve the next attempt number of a round. It is never given out again."""
        same_round = (ATTEMPTS.c.plan_hash == plan_hash) & (ATTEMPTS.c.round == round_number)
        with writing(self._engine) as connection:
            last = connection.execute(
                select(func.max(ATTEMPTS.c.attempt)).where(same_round)
            ).scalar_one()
            key = AttemptKey(plan_hash, round_number, (last or 0) + 1)
            connection.execute(
                insert(ATTEMPTS).values(
                    plan_hash=key.plan_hash,
                    round=key.round,
                    attempt=key.attempt,
                    state=AttemptState.PLANNED,
                    cost_nano_rho=0,
                )
            )
        return key

    def charge(
        self, key: AttemptKey, subjects: Collection[str], *, cost_nano_rho: int, cap_nano_rho: int
    ) -> bool:
        """Charge every subject `cost_nano_rho`, or none. Durable on return.

        `cap_nano_rho` is the most that this plan may cost a subject. True if charged now;
        False if this very charge was made before (nothing is charged again).

        Raises:
            BudgetExceededError: it would overdraw a subject; nobody was charged.
            LedgerError: the attempt was not planned, was voided, or was charged differently.
            ValidationError: no subject, one twice, or an amount that is no positive integer.
        """
        _check_amounts(cost_nano_rho=cost_nano_rho, cap_nano_rho=cap_nano_rho)
        unique = set(subjects)
        if not unique or len(unique) != len(subjects):
            raise ValidationError(
                f"{len(subjects)} subjects, {len(unique)} different; charge each once, at least one"
            )
        with writing(self._engine) as connection:
            attempt = _find(connection, key)
            if attempt.state != AttemptState.PLANNED:
                _check_same_charge(connection, key, attempt, unique, cost_nano_rho)
                return False
            connection.execute(
                insert(CHARGES), [{"attempt_id": attempt.id, "subject": s} for s in sorted(unique)]
            )
            _add_to_totals(connection, key.plan_hash, attempt.id, cost_nano_rho)
            overdrawn = connection.execute(
                select(func.count())
                .select_from(TOTALS.join(CHARGES, TOTALS.c.subject == CHARGES.c.subject))
                .where(CHARGES.c.attempt_id == attempt.id)
                .where(TOTALS.c.plan_hash == key.plan_hash)
                .where(TOTALS.c.spent_nano_rho > cap_nano_rho)
            ).scalar_one()
            if overdrawn:  # the exception rolls the transaction back
                raise BudgetExceededError(
                    f"a charge of {cost_nano_rho} nano-ρ would take {overdrawn} of {len(unique)} "
                    f"subjects beyond the campaign's {cap_nano_rho}; select others",
                    scope="campaign",
                )
            connection.execute(
                update(ATTEMPTS)
                .where(ATTEMPTS.c.id == attempt.id)
                .values(state=AttemptState.CHARGED, cost_nano_rho=cost_nano_rho)
            )
        return True

    def mark(self, key: AttemptKey, state: AttemptState) -> None:
        """Move an attempt to RELEASED, LOST or VOID. Durable on return.

        Raises:
            LedgerError: the attempt is unknown, or the law knows no such step.
        """
        with writing(self._engine) as connection:
            attempt = _find(connection, key)
            if _FOLLOWS.get(state) != attempt.state:
                raise LedgerError(
                    f"round {key.round} attempt {key.attempt} is {attempt.state} and cannot "
                    f"become {state}"
                )
            connection.execute(
                update(ATTEMPTS).where(ATTEMPTS.c.id == attempt.id).values(state=state)
            )

    def state(self, key: AttemptKey) -> AttemptState | None:
        """Where an attempt stands, or None if it was never planned."""
        with reading(self._engine) as connection:
            state = connection.execute(
                select(ATTEMPTS.c.state).where(_is(key))
            ).scalar_one_or_none()
        return None if state is None else _known(state)

    def attempts(self, plan_hash: str) -> list[Attempt]:
        """Every attempt of a plan, in order."""
        charged = (
            select(func.count())
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

    def spent_nano_rho(self, subject: str, plan_hash: str | None = None) -> int:
        """What a subject has spent on one plan, or on all of them."""
        query = select(func.coalesce(func.sum(TOTALS.c.spent_nano_rho), 0)).where(
            TOTALS.c.subject == subject
        )
        if plan_hash is not None:
            query = query.where(TOTALS.c.plan_hash == plan_hash)
        with reading(self._engine) as connection:
            return int(connection.execute(query).scalar_one())

    def exhausted(self, plan_hash: str, *, cost_nano_rho: int, cap_nano_rho: int) -> frozenset[str]:
        """The subjects whom a further charge would overdraw: selection leaves them out.

        Who was never charged is not among them; a cost above the cap is a `ValidationError`.
        """
        _check_amounts(cost_nano_rho=cost_nano_rho, cap_nano_rho=cap_nano_rho)
        if cost_nano_rho > cap_nano_rho:
            raise ValidationError(
                f"one participation costs {cost_nano_rho} nano-ρ, more than the cap {cap_nano_rho}"
            )
        with reading(self._engine) as connection:
            return frozenset(
                connection.execute(
                    select(TOTALS.c.subject)
                    .where(TOTALS.c.plan_hash == plan_hash)
                    .where(TOTALS.c.spent_nano_rho > cap_nano_rho - cost_nano_rho)
                ).scalars()
            )


def _is(key: AttemptKey) -> ColumnElement[bool]:
    return (
        (ATTEMPTS.c.plan_hash == key.plan_hash)
        & (ATTEMPTS.c.round == key.round)
        & (ATTEMPTS.c.attempt == key.attempt)
    )


def _find(connection: Connection, key: AttemptKey) -> Row[tuple[object, ...]]:
    attempt = connection.execute(select(ATTEMPTS).where(_is(key))).one_or_none()
    if attempt is None:
        raise LedgerError(f"round {key.round} attempt {key.attempt} was never planned")
    _known(attempt.state)
    return attempt


def _known(state: str) -> AttemptState:
    try:
        return AttemptState(state)
    except ValueError:
        raise LedgerError(
            f"the ledger holds the state {state!r}; use a Tacitly that knows it"
        ) from None


def _check_amounts(**amounts: int) -> None:
    for name, amount in amounts.items():
        if type(amount) is not int or amount <= 0:
            raise ValidationError(f"{name} must be a positive integer, got {amount!r}")


def _check_same_charge(
    connection: Connection,
    key: AttemptKey,
    attempt: Row[tuple[object, ...]],
    subjects: set[str],
    cost_nano_rho: int,
) -> None:
    charged = set(
        connection.execute(
            select(CHARGES.c.subject).where(CHARGES.c.attempt_id == attempt.id)
        ).scalars()
    )
    if charged != subjects or attempt.cost_nano_rho != cost_nano_rho:
        raise LedgerError(
            f"round {key.round} attempt {key.attempt} is {attempt.state} with another charge; "
            "plan a new attempt"
        )


def _add_to_totals(
    connection: Connection, plan_hash: str, attempt_id: int, cost_nano_rho: int
) -> None:
    charged = select(
        literal(plan_hash),
        CHARGES.c.subject,
        literal(cost_nano_rho),
    ).where(CHARGES.c.attempt_id == attempt_id)
    statement = sqlite_insert(TOTALS).from_select(
        ["plan_hash", "subject", "spent_nano_rho"], charged
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[TOTALS.c.plan_hash, TOTALS.c.subject],
            set_={"spent_nano_rho": TOTALS.c.spent_nano_rho + statement.excluded.spent_nano_rho},
        )
    )
