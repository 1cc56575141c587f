"""The demo's `tacitly-agent run`: python -m tacitly_simulations.demo.desktop_agent HOME

The same processes under the same supervisor; capture alone is the demo's own, capture_process.py.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

from tacitly_client.daemon.supervisor import parts_for, supervise
from tacitly_client.home import AgentHome
from tacitly_client.processes import log_to_stderr


def main(home: AgentHome) -> None:
    """Until SIGTERM or SIGINT."""
    log_to_stderr()
    parts = [
        replace(part, module="tacitly_simulations.demo.capture_process")
        if part.name == "capture"
        else part
        for part in parts_for(os.environ, capture=True)
    ]
    supervise(home, parts)


if __name__ == "__main__":
    main(AgentHome(Path(sys.argv[1])))
