"""`tacitly-agent run`: starts the agent's processes, starts again what ends, ends them in order.

Each is started again by itself, with pauses that grow to some seconds. All end when this one
does, by SIGKILL too. This process opens neither store nor key nor network.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from tacitly_client.daemon.process import process_command
from tacitly_client.daemon.state import AgentState, PartState
from tacitly_client.home import AgentHome, read_settings
from tacitly_client.live_file import LiveFile
from tacitly_client.local_socket import private_directory
from tacitly_client.now import locks
from tacitly_client.processes import is_held, only_process, stop_on_signals
from tacitly_common.processes import Backoff, Child

_TICK_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 5.0
_END_SECONDS: Final = 6.0
# It tells the server that it goes.
_NODE_END_SECONDS: Final = 10.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Part:
    """One process: its module, and whether it is to run now."""

    name: str
    module: str
    wanted: Callable[[AgentHome], bool] = lambda _home: True
    end_seconds: float = _END_SECONDS


def parts_for(environ: Mapping[str, str], *, capture: bool) -> tuple[Part, ...]:
    """What runs here, in the order of starting; tray and capture only where there is a desktop."""
    parts = [
        Part("vault", "tacitly_client.daemon.vault_main"),
        Part("node", "tacitly_client.node", _enrolled, _NODE_END_SECONDS),
        Part("control", "tacitly_client.control"),
    ]
    if capture and (environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")):
        parts += [Part("tray", "tacitly_client.tray"), Part("capture", "tacitly_client.capture")]
    return tuple(parts)


def supervise(
    home: AgentHome, parts: Sequence[Part], *, stop: threading.Event | None = None
) -> None:
    """Keep the parts running until stopped; if `stop` is None, SIGTERM and SIGINT do.

    Raises:
        ValidationError: no agent is set up here, or another one runs.
    """
    read_settings(home)
    if stop is None:
        stop = threading.Event()
        stop_on_signals(stop)
    private_directory(home.root)
    private_directory(home.run)
    with ExitStack() as stack:
        stack.enter_context(only_process(home.agent_lock, "agent"))
        state = LiveFile(home.agent_state)
        stack.callback(state.close)
        children = [(part, _child(home, part)) for part in parts]
        # The last started ends first, and nothing that this one began outlives it.
        for part, child in children:
            stack.callback(child.end, part.end_seconds)
        shown = None
        while not stop.is_set():
            for part, child in children:
                wanted = part.wanted(home)
                if child.pid is not None and not wanted:
                    child.end(part.end_seconds)
                elif child.pid is not None or (wanted and not _lives(home, part)):
                    child.tend()
            now = AgentState(
                pid=os.getpid(),
                parts=tuple(
                    PartState(name=part.name, pid=child.pid, restarts=child.restarts)
                    for part, child in children
                ),
            )
            if now != shown:
                state.show(now)
                shown = now
            stop.wait(_TICK_SECONDS)


def _child(home: AgentHome, part: Part) -> Child:
    return Child(
        name=part.name,
        command=process_command(part.module, home),
        environment=os.environ,
        log=None,
        clock=time.monotonic,
        report=log.warning,
        backoff=Backoff(time.monotonic, longest=_LONGEST_PAUSE_SECONDS),
    )


def _lives(home: AgentHome, part: Part) -> bool:
    """Whether somebody else, such as systemd, has started it; one that is just ending does too."""
    lock = locks(home).get(part.name)
    return lock is not None and is_held(lock)


def _enrolled(home: AgentHome) -> bool:
    """Withdrawing takes the file away; then nothing of this device is on the wire."""
    return home.enrolment.exists()
