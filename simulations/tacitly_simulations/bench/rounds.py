"""Rounds of one campaign after another, on one server, by the same two devices.

For each setting: a campaign runs, then the devices are started anew and idle. Seconds, bytes and
processor time are taken between the releases of the first and the last round, so that neither
the start nor an idle agent's first poll counts.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from tacitly_common.campaign import CampaignPlan
from tacitly_common.errors import TacitlyError
from tacitly_common.events import data_epochs
from tacitly_server.bundle import app_hash, bundle
from tacitly_server.control import Control
from tacitly_server.rounds.receipts import Outcome, Receipt, model_sha256, read_receipts
from tacitly_simulations.bench.devices import (
    Server,
    agent_command,
    configure,
    running,
    stock_bundle,
    supernode_command,
)
from tacitly_simulations.bench.meter import (
    Idle,
    PeakMemory,
    machine_cpu_seconds,
    tree_cpu_seconds,
    watch_idle,
)
from tacitly_simulations.bench.meter import tree_memory_bytes as memory_bytes
from tacitly_simulations.bench.plan import DEVICES, initial_model, rounds_plan
from tacitly_simulations.bench.proxy import CountingProxy, Traffic
from tacitly_simulations.datasets.synthetic import synthetic_person
from tacitly_simulations.demo.deployment import Deployment

_EVENTS: Final = 30_000
_SETTLE_SECONDS: Final = 10.0
_AFTER_ROUND_SECONDS: Final = 4.0
_LOOK_SECONDS: Final = 0.05
_PATIENCE_SECONDS: Final = 240.0

Report = Callable[[str], None]


class BenchError(TacitlyError):
    """A measurement could not be made; the message names the part."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Which program runs on the devices. `agent`: changes of our agent's settings; None: stock."""

    name: str
    label: str
    agent: Mapping[str, float] | None


STOCK: Final = "stock"

