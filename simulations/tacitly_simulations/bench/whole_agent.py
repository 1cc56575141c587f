"""What a whole agent costs while nobody does anything.

    python -m tacitly_simulations.bench.whole_agent

One enrolled agent whose person agreed to capture, with its indicator on an Xvfb of its own, and
a server on the same machine. Each of its processes is looked at for a minute.

Resident counts every page a process holds, so what two of them share counts twice; *its share*
(PSS) divides such a page among all that hold it. Wakeups are voluntary context switches.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import psutil
from rich.console import Console
from rich.table import Table

from tacitly_client.daemon.state import AgentState
from tacitly_client.live_file import read_live
from tacitly_common.errors import TacitlyError
from tacitly_server.bundle import app_hash
from tacitly_server.rounds.receipts import model_sha256
from tacitly_simulations.bench.meter import cpu_seconds, wakeups
from tacitly_simulations.bench.plan import initial_model, rounds_plan
from tacitly_simulations.demo.deployment import Agent, Deployment
from tacitly_simulations.demo.desktop import Desktop

_PATIENCE_SECONDS: Final = 120.0
_SETTLE_SECONDS: Final = 45.0
_PROCESSES: Final = ("vault", "node", "control", "tray", "capture")


class AgentBenchError(TacitlyError):
    """The agent did not come up."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one process: bytes, percent of one core, voluntary switches a second."""

    name: str
    resident_bytes: int
    share_bytes: int
    cpu_percent: float
    wakeups_per_second: float


def measure(root: Path, seconds: float) -> list[Cost]:
    """The processes of one idle agent.

    Raises:
        DesktopError: there is no Xvfb.
        AgentBenchError, DeploymentError: something did not start.
    """
    plan = rounds_plan(
        "idle",
        1,
        app_hash=app_hash(),
        initial_model_hash=model_sha256(initial_model()),
        data_epochs=("2026-01",),
    )
    with Desktop() as desktop, Deployment.prepare(root, plan) as site:
        agent = site.enrol("idle", poll_seconds=75.0)
        site.run_agent_command(agent, "consent", "give", "--yes")
        site.start_agent(agent, display=desktop.display)
        processes = _processes(agent)
        time.sleep(_SETTLE_SECONDS)
        before = {name: _used(process) for name, process in processes.items()}
        began = time.monotonic()
        time.sleep(seconds)
        elapsed = time.monotonic() - began
        return [_cost(name, p, before[name], elapsed) for name, p in processes.items()]


def _processes(agent: Agent) -> dict[str, psutil.Process]:
    """The supervisor and its parts, as soon as all run."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < end:
        state = read_live(agent.home.agent_state, AgentState)
        pids = {} if state is None else {p.name: p.pid for p in state.parts if p.pid is not None}
        if state is not None and set(_PROCESSES) <= set(pids):
            return {
                "supervisor": psutil.Process(state.pid),
                **{name: psutil.Process(pids[name]) for name in _PROCESSES},
            }
        time.sleep(0.5)
    raise AgentBenchError("the agent's processes did not all start")


def _used(process: psutil.Process) -> tuple[float, int]:
    return cpu_seconds(process), wakeups(process)


def _cost(name: str, process: psutil.Process, before: tuple[float, int], elapsed: float) -> Cost:
    seconds, woken = _used(process)
    memory = process.memory_full_info()
    return Cost(
        name,
        memory.rss,
        memory.pss,
        100 * (seconds - before[0]) / elapsed,
        (woken - before[1]) / elapsed,
    )


@click.command()
@click.option("--seconds", default=60.0, show_default=True, type=click.FloatRange(5))
def main(seconds: float) -> None:
    """Measure, and print a table."""
    with tempfile.TemporaryDirectory(prefix="tacitly-idle-") as directory:
        costs = measure(Path(directory), seconds)
    table = Table("process", "% of a core", "wakeups/s", "MB resident", "MB, its share")
    for cost in costs:
        table.add_row(
            cost.name,
            f"{cost.cpu_percent:.2f}",
            f"{cost.wakeups_per_second:.1f}",
            f"{cost.resident_bytes / 1e6:.0f}",
            f"{cost.share_bytes / 1e6:.0f}",
        )
    table.add_row(
        "all",
        f"{sum(c.cpu_percent for c in costs):.2f}",
        f"{sum(c.wakeups_per_second for c in costs):.1f}",
        f"{sum(c.resident_bytes for c in costs) / 1e6:.0f}",
        f"{sum(c.share_bytes for c in costs) / 1e6:.0f}",
    )
    Console(width=90).print(table)


if __name__ == "__main__":
    main()
