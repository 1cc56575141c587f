"""What this device holds to, read from its home; anew when a file has changed.

`tacitly-agent join`, `leave`, `pause`, a withdrawal and a refresh change the home of an agent that
runs: they only write files, and the agent looks at these before it judges, and again before it
sends an update.
"""

from dataclasses import replace

from tacitly_client.campaigns import joined_plan
from tacitly_client.capture.clock import Clock
from tacitly_client.contract_store import ContractStore
from tacitly_client.files import Watch
from tacitly_client.home import AgentHome
from tacitly_client.node.policy import Agreement, agreement
from tacitly_client.pause import read_pause
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
    """Reads a home's agreement, and again only after one of its files was replaced.

    While the person has paused it is that of somebody who has joined nothing: from outside the two
    are the same, in every answer and in how often this device asks.
    """

    def __init__(self, home: AgentHome, clock: Clock) -> None:
        """Raises what `read_agreement` does."""
        self._home = home
        self._clock = clock
        files = (home.enrolment, home.contract, home.contract_problem, home.plan, home.consent)
        self._read = Watch(lambda: self._both(home), *files)

    def current(self) -> Agreement:
        """The agreement now; the same object while nothing has changed.

        Raises:
            PlanError, ValidationError: as `read_agreement`.
        """
        active, paused = self._read()
        return paused if read_pause(self._home, self._clock).paused else active

    @staticmethod
    def _both(home: AgentHome) -> tuple[Agreement, Agreement]:
        held = read_agreement(home)
        return held, replace(held, joined=None)
