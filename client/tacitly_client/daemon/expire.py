"""Removes what is kept no longer: python -P -m tacitly_client.daemon.expire --home DIR

Run by the vault at its start and once an hour, also while capture is paused, withdrawn or away.
"""

import sys

from tacitly_client.daemon.process import run_process
from tacitly_client.home import AgentHome
from tacitly_client.sandbox import inner_rules


def serve(home: AgentHome) -> None:
    """Once.

    Raises:
        StoreError: not finished; the next run goes on.
    """
    from tacitly_client.store import expire

    expire(home.store)


if __name__ == "__main__":
    sys.exit(run_process(__doc__, inner_rules, serve))
