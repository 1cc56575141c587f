"""Figures of the whole population, from which nobody can be picked out."""

from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec
from sqlalchemy import func, select

from tacitly_common.accounting.caps import Caps
from tacitly_server.ledger.budgets import LIFETIME
from tacitly_server.ledger.database import open_database, reading
from tacitly_server.ledger.tables import ATTEMPTS, BUDGETS, JOURNAL

# A count of people below this is not shown.
LEAST_COUNT: Final = 5
_BUCKETS: Final = 10


class Bucket(msgspec.Struct, frozen=True):
    """How many subjects have spent more than `above_nano_rho`, at most `up_to_nano_rho`.

    `subjects` is None for 1 to `LEAST_COUNT` - 1: too few to hide among.
    """

    above_nano_rho: int
    up_to_nano_rho: int
    subjects: int | None


class Summary(msgspec.Struct, frozen=True):
    """What was spent in all scopes' lifetime. Counts are None where they are too small to show.

    `largest_spent_nano_rho` is the worst person's, whom nothing else here tells apart.
    """

    subjects: int | None
    largest_spent_nano_rho: int
    attempts: int
    entries: int
    distribution: tuple[Bucket, ...]


def summary(where: Path | str, caps: Caps | None = None) -> Summary:
    """The population's lifetime totals in ten buckets up to the lifetime cap.

    Without `caps` the buckets end at the largest total. A small count is suppressed together with
    enough neighbours, smallest first, that it cannot be had from the sum.

    Raises:
        LedgerError: there is no ledger, or it cannot be read.
    """
    engine = open_database(where, create=False)
    try:
        with reading(engine) as connection:
            totals = list(
                connection.execute(select(BUDGETS.c.spent_nano_rho).where(LIFETIME.rows)).scalars()
            )
            attempts = connection.execute(select(func.count()).select_from(ATTEMPTS)).scalar_one()
            entries = connection.execute(select(func.count()).select_from(JOURNAL)).scalar_one()
    finally:
        engine.dispose()
    largest = max(totals, default=0)
    end = max(largest, caps.lifetime_nano_rho if caps else 0, 1)
    return Summary(
        subjects=_shown(len(totals)),
        largest_spent_nano_rho=largest,
        attempts=attempts,
        entries=entries,
        distribution=distribution(totals, end),
    )


def distribution(totals: list[int], end: int) -> tuple[Bucket, ...]:
    bounds = [end * k // _BUCKETS for k in range(_BUCKETS + 1)]
    counts = [sum(low < spent <= high for spent in totals) for low, high in pairwise(bounds)]
    hidden = {k for k, count in enumerate(counts) if 0 < count < LEAST_COUNT}
    # One hidden count, or several that sum to few, could be had by subtraction from all.
    rest = sorted((count, k) for k, count in enumerate(counts) if count >= LEAST_COUNT)
    while hidden and rest and (len(hidden) == 1 or sum(counts[k] for k in hidden) < LEAST_COUNT):
        hidden.add(rest.pop(0)[1])
    return tuple(
        Bucket(low, high, None if k in hidden else counts[k])
        for k, (low, high) in enumerate(pairwise(bounds))
    )


def _shown(count: int) -> int | None:
    return None if 0 < count < LEAST_COUNT else count
