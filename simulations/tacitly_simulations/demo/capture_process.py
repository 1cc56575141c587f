"""The demo's capture process: as shipped, but that it takes a program's events for a person's.

On a display that has a keyboard it refuses, and the product has no setting for it.
"""

import sys

from tacitly_client.daemon.process import run_process
from tacitly_client.home import AgentHome
from tacitly_client.sandbox import inner_rules


def serve(home: AgentHome) -> None:
    """Until SIGTERM or SIGINT.

    Raises:
        StoreError, ValidationError: as `run_capture`.
    """
    from tacitly_client.capture.main import run_capture

    run_capture(home, keep_injected=True)


if __name__ == "__main__":
    sys.exit(run_process(__doc__, inner_rules, serve))
