"""`python -m tacitly_client.node --home DIR`: the agent as a process of its own."""

import argparse
import sys
from pathlib import Path

from tacitly_client.home import AgentHome, read_settings
from tacitly_client.node.agent import run_agent
from tacitly_client.processes import log_to_stderr
from tacitly_common.errors import TacitlyError


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tacitly_client.node", description=__doc__)
    parser.add_argument("--home", required=True, type=Path, help="the agent's directory")
    home = AgentHome(parser.parse_args().home)
    log_to_stderr()
    try:
        run_agent(home, read_settings(home))
    except TacitlyError as error:
        sys.stderr.write(f"tacitly-agent: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
