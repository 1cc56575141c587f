"""A campaign over devices in this process, on a clock that costs no time."""

import random
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from campaign_home import make_home, subject
from inprocess_grid import FakeClock, InProcessGrid, honest

from ledgers import open_ledger, witness_in
from plans import small_plan
from tacitly_server.campaigns.grants import Grants
from tacitly_server.ledger.population import Attempt, PopulationLedger
from tacitly_server.rounds.campaign import Campaign, Patience, run_campaign
from tacitly_server.rounds.checkpoint import Checkpoint, read_checkpoint, read_initial
from tacitly_server.rounds.permit import Ending, Permits
from tacitly_server.rounds.receipts import Receipt

if TYPE_CHECKING:
    from tacitly_server.rounds.clock import Clock

D = small_plan().model.trainable_parameters
SEVEN = np.full(D, 7, dtype=np.int32)
NODES = range(1, 9)


class Lab:
    """Eight devices, each of its own subject, and one server on a fake clock."""

    def __init__(self, root: Path, **changes: Any) -> None:
        fields: dict[str, Any] = {"rounds": 3, "participations": 3}
        self.made = make_home(root, **(fields | changes))
        self.plan, self.directory = self.made.plan, self.made.directory
        self.clock: Clock = FakeClock()
        self.grid = InProcessGrid({n: honest(self.plan, SEVEN) for n in NODES}, self.clock)
        self.enrolled = {n: subject(n) for n in NODES}
        self.permits: Permits = Grants.open(self.made.home, self.plan)
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.seen: list[Receipt] = []
        self.seen_at: list[float] = []

    def run(
        self,
        patience: Patience | None = None,
        on_round: Callable[[Receipt], None] = lambda _receipt: None,
        on_release: Callable[[Checkpoint], None] = lambda _checkpoint: None,
    ) -> Ending:
        def see(receipt: Receipt) -> None:
            self.seen.append(receipt)
            self.seen_at.append(self.clock.monotonic())
            on_round(receipt)

        path = self.made.home.population_database
        with PopulationLedger(path, witness_in(path.parent), now=self.now) as ledger:
            return run_campaign(
                Campaign(
                    grid=self.grid,
                    plan=self.plan,
                    directory=self.directory,
                    ledger=ledger,
                    enrolled=lambda: self.enrolled,
                    permits=self.permits,
                    on_round=see,
                    on_release=on_release,
                    clock=self.clock,
                    rng=random.Random(1),
                    patience=patience or Patience(),
                )
            )

    def pauses(self) -> list[float]:
        """Seconds after each receipt until the next one, or the end. Answers take no time here."""
        return [b - a for a, b in pairwise([*self.seen_at, self.clock.monotonic()])]

    def attempts(self) -> list[Attempt]:
        with open_ledger(self.made.home.population_database) as ledger:
            return ledger.attempts(self.plan.hash)

    def checkpoint(self) -> Checkpoint:
        return read_checkpoint(self.directory.checkpoint, self.plan)

    def moved_by(self, *usable: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The initial model after rounds with so many answers of `SEVEN`, by plain SGD."""
        model = read_initial(self.directory, self.plan).model
        for n in usable:
            step = 7 * n * self.plan.grid_step / self.plan.cohort.target
            model = model + np.float32(step)
        return model
