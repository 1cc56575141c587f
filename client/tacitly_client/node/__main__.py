"""The node as a process of its own: python -P -m tacitly_client.node --home DIR"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tacitly_client.daemon.process import run_process
from tacitly_client.home import AgentHome, read_settings
from tacitly_client.processes import stop_on_signals
from tacitly_client.sandbox import node_rules

_LOOK_SECONDS: Final = 1.0


def serve(home: AgentHome) -> None:
    """Until SIGTERM or SIGINT: be on the wire while this device is enrolled, else wait.

    The supervisor starts a node only for an enrolled device; a service manager does not look.

    Raises:
        ValidationError, PlanError: the home cannot be used.
    """
    stop = threading.Event()
    stop_on_signals(stop)
    while not stop.is_set():
        if not home.enrolment.exists():
            stop.wait(_LOOK_SECONDS)
            continue
        from tacitly_client.node.agent import run_agent

        with _enrolled(home, stop) as ended:
            run_agent(home, read_settings(home), stop=ended)


@contextmanager
def _enrolled(home: AgentHome, stop: threading.Event) -> Iterator[threading.Event]:
    """An event that is set at `stop`, and when withdrawing has taken the enrolment away."""
    ended = threading.Event()

    def watch() -> None:
        while home.enrolment.exists() and not stop.wait(_LOOK_SECONDS):
            pass
        ended.set()

    threading.Thread(target=watch, name="enrolment", daemon=True).start()
    yield ended


if __name__ == "__main__":
    sys.exit(run_process(__doc__, node_rules, serve))
