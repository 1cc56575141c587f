"""The capture process: python -P -m tacitly_client.capture --home DIR"""

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

    run_capture(home)


if __name__ == "__main__":
    sys.exit(run_process(__doc__, inner_rules, serve))
