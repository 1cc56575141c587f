"""What the active campaign's Flower run needs, from one look to the next."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from tacitly_common.processes import Backoff
from tacitly_server.bundle import bundle
from tacitly_server.control import ControlError, Run

# SuperExec claims a task before it starts the process; a live one shows up well within this.
_SPAWN_SECONDS: Final = 5.0
_CONFIRM_SECONDS: Final = 0.5

Report = Callable[[str], None]


class Runs(Protocol):
    """The part of `Control` that is needed here."""

    def runs(self) -> Sequence[Run]:
        """Newest first."""

    def start(self, fab: bytes, *, campaign: str) -> int:
        """The new run's id."""

    def stop(self, run_id: int) -> None:
        """End it."""


@dataclass(slots=True)
class RunKeeper:
    """Decides what the active campaign's run needs. One `look` is one decision.

    1. Unfinished runs beyond the newest are stopped (an answer to "start" may have been lost).
    2. A run whose ServerApp is gone is stopped: Flower would wait for its heartbeat. A run that
       is only starting is given time; a running one is seen twice, since a ServerApp ends its
       run before its process.
    3. With no unfinished run, a new one is started, unless the last one that was started here
       completed (the campaign is over). Failures without a round in between pause ever longer.
    """

    control: Runs
    report: Report
    clock: Callable[[], float]
    started: int = 0
    newest: Run | None = None
    _mine: set[int] = field(default_factory=set)
    _gone_since: float | None = None
    _failed: set[int] = field(default_factory=set)
    _released_round: int = 0
    _backoff: Backoff = field(init=False)

    def __post_init__(self) -> None:
        self._backoff = Backoff(self.clock, first=1.0, longest=60.0)

    def look(self, campaign: str, released_round: int, *, serverapp_lives: bool) -> None:
        """See the runs and do what is due.

        Raises:
            ControlError: SuperLink did not answer; nothing is lost, look again.
        """
        if released_round > self._released_round:
            self._released_round = released_round
            self._backoff.reset()
        runs = [run for run in self.control.runs() if run.campaign == campaign]
        self.newest = runs[0] if runs else None
        unfinished = [run for run in runs if not run.finished]
        for extra in unfinished[1:]:
            self.control.stop(extra.run_id)
        if unfinished:
            self._keep(unfinished[0], serverapp_lives=serverapp_lives)
        elif not serverapp_lives:
            self._start(campaign)

    @property
    def over(self) -> bool:
        """The last run started here completed: the ServerApp has nothing left to do."""
        run = self.newest
        return run is not None and run.run_id in self._mine and run.sub_status == "completed"

    def _keep(self, run: Run, *, serverapp_lives: bool) -> None:
        if serverapp_lives or run.status == "pending":
            self._gone_since = None
            return
        now = self.clock()
        if self._gone_since is None:
            self._gone_since = now
            return
        patience = _SPAWN_SECONDS if run.status == "starting" else _CONFIRM_SECONDS
        if now - self._gone_since >= patience:
            self.report(f"the ServerApp of run {run.run_id} is gone; stopping the run")
            self.control.stop(run.run_id)
            self._gone_since = None

    def _start(self, campaign: str) -> None:
        last = self.newest
        if self.over:
            return
        if last is not None and last.run_id in self._mine and last.run_id not in self._failed:
            self._failed.add(last.run_id)
            pause = self._backoff.failed()
            why = f": {last.details}" if last.details else ""
            self.report(f"run {last.run_id} ended ({last.sub_status}){why}; next in {pause:g} s")
        if not self._backoff.over:
            return
        try:
            run_id = self.control.start(bundle(), campaign=campaign)
        except ControlError:
            self._backoff.failed()
            raise
        self._mine.add(run_id)
        self.started += 1
        self.report(f"started run {run_id} of campaign {campaign[:12]}")
