"""Who took part when and how often: the queries behind a plan's participation limits.

Every charged attempt counts, also a lost one. What a ledger was charged with after a restore
(`backup.py`) has no time of its own and counts for rounds and epochs only.
"""

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import CompoundSelect, Select, func, or_, select, union

from tacitly_common.campaign import ParticipationLimits
from tacitly_common.verify_ledger import EVERY_EPOCH
from tacitly_server.ledger.journal import Kind, timestamp
from tacitly_server.ledger.tables import ATTEMPTS, CHARGES, JOURNAL


def resting(
    plan_hash: str, round_number: int, limits: ParticipationLimits, *, now: datetime
) -> Select[str]:
    """Who was charged for another round of the plan too short a while ago, in rounds or hours."""
    gap_rounds, gap_hours = limits.minimum_gap_rounds, limits.minimum_gap_hours
    too_near = (ATTEMPTS.c.round > round_number - gap_rounds) & (
        ATTEMPTS.c.round < round_number + gap_rounds
    )
    charged_at = (
        select(JOURNAL.c.time)
        .where(
            JOURNAL.c.plan_hash == ATTEMPTS.c.plan_hash,
            JOURNAL.c.round == ATTEMPTS.c.round,
            JOURNAL.c.attempt == ATTEMPTS.c.attempt,
            JOURNAL.c.kind == Kind.CHARGED,
        )
        .scalar_subquery()
    )
    too_late = charged_at > timestamp(now - timedelta(hours=gap_hours))
    return (
        select(CHARGES.c.subject)
        .join(ATTEMPTS, ATTEMPTS.c.id == CHARGES.c.attempt_id)
        .where(ATTEMPTS.c.plan_hash == plan_hash, ATTEMPTS.c.round != round_number)
        .where(or_(too_near, too_late))
        .distinct()
    )


def often_asked(epochs: Collection[str], *, most: int) -> CompoundSelect[str]:
    """Who was charged `most` times or more for the data of one of the months, by whatever plan."""
    return union(
        *(
            select(CHARGES.c.subject)
            .where(CHARGES.c.epoch.in_((epoch, EVERY_EPOCH)))
            .group_by(CHARGES.c.subject)
            .having(func.count() >= most)
            for epoch in epochs
        )
    )
