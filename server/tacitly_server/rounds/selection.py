"""Who takes part in an attempt: uniformly, without replacement, among those who may be asked."""

import random
from collections.abc import Callable, Mapping
from typing import Final

from flwr.serverapp import Grid

from tacitly_common.campaign import CohortPlan
from tacitly_server.rounds.clock import Clock

_POLL_SECONDS: Final = 0.5

# Every enrolled node and its subject.
Enrolled = Callable[[], Mapping[int, str]]


def select(
    grid: Grid,
    cohort: CohortPlan,
    enrolled: Enrolled,
    left_out: frozenset[str],
    *,
    clock: Clock,
    rng: random.Random,
    permitted: Callable[[], bool],
) -> dict[int, str] | None:
    """The selected nodes and their subjects, or None if too few came online in time.

    "In time" is also: before the round was not `permitted` any more.

    1. Eligible are the subjects outside `left_out` with an enrolled node online.
    2. Wait until as many as the plan asks are there (or all who could ever come, if fewer), at most
       `selection_timeout_seconds`.
    3. With fewer than `minimum`, give up.
    4. Draw at most that many subjects uniformly without replacement, and one node of each: two
       devices of one person do not double the person's weight, nor the odds to be drawn.
    """
    deadline = clock.monotonic() + cohort.selection_timeout_seconds
    while True:
        subjects = enrolled()
        online: dict[str, list[int]] = {}
        for node in grid.get_nodes():
            subject = subjects.get(node.node_id)
            if subject is not None and subject not in left_out:
                online.setdefault(subject, []).append(node.node_id)
        wanted = min(cohort.asked, len(set(subjects.values()) - left_out))
        if len(online) >= max(wanted, cohort.minimum) or clock.monotonic() >= deadline:
            break
        if not permitted():
            return None
        clock.sleep(_POLL_SECONDS)
    if len(online) < cohort.minimum:
        return None
    drawn = rng.sample(sorted(online), min(cohort.asked, len(online)))
    return {rng.choice(online[subject]): subject for subject in drawn}
