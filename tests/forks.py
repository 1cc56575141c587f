"""Processes that start at once: a server process loads everything first, and then forks."""

import multiprocessing
import os
import signal
import sys
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from unittest.mock import patch


def forks(*preload: str) -> ForkServerContext:
    """Where processes come from in which these modules are loaded already.

    Ask for it where the first one is started: a test process has one such server at a time, and
    it keeps to what it has loaded at its start.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    # Python 3.11 leaves a module out that lies elsewhere than in its usual places, as tests do.
    with patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):
        forkserver.ensure_running()
    return context


def end_forkserver() -> None:
    """End this process's server, if there is one. What it has forked goes on."""
    server = forkserver._forkserver
    if server._forkserver_pid is not None:
        os.kill(server._forkserver_pid, signal.SIGKILL)
    server._stop()
