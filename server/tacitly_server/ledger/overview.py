"""What the ledger holds, by campaign and by month. Figures of all, and of the worst person."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select

from tacitly_common.verify_ledger import EVERY_EPOCH
from tacitly_server.ledger import journal
from tacitly_server.ledger.budgets import campaign, epoch
from tacitly_server.ledger.database import open_database, reading
from tacitly_server.ledger.population import AttemptState
from tacitly_server.ledger.tables import ATTEMPTS, BUDGETS


@dataclass(frozen=True, slots=True)
class CampaignTotals:
    """A plan's attempts by how they ended, and the most that it has cost a person so far."""

    plan_hash: str
    released: int
    lost: int
    unfinished: int
    void: int
    largest_spent_nano_rho: int


@dataclass(frozen=True, slots=True)
class MonthTotals:
    """The most that a person has spent on the data of a month."""

    month: str
    largest_spent_nano_rho: int


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole ledger. `entries` and `head` are of the journal."""

    entries: int
    head: str
    campaigns: tuple[CampaignTotals, ...]
    months: tuple[MonthTotals, ...]


def overview(where: Path | str) -> Overview:
    """Campaigns by hash, months in order; charges of before months were kept are in none.

    Raises:
        LedgerError: there is no ledger, or it cannot be read.
    """
    states = select(ATTEMPTS.c.plan_hash, ATTEMPTS.c.state, func.count()).group_by(
        ATTEMPTS.c.plan_hash, ATTEMPTS.c.state
    )
    largest = select(BUDGETS.c.kind, BUDGETS.c.name, func.max(BUDGETS.c.spent_nano_rho)).group_by(
        BUDGETS.c.kind, BUDGETS.c.name
    )
    engine = open_database(where, create=False)
    try:
        with reading(engine) as connection:
            counts = Counter({(h, state): n for h, state, n in connection.execute(states)})
            spent = {(kind, name): most for kind, name, most in connection.execute(largest)}
            entries, head = journal.head(connection)
    finally:
        engine.dispose()

    def totals(plan_hash: str) -> CampaignTotals:
        scope = campaign(plan_hash)
        return CampaignTotals(
            plan_hash,
            released=counts[plan_hash, AttemptState.RELEASED],
            lost=counts[plan_hash, AttemptState.LOST],
            unfinished=counts[plan_hash, AttemptState.PLANNED]
            + counts[plan_hash, AttemptState.CHARGED],
            void=counts[plan_hash, AttemptState.VOID],
            largest_spent_nano_rho=spent.get((scope.kind, scope.name), 0),
        )

    month_kind = epoch(EVERY_EPOCH).kind
    return Overview(
        entries,
        head,
        tuple(totals(plan_hash) for plan_hash in sorted({h for h, _ in counts})),
        tuple(
            MonthTotals(name, most)
            for (kind, name), most in sorted(spent.items())
            if kind == month_kind and name != EVERY_EPOCH
        ),
    )
