"""The same two devices, run by Tacitly's agent or by Flower's SuperNode.

A device is an agent's directory: its events, its ledger, its key. Which program runs on it is
the only difference between the two sides.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import psutil
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tacitly_client.campaigns import check, join, leave
from tacitly_client.home import AgentHome, AgentSettings, TrainWhen
from tacitly_client.node.identity import load_node_key
from tacitly_client.refresh import refresh
from tacitly_common.campaign import CampaignPlan

_STOP_SECONDS: Final = 20.0
_KEPT_VARIABLES: Final = ("LANG", "LC_ALL", "TMPDIR")
_SCRIPTS: Final = Path(sys.executable).parent

_APPLICATION: Final = """\
[project]
name = "stock-device"
version = "1.0.0"
dependencies = []

[tool.flwr.app]
publisher = "tacitly"

[tool.flwr.app.components]
serverapp = "tacitly_server.app:app"
clientapp = "tacitly_simulations.bench.stock_client:app"

[tool.flwr.app.config]
campaign = ""
"""


@dataclass(frozen=True, slots=True)
class Server:
    """Where devices find the server, through the counting proxy."""

    address: str
    ca_certificate: Path


def configure(
    home: AgentHome, plan: CampaignPlan, server: Server, changes: Mapping[str, float]
) -> None:
    """Join a campaign instead of the former, with default settings but for `changes`.

    Raises:
        TacitlyError: the desk does not answer, or its log does not let the plan run.
    """
    now = datetime.now(UTC)
    leave(home, now=now)
    join(home, check(refresh(home, now=now), plan.hash, now=now), "a benchmark", now=now)
    settings = AgentSettings(
        server=server.address,
        lifetime_cap_nano_rho=100 * plan.cap_nano_rho,
        train_when=TrainWhen.ALWAYS,
        **changes,
    )
    home.settings.write_bytes(msgspec.json.encode(settings))


def agent_command(home: AgentHome) -> list[str]:
    """Our agent."""
    return [str(_SCRIPTS / "tacitly-agent"), "run", "--home", str(home.root)]


def supernode_command(home: AgentHome, server: Server) -> list[str]:
    """Flower's SuperNode as it ships, with the device's key; it trains in the device's home."""
    key = home.root / "node.ssh"
    key.touch(mode=0o600)
    key.write_bytes(
        load_node_key(home).private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    )
    return [
        str(_SCRIPTS / "flower-supernode"),
        *("--superlink", server.address),
        *("--root-certificates", str(server.ca_certificate)),
        *("--auth-supernode-private-key", str(key)),
        *("--host", "127.0.0.1", "--port", str(_free_port())),
        *("--node-config", f'home="{home.root}"'),
    ]


def stock_bundle(directory: Path) -> bytes:
    """The Flower application whose ClientApp is `stock_client`, built by `flwr build`."""
    directory.mkdir()
    (directory / "pyproject.toml").write_text(_APPLICATION)
    subprocess.run(
        [str(_SCRIPTS / "flwr"), "build", "--app", str(directory)],
        cwd=directory,
        env=_environment(directory),
        check=True,
        capture_output=True,
    )
    (built,) = directory.glob("*.fab")
    return built.read_bytes()


@contextmanager
def running(commands: Mapping[Path, list[str]]) -> Iterator[list[int]]:
    """Run a command in each directory; the process ids. On leaving all are asked to end."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for directory, command in commands.items():
            with (directory / "device.log").open("ab") as log:
                processes.append(
                    subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        env=_environment(directory),
                        start_new_session=True,
                    )
                )
        yield [process.pid for process in processes]
    finally:
        _end(processes)


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    trees = [_descendants(process.pid) for process in processes]
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process, descendants in zip(processes, trees, strict=True):
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # A SuperNode's SuperExec notices its parent's end only after a while.
        for each in descendants:
            with suppress(psutil.NoSuchProcess):
                each.kill()


def _descendants(process_id: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(process_id).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _environment(directory: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return kept | {
        "PATH": os.pathsep.join([str(_SCRIPTS), os.environ.get("PATH", os.defpath)]),
        "HOME": str(directory),
        "FLWR_HOME": str(directory / "flower"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