SETTINGS: Final = (
    Setting("shipped", "Tacitly, as it ships", {}),
    Setting(
        "fresh_trainer",
        "Tacitly, new trainer each round",
        {"idle_poll_seconds": 3.0, "trainer_linger_seconds": 0.1},
    ),
    Setting(
        "eager",
        "Tacitly, polls each 0.5 s",
        {"idle_poll_seconds": 0.5, "poll_seconds": 0.5},
    ),
    Setting(STOCK, "Flower SuperNode", None),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one setting cost. Memory, processor time and bytes are of one device.

    `other_cores_busy`: how many cores were at work for neither devices nor server. Whatever is
    much above zero has slowed this row down.
    """

    name: str
    label: str
    seconds_a_round: float
    rounds_seconds: tuple[float, ...]
    idle_memory_bytes: float
    idle_cpu_percent: float
    after_round_memory_bytes: float
    peak_memory_bytes: float
    cpu_seconds_a_round: float
    bytes_up_a_round: float
    bytes_down_a_round: float
    lost_attempts: int
    other_cores_busy: float


@dataclass(frozen=True, slots=True)
class _Moment:
    """A round was released."""

    at: float
    traffic: Traffic
    cpu_seconds: float
    other_cpu_seconds: float


def measure_rounds(
    root: Path, *, rounds: int, idle_seconds: float, report: Report
) -> tuple[Row, ...]:
    """All settings in turn.

    Raises:
        BenchError, DeploymentError: something did not start or did not get through.
    """
    model = initial_model()
    people = [synthetic_person(seed, _EVENTS) for seed in range(DEVICES)]

    def plan(name: str) -> CampaignPlan:
        return rounds_plan(
            name,
            rounds,
            campaigns=len(SETTINGS),
            app_hash=app_hash(),
            initial_model_hash=model_sha256(model),
            data_epochs=data_epochs(event for person in people for event in person.events),
        )

    plans = {setting.name: plan(setting.name) for setting in SETTINGS}
    stock = stock_bundle(root / "stock-bundle")
    with (
        Deployment.create(
            root / "site", plans[SETTINGS[0].name], model, campaigns=len(SETTINGS)
        ) as site,
        CountingProxy(site.port) as proxy,
    ):
        site.restart_server()
        server = Server(f"127.0.0.1:{proxy.port}", site.server.tls / "ca.crt")
        report("installing two devices")
        for number, person in enumerate(people):
            site.add_agent(f"device-{number}", person.events)
        rows = []
        for setting in SETTINGS:
            report(setting.label)
            fab = bundle() if setting.agent is not None else stock
            bench = _Bench(site, proxy, server, setting, plans[setting.name], fab)
            rows.append(bench.row(idle_seconds))
    return tuple(rows)


@dataclass(frozen=True, slots=True)
class _Bench:
    """One setting on the running site."""

    site: Deployment
    proxy: CountingProxy
    server: Server
    setting: Setting
    plan: CampaignPlan
    fab: bytes

    def row(self, idle_seconds: float) -> Row:
        """Every round of the campaign, then devices without one."""
        self._start()
        commands = self._commands()
        with running(commands) as devices:
            with PeakMemory(devices) as peak:
                moments = self._watch(devices)
            time.sleep(_AFTER_ROUND_SECONDS)
            after = statistics.fmean(memory_bytes(device) for device in devices)
        with running(commands) as devices:
            time.sleep(_SETTLE_SECONDS)
            idle = watch_idle(devices, idle_seconds)
        return self._row(idle, moments, peak.mean_bytes, after)

    def _start(self) -> None:
        """Start the run, but for the site's own campaign: `tacitly-server up` does that.

        It keeps to that one, so that the others can be started with another bundle than ours.
        """
        if self.plan == self.site.plan:
            return
        self.site.start_campaign(self.plan, initial_model())
        with Control.of(self.site.server, self.site.port) as control:
            control.start(self.fab, campaign=self.plan.hash)

    def _commands(self) -> dict[Path, list[str]]:
        commands = {}
        for agent in self.site.agents:
            configure(agent.home, self.plan, self.server, self.setting.agent or {})
            commands[agent.home.root] = (
                agent_command(agent.home)
                if self.setting.agent is not None
                else supernode_command(agent.home, self.server)
            )
        return commands

    def _watch(self, devices: list[int]) -> list[_Moment]:
        """When each round was released, and what had been used until then."""
        moments: list[_Moment] = []
        last = time.monotonic()
        while len(moments) < self.plan.rounds:
            released = [r for r in self._receipts() if r.outcome is Outcome.RELEASED]
            now = time.monotonic()
            if len(released) > len(moments):
                cpu = sum(tree_cpu_seconds(device) for device in devices)
                others = machine_cpu_seconds() - cpu - self._own_cpu_seconds()
                moments.append(_Moment(now, self.proxy.traffic, cpu, others))
                last = now
            elif now - last > _PATIENCE_SECONDS:
                raise BenchError(
                    f"{self.setting.label}: no round for {_PATIENCE_SECONDS:.0f} s; "
                    f"see the logs in {self.site.root}"
                )
            time.sleep(_LOOK_SECONDS)
        return moments

    def _own_cpu_seconds(self) -> float:
        """Of this process (proxy, meters) and of the server."""
        server = self.site.supervisor
        return time.process_time() + (tree_cpu_seconds(server.pid) if server else 0.0)

    def _receipts(self) -> list[Receipt]:
        return read_receipts(self.site.server.campaign(self.plan.hash).receipts)

    def _row(self, idle: Idle, moments: list[_Moment], peak: float, after: float) -> Row:
        seconds = tuple(later.at - earlier.at for earlier, later in pairwise(moments))
        device_rounds = DEVICES * len(seconds)
        first, last = moments[0], moments[-1]
        traffic = last.traffic - first.traffic
        lost = [r for r in self._receipts() if r.outcome is Outcome.LOST]
        return Row(
            name=self.setting.name,
            label=self.setting.label,
            seconds_a_round=statistics.median(seconds),
            rounds_seconds=seconds,
            idle_memory_bytes=idle.memory_bytes,
            idle_cpu_percent=idle.cpu_percent,
            after_round_memory_bytes=after,
            peak_memory_bytes=peak,
            cpu_seconds_a_round=(last.cpu_seconds - first.cpu_seconds) / device_rounds,
            bytes_up_a_round=traffic.up / device_rounds,
            bytes_down_a_round=traffic.down / device_rounds,
            lost_attempts=len(lost),
            other_cores_busy=(last.other_cpu_seconds - first.other_cpu_seconds)
            / (last.at - first.at),
        )
