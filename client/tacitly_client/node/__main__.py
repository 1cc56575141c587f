"""The node as a process of its own: python -P -m tacitly_client.node --home DIR"""

import sys

from tacitly_client.daemon.process import run_process
from tacitly_client.home import AgentHome, read_settings
from tacitly_client.sandbox import node_rules


def serve(home: AgentHome) -> None:
    """Until SIGTERM or SIGINT.

    Raises:
        ValidationError, PlanError: the home cannot be used.
    """
    from tacitly_client.node.agent import run_agent

    run_agent(home, read_settings(home))


if __name__ == "__main__":
    sys.exit(run_process(__doc__, node_rules, serve))
