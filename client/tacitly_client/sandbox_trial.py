"""python -P -m tacitly_client.sandbox_trial HOME: breaks the rules of node and vault, or fails to.

Exit code 0 if neither could be broken; else a line for each that could, and 1. `confine` tells
what it could not do; this tells what it could not prevent.
"""

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from tacitly_client.home import AgentHome
from tacitly_client.sandbox import Rules, confine, inner_rules, node_rules


def main() -> int:
    """The exit code."""
    home = AgentHome(Path(sys.argv[1]))
    trials: list[tuple[Rules, Callable[[], object], str]] = [
        (node_rules(home), lambda: list(home.store.iterdir()), "the node can open the store"),
        (
            inner_rules(home),
            lambda: socket.socket(socket.AF_INET).close(),
            "what sees events can reach the network",
        ),
    ]
    return max(_tried(*trial) for trial in trials)


def _tried(rules: Rules, broken: Callable[[], object], told: str) -> int:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    missing = confine(rules).missing
    try:
        broken()
    except PermissionError:
        os._exit(0)
    print(f"{told}; {missing}", flush=True)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
