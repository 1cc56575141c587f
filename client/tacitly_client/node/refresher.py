"""Refreshes the officers' log and the released models beside the agent: at its start, then hourly.
Never raises.

It only writes the home's files; the agent looks at those. So a desk that is slow, silent or lying
holds up no round.
"""

import logging
import random
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Final, Self

from tacitly_client.home import AgentHome
from tacitly_client.ledger_report import LedgerReport
from tacitly_client.model_fetch import fetch_model, running_campaigns
from tacitly_client.node.backoff import Backoff, Pause, Trouble, Wake
from tacitly_client.refresh import refresh
from tacitly_common.contract.acts import ContractError
from tacitly_common.contract.model_receipt import ModelRefusedError
from tacitly_common.errors import TacitlyError
from tacitly_common.wire.desk_errors import DeskError, DeskNotAuthorisedError

# Thousands of devices that were started together must not stay together.
_JITTER: Final = (0.8, 1.2)

log = logging.getLogger(__name__)


class Refresher:
    """A thread that refreshes about every `seconds`, from entering to leaving.

    `report` gives the ledger's, which this process may not open. After a desk that did not answer
    it asks again sooner, each time later, up to `seconds`.
    """

    def __init__(
        self,
        home: AgentHome,
        *,
        report: Callable[[], LedgerReport],
        seconds: float,
        now: Callable[[], datetime],
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._home = home
        self._report = report
        self._seconds = seconds
        self._now = now
        self._uniform = uniform
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="refresher", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        pause = Pause.on(self._stop)
        backoff = Backoff(self._uniform)
        while True:
            wait = self._seconds * self._uniform(*_JITTER)
            trouble = self._trouble()
            if trouble is None:
                backoff.reset()
            else:
                wait = min(wait, backoff.wait_after(trouble))
            if pause.for_seconds(wait) is Wake.STOPPED:
                return

    def _trouble(self) -> Trouble | None:
        """Refresh once; what kept the desk from answering, None if nothing did."""
        try:
            contract = refresh(
                self._home, now=self._now(), report=self._report, stopped=self._stop.is_set
            )
            for plan_hash in running_campaigns(contract, now=self._now()):
                self._fetch(plan_hash)
        except ContractError as error:
            log.warning("refused what the desk says: %s", error.code.name)
        except DeskError as error:
            log.info("the desk: %s", type(error).__name__)
            refused = isinstance(error, DeskNotAuthorisedError)
            return Trouble.UNAUTHENTICATED if refused else Trouble.SERVER
        except Exception as error:
            # Foreign words could hold anything; our own hold no content.
            shown = error if isinstance(error, TacitlyError) else type(error).__name__
            log.warning("no refresh: %s", shown)
            return Trouble.UNKNOWN
        return None

    def _fetch(self, plan_hash: str) -> None:
        try:
            fetch_model(self._home, plan_hash, now=self._now(), stopped=self._stop.is_set)
        except ModelRefusedError as error:
            # One campaign's bad model keeps nobody from the next campaign's.
            log.warning("refused a model: %s", error)
