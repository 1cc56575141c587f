"""What this device holds to, read from its home; anew when a file has changed.

`tacitly-agent join`, `leave` and a refresh change the home of an agent that runs: they only write
files, and the agent looks at these before it judges.
"""

from pathlib import Path

from tacitly_client.campaigns import joined_plan
from tacitly_client.contract_store import ContractStore
from tacitly_client.home import AgentHome
from tacitly_client.node.policy import Agreement, agreement
from tacitly_common.contract.acts import ContractError


def read_agreement(home: AgentHome) -> Agreement:
    """What the home says now.

    A log that was altered is part of the answer: every task is refused with its code.

    Raises:
        PlanError: `plan.json` holds no plan.
        ValidationError: no agent is enrolled here.
    """
    store = ContractStore(home)
    try:
        return agreement(store.load(), store.problem(), joined_plan(home))
    except ContractError as error:
        return agreement(None, error.code, joined_plan(home))


class AgreementWatch:
    """Reads a home's agreement, and again only after one of its files was replaced."""

    def __init__(self, home: AgentHome) -> None:
        """Raises what `read_agreement` does."""
        self._home = home
        self._seen = self._marks()
        self._held = read_agreement(home)

    def current(self) -> Agreement:
        """The agreement now; the same object while nothing has changed.

        Raises:
            PlanError, ValidationError: as `read_agreement`.
        """
        marks = self._marks()
        if marks != self._seen:
            # Taken before reading: what changes meanwhile is seen the next time.
            self._held = read_agreement(self._home)
            self._seen = marks
        return self._held

    def _marks(self) -> list[tuple[int, int, int] | None]:
        home = self._home
        return [
            _mark(path)
            for path in (home.enrolment, home.contract, home.contract_problem, home.plan)
        ]


def _mark(path: Path) -> tuple[int, int, int] | None:
    """What differs between a file and the one that replaced it; None without a file."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    return state.st_ino, state.st_mtime_ns, state.st_size
