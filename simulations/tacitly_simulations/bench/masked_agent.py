"""The agent of `masked_kills.py`: python -P -m tacitly_simulations.bench.masked_agent HOME

As `tacitly-agent run`, but that its node is that of `masked_node.py`.
"""

import sys
from dataclasses import replace
from pathlib import Path

from tacitly_client.daemon.supervisor import parts_for, supervise
from tacitly_client.home import AgentHome
from tacitly_client.processes import log_to_stderr

if __name__ == "__main__":
    log_to_stderr()
    parts = [
        replace(part, module="tacitly_simulations.bench.masked_node")
        if part.name == "node"
        else part
        for part in parts_for({}, capture=False)
    ]
    supervise(AgentHome(Path(sys.argv[1])), parts)
