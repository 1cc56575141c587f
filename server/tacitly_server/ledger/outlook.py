"""How far the population's budgets still go for a plan, and what another plan leaves of them.

Who has spent what is read and counted here and does not leave: results are of the population.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, func, or_, select

from tacitly_common.accounting.caps import Caps
from tacitly_common.verify_ledger import EVERY_EPOCH
from tacitly_server.ledger.budgets import LIFETIME, Scope, by_scope, campaign, epoch
from tacitly_server.ledger.database import open_database, reading
from tacitly_server.ledger.journal import Kind
from tacitly_server.ledger.population import AttemptState
from tacitly_server.ledger.summary import LEAST_COUNT
from tacitly_server.ledger.tables import ATTEMPTS, BUDGETS, JOURNAL

Spent = Mapping[Scope, int]


@dataclass(frozen=True, slots=True)
class Claim:
    """What a plan may take: each of `rounds` rounds charges `asked` of `population` persons."""

    plan_hash: str
    epochs: tuple[str, ...]
    cost_nano_rho: int
    caps: Caps
    population: int
    asked: int
    rounds: int

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """Where it is charged."""
        return (campaign(self.plan_hash), *map(epoch, self.epochs), LIFETIME)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is left for a plan.

    `rounds_feasible` is how many more rounds the budgets pay for, `rounds_planned` how many more
    the plan has. `persons_left` can pay for one more round; None where they, or the others, are
    too few to be counted. `rounds_per_day` and `ends` are None before the plan's second charge.
    """

    rounds_released: int
    rounds_planned: int
    rounds_feasible: int
    persons_left: int | None
    rounds_per_day: float | None
    ends: datetime | None


def outlook(
    where: Path | str, claim: Claim, *, now: datetime, beside: Claim | None = None
) -> Outlook:
    """What is left for `claim`; with `beside`, if everybody first uses all that one may cost them.

    Raises:
        LedgerError: there is no ledger, or it cannot be read.
    """
    engine = open_database(where, create=False)
    try:
        with reading(engine) as connection:
            spent = _spent(connection, claim, beside)
            released = _rounds_released(connection, claim.plan_hash)
            pace = _rounds_per_day(connection, claim.plan_hash)
    finally:
        engine.dispose()
    # Who has no row has spent nothing.
    people = [*spent.values(), *[{}] * (claim.population - len(spent))]
    left = Counter(participations_left(claim, one, beside) for one in people)
    planned, feasible = claim.rounds - released, rounds_payable(left, claim.asked)
    return Outlook(
        rounds_released=released,
        rounds_planned=planned,
        rounds_feasible=feasible,
        persons_left=_countable(len(people) - left[0], left[0]),
        rounds_per_day=pace,
        ends=None if pace is None else now + timedelta(days=min(planned, feasible) / pace),
    )


def participations_left(claim: Claim, spent: Spent, beside: Claim | None = None) -> int:
    """How often one person can still pay, having spent so much in each scope."""
    caps, months, reserved = by_scope(claim.caps), set(map(epoch, claim.epochs)), 0
    if beside is not None:
        own = beside.scopes[0]
        reserved = max(0, beside.caps.campaign_nano_rho - spent.get(own, 0))

    def room(scope: Scope) -> int:
        # A month without a total begins with what was charged before months were kept.
        before = spent.get(epoch(EVERY_EPOCH), 0) if scope in months else 0
        taken = spent.get(scope, before)
        if beside is not None and scope in beside.scopes:
            taken += reserved
        return caps[scope.kind] - taken

    return max(0, min(map(room, claim.scopes)) // claim.cost_nano_rho)


def rounds_payable(left: Mapping[int, int], asked: int) -> int:
    """The most rounds of `asked` different persons; `left` counts persons by payments left.

    r rounds can be filled iff the persons' payments, at most r each, are at least r x asked
    (Gale 1957, Ryser 1957, with equal rounds).
    """
    low, high = 0, sum(payments * persons for payments, persons in left.items()) // asked
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(p, middle) * persons for p, persons in left.items()) >= middle * asked:
            low = middle
        else:
            high = middle - 1
    return low


def _countable(count: int, others: int) -> int | None:
    hidden = range(1, LEAST_COUNT)
    return None if count in hidden or others in hidden else count


def _spent(
    connection: Connection, claim: Claim, beside: Claim | None
) -> dict[str, dict[Scope, int]]:
    scopes = {*claim.scopes, epoch(EVERY_EPOCH), *(beside.scopes if beside is not None else ())}
    rows = connection.execute(select(BUDGETS).where(or_(*(scope.rows for scope in scopes))))
    spent: dict[str, dict[Scope, int]] = defaultdict(dict)
    for row in rows:
        spent[row.subject][Scope(row.kind, row.name)] = row.spent_nano_rho
    return spent


def _rounds_released(connection: Connection, plan_hash: str) -> int:
    return connection.execute(
        select(func.count(ATTEMPTS.c.round.distinct()))
        .where(ATTEMPTS.c.plan_hash == plan_hash)
        .where(ATTEMPTS.c.state == AttemptState.RELEASED)
    ).scalar_one()


def _rounds_per_day(connection: Connection, plan_hash: str) -> float | None:
    """Charged attempts a day between the first and the last; None if these are not apart."""
    charged = (JOURNAL.c.plan_hash == plan_hash) & (JOURNAL.c.kind == Kind.CHARGED)
    count, first, last = connection.execute(
        select(func.count(), func.min(JOURNAL.c.time), func.max(JOURNAL.c.time)).where(charged)
    ).one()
    if count < 2 or first == last:
        return None
    span = datetime.fromisoformat(last) - datetime.fromisoformat(first)
    return float((count - 1) / (span / timedelta(days=1)))
