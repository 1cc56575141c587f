"""The tray as a process of its own: python -P -m tacitly_client.tray --home DIR"""

import sys

from tacitly_client.daemon.process import run_process
from tacitly_client.home import AgentHome
from tacitly_client.sandbox import inner_rules


def serve(home: AgentHome) -> None:
    """Until SIGTERM or SIGINT.

    Raises:
        ScreenError, ValidationError: as `run_tray`.
    """
    from tacitly_client.tray.main import run_tray

    run_tray(home)


if __name__ == "__main__":
    sys.exit(run_process(__doc__, inner_rules, serve))
