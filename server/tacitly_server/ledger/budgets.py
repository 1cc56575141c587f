"""The running totals, and the check that a charge must pass in every scope.

    campaign   what a subject spent on one plan         cost once an attempt
    epoch      what it spent on one month's data        cost once an attempt and month
    lifetime   what it spent on everything              cost once an attempt

All SQL is over sets of rows that the charge itself names, so its time does not grow with history.
Scopes and, within each, subjects are visited in the order of the table's key: two writers that
lock overlapping rows wait for each other in one direction only.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Insert,
    TableValuedAlias,
    Text,
    any_,
    column,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from tacitly_common.accounting.caps import Caps
from tacitly_common.errors import BudgetExceededError
from tacitly_common.verify_ledger import EVERY_EPOCH
from tacitly_server.ledger.tables import BUDGETS, CHARGES

_CAMPAIGN: Final = "campaign"
_EPOCH: Final = "epoch"
_LIFETIME: Final = "lifetime"


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    """What a total is of: see the module's table."""

    kind: str
    name: str

    @property
    def rows(self) -> ColumnElement[bool]:
        """Its totals, of all subjects."""
        return (BUDGETS.c.kind == self.kind) & (BUDGETS.c.name == self.name)


LIFETIME: Final = Scope(_LIFETIME, "")


def campaign(plan_hash: str) -> Scope:
    """One plan's."""
    return Scope(_CAMPAIGN, plan_hash)


def epoch(month: str) -> Scope:
    """One month's."""
    return Scope(_EPOCH, month)


def spend(
    connection: Connection,
    attempt_id: int,
    subjects: Sequence[str],
    *,
    plan_hash: str,
    epochs: Sequence[str],
    cost_nano_rho: int,
    caps: Caps | None,
) -> None:
    """Check a cost in every scope that it touches, then write the charges and their totals.

    `subjects` and `epochs` are unique. Without `caps` nothing is refused: what was spent elsewhere
    is spent.

    Raises:
        BudgetExceededError: a cap would be exceeded; the caller must roll back.
    """
    scopes = sorted([campaign(plan_hash), *map(epoch, epochs), LIFETIME])
    names, among = _listed(connection, subjects)
    for scope in scopes:
        _make_rows(connection, scope, names)
        locked = connection.execute(
            select(BUDGETS.c.spent_nano_rho)
            .where(scope.rows, among)
            .order_by(BUDGETS.c.subject)
            .with_for_update()
        ).scalars()
        spent = list(locked)
        cap = None if caps is None else by_scope(caps)[scope.kind]
        if cap is not None and (over := sum(s + cost_nano_rho > cap for s in spent)):
            raise BudgetExceededError(
                f"a charge of {cost_nano_rho} nano-ρ would take {over} of {len(spent)} subjects "
                f"beyond the {scope.kind} cap of {cap}; select others",
                scope=scope.kind,
            )
    for scope in scopes:
        connection.execute(
            update(BUDGETS)
            .where(scope.rows, among)
            .values(spent_nano_rho=BUDGETS.c.spent_nano_rho + cost_nano_rho)
        )
    for month in epochs:
        charges = select(literal(attempt_id), names.c.value, literal(month), literal(cost_nano_rho))
        columns = [column.name for column in CHARGES.columns]
        connection.execute(insert(CHARGES).from_select(columns, charges))


def beyond(
    plan_hash: str, *, epochs: Sequence[str], cost_nano_rho: int, caps: Caps
) -> ColumnElement[bool]:
    """The totals to which `cost_nano_rho` cannot be added."""
    months = [epoch(month) for month in (*epochs, EVERY_EPOCH)]
    return or_(
        *(
            scope.rows & (BUDGETS.c.spent_nano_rho > by_scope(caps)[scope.kind] - cost_nano_rho)
            for scope in (campaign(plan_hash), *months, LIFETIME)
        )
    )


def by_scope(caps: Caps) -> dict[str, int]:
    """Each cap by the kind of scope that it limits."""
    return {
        _CAMPAIGN: caps.campaign_nano_rho,
        _EPOCH: caps.epoch_nano_rho,
        _LIFETIME: caps.lifetime_nano_rho,
    }


def _listed(
    connection: Connection, subjects: Sequence[str]
) -> tuple[TableValuedAlias, ColumnElement[bool]]:
    """The subjects as a table with the column `value`, and as the condition on a total.

    One parameter each, however many subjects there are; PostgreSQL uses its index for an array but
    not for a table of unknown content.
    """
    value = column("value", Text)
    if connection.dialect.name == "postgresql":
        array = literal(list(subjects), postgresql.ARRAY(Text))
        table = func.unnest(array).table_valued(value).render_derived()
        return table, BUDGETS.c.subject == any_(array)
    table = func.json_each(json.dumps(subjects)).table_valued(value)
    return table, BUDGETS.c.subject.in_(select(table.c.value))


def _make_rows(connection: Connection, scope: Scope, names: TableValuedAlias) -> None:
    """A total for each of the named subjects that has none: rows that can be locked.

    A month begins with what older charges, which know no month, spent in every month.
    """
    initial: ColumnElement[int] = literal(0)
    if scope.kind == _EPOCH:
        older = BUDGETS.alias()
        in_every_month = (
            select(older.c.spent_nano_rho)
            .where(older.c.kind == _EPOCH, older.c.name == EVERY_EPOCH)
            .where(older.c.subject == names.c.value)
            .scalar_subquery()
        )
        initial = func.coalesce(in_every_month, 0)
    rows = select(literal(scope.kind), literal(scope.name), names.c.value, initial).order_by(
        names.c.value
    )
    columns = [column.name for column in BUDGETS.columns]
    statement: Insert
    if connection.dialect.name == "postgresql":
        statement = postgresql.insert(BUDGETS).from_select(columns, rows).on_conflict_do_nothing()
    else:
        statement = sqlite.insert(BUDGETS).from_select(columns, rows).on_conflict_do_nothing()
    connection.execute(statement)
