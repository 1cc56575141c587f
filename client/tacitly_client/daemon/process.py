"""How each process of the agent begins: `python -P -m MODULE --home DIR [--parent-pid PID]`.

-P: what happens to lie in the working directory is no program of ours.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from tacitly_client.home import AgentHome
from tacitly_client.processes import log_to_stderr
from tacitly_client.sandbox import Rules, confine
from tacitly_common.errors import TacitlyError
from tacitly_common.processes import end_with_parent

log = logging.getLogger(__name__)


def process_command(module: str, home: AgentHome) -> list[str]:
    """The command line of a process that ends when this one does."""
    program = [sys.executable, "-P", "-m", module]
    return [*program, "--home", str(home.root), "--parent-pid", str(os.getpid())]


def run_process(
    description: str | None,
    rules: Callable[[AgentHome], Rules],
    serve: Callable[[AgentHome], None],
) -> int:
    """Hold this process to its rules, then serve; the exit code.

    `serve` imports what it needs itself: libraries start threads, which rules would not hold.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--home", required=True, type=Path, help="the agent's directory")
    parser.add_argument("--parent-pid", type=int, help="end when this process ends")
    arguments = parser.parse_args()
    if arguments.parent_pid is not None:
        end_with_parent(arguments.parent_pid)
    os.umask(0o077)
    home = AgentHome(arguments.home)
    log_to_stderr()
    confined = confine(rules(home))
    if confined.missing:
        log.warning("%s", confined.missing)
    try:
        serve(home)
    except TacitlyError as error:
        sys.stderr.write(f"tacitly-agent: {error}\n")
        return error.exit_code
    return 0
