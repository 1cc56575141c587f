"""The control service as a process of its own: python -P -m tacitly_client.control --home DIR"""

import sys
import threading

from tacitly_client.daemon.process import run_process
from tacitly_client.home import AgentHome
from tacitly_client.processes import stop_on_signals
from tacitly_client.sandbox import inner_rules


def serve(home: AgentHome) -> None:
    """Until SIGTERM or SIGINT.

    Raises:
        ValidationError: another control service runs for this home.
    """
    from tacitly_client.capture.clock import SystemClock
    from tacitly_client.control.service import serving

    stop = threading.Event()
    stop_on_signals(stop)
    with serving(home, SystemClock()):
        stop.wait()


if __name__ == "__main__":
    sys.exit(run_process(__doc__, inner_rules, serve))
