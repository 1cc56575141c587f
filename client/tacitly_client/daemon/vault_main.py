"""The vault as a process of its own: python -P -m tacitly_client.daemon.vault_main --home DIR"""

import signal
import sys

from tacitly_client.daemon.process import run_process
from tacitly_client.home import AgentHome
from tacitly_client.sandbox import inner_rules


def serve(home: AgentHome) -> None:
    """Until SIGTERM or SIGINT.

    Raises:
        ValidationError: another vault runs for this home.
    """
    from tacitly_client.daemon.vault import vault_of

    with vault_of(home) as vault:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: vault.stop())
        vault.serve()


if __name__ == "__main__":
    sys.exit(run_process(__doc__, inner_rules, serve))
