"""The capture process of tests: python -P tests/capture_process.py --home HOME

As shipped, but that it takes a program's events for a person's, since on a test's display nobody
else types, and stores classes at once: without gate and hold-back, which `trials/capture.py` has.
The product has no setting for either.
"""

import sys

from tacitly_client.daemon.process import run_process
from tacitly_client.home import AgentHome
from tacitly_client.sandbox import inner_rules


def serve(home: AgentHome) -> None:
    """Until SIGTERM or SIGINT."""
    from tacitly_client.capture.content import NoContent
    from tacitly_client.capture.main import run_capture

    run_capture(home, content=NoContent(), keep_injected=True)


if __name__ == "__main__":
    sys.exit(run_process(__doc__, inner_rules, serve))
