"""A device for tests: an initialised home without events, its agent in a thread or a process."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from homes import agree
from officers import Log
from stock_flower import StockSuperLink, eventually
from tacitly_client.daemon.vault import vault_of
from tacitly_client.home import AgentHome, AgentSettings, TrainWhen
from tacitly_client.ledger import DeviceLedger
from tacitly_client.node.agent import run_agent
from tacitly_client.node.identity import create_node_key
from tacitly_client.node.transport import ServerClock
from tacitly_common.campaign import CampaignPlan

FAKE_TRAINER = Path(__file__).parent / "client" / "fake_trainer.py"


@dataclass(frozen=True)
class Device:
    """One device and the number the server has for it."""

    home: AgentHome
    settings: AgentSettings
    plan: CampaignPlan
    node_id: int

    def trainer(self, mode: str) -> Sequence[str]:
        """A trainer that does what `mode` says (fake_trainer.py)."""
        coordinates = str(self.plan.model.trainable_parameters)
        return [sys.executable, str(FAKE_TRAINER), mode, coordinates, str(self.home.root)]

    def jobs(self) -> list[tuple[int, int]]:
        """(round, attempt) of every job that reached the trainer."""
        path = self.home.root / "jobs"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(int(line.split()[1]), int(line.split()[2])) for line in lines]


def enrolled(
    superlink: StockSuperLink,
    directory: Path,
    plan: CampaignPlan,
    *,
    heartbeat_seconds: float = 30,
    log: Log | None = None,
    desk: str = "127.0.0.1:1",
) -> Device:
    """A new device whose key the server knows, which has joined `plan`.

    `log` is the officers' log as enrolment left it; one in which `plan` runs if None.
    """
    home = AgentHome(directory)
    home.create()
    settings = AgentSettings(
        server=superlink.address,
        lifetime_cap_nano_rho=plan.cap_nano_rho,
        poll_seconds=0.2,
        idle_poll_seconds=0.2,
        heartbeat_seconds=heartbeat_seconds,
        refresh_seconds=0.3,
        train_when=TrainWhen.ALWAYS,
    )
    home.settings.write_bytes(msgspec.json.encode(settings))
    agree(home, log or Log().start(plan), joined=plan, desk=desk)
    DeviceLedger.create(home.ledger).close()
    home.ca_certificate.write_bytes(superlink.ca_certificate.read_bytes())
    return Device(home, settings, plan, superlink.register(create_node_key(home)))


@contextmanager
def vault(home: AgentHome, trainer: Sequence[str] | None = None) -> Iterator[None]:
    """The home's vault, also with another trainer, in a thread of the test's own process."""
    with vault_of(home, trainer=trainer) as serving:
        thread = threading.Thread(target=serving.serve)
        thread.start()
        try:
            yield
        finally:
            serving.stop()
            thread.join()


@contextmanager
def agent(
    device: Device,
    superlink: StockSuperLink,
    *,
    trainer: str = "ok",
    clock: ServerClock | None = None,
) -> Iterator[threading.Thread]:
    """Vault and node in threads of the test's own process; online when entered."""
    stop = threading.Event()
    thread = threading.Thread(
        target=run_agent,
        args=(device.home, device.settings),
        kwargs={"stop": stop, "clock": clock},
    )
    with vault(device.home, device.trainer(trainer)):
        thread.start()
        try:
            eventually(lambda: superlink.status(device.node_id) == "online")
            # The server knows first: the agent has yet to read the answer and keep its number.
            eventually(device.home.node_id.exists)
            yield thread
        finally:
            stop.set()
            thread.join()


@contextmanager
def agent_process(home: AgentHome) -> Iterator[subprocess.Popen[bytes]]:
    """The node as it is deployed: a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tacitly_client.node", "--home", str(home.root)],
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
