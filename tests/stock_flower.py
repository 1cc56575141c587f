"""An unmodified SuperLink on loopback, and a hand that drives its runs from inside a test.

`drive` takes a run's ServerApp task from SuperLink's Runtime API (which stock Flower leaves open
to anybody) and returns a Grid, so that a test itself is the server's program. Imports Flower's
internals: it stands for the servers out there, not for ours.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from flwr.app import Message, RecordDict
from flwr.cli.build import build_fab_from_disk
from flwr.common.serde import run_from_proto, user_config_to_proto
from flwr.proto.control_pb2 import ListNodesRequest, RegisterNodeRequest, StartRunRequest
from flwr.proto.fab_pb2 import Fab
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullTaskInputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid

from tacitly_server.certificates import create

BIN = Path(sys.executable).parent
_TASK_HEARTBEAT_SECONDS = 5.0
_T = TypeVar("_T")


def eventually(value: Callable[[], _T | None], *, within_seconds: float = 120.0) -> _T:
    """The first result of `value` that is neither None nor False.

    Patient: what is waited for is a real process, on a machine that may be doing other things.
    """
    end = time.monotonic() + within_seconds
    while time.monotonic() < end:
        result = value()
        if result:
            return result
        time.sleep(0.1)
    raise TimeoutError(f"not within {within_seconds} s")


@dataclass(frozen=True)
class Drive:
    """One run, driven by the test."""

    run_id: int
    grid: HttpGrid

    def ask(
        self, node_id: int, content: RecordDict, *, kind: str = "train", ttl: float = 180.0
    ) -> str:
        """Send a message to a node; its id."""
        message = Message(content, node_id, kind, ttl=ttl)
        (message_id,) = self.grid.push_messages([message])
        return message_id

    def answer(self, message_id: str, *, within_seconds: float = 120.0) -> Message:
        """The reply to a message."""

        def reply() -> Message | None:
            for message in self.grid.pull_messages([message_id]):
                if message.metadata.reply_to_message_id == message_id:
                    return message
            return None

        return eventually(reply, within_seconds=within_seconds)


class StockSuperLink:
    """`flower-superlink` with TLS and node authentication; its state is a file."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.tls = directory / "tls"
        create(self.tls, ["127.0.0.1", "localhost"], now=datetime.now(UTC))
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def ca_certificate(self) -> Path:
        return self.tls / "ca.crt"

    def start(self) -> None:
        command = [
            BIN / "flower-superlink",
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *("--ssl-ca-certfile", self.tls / "ca.crt"),
            *("--ssl-certfile", self.tls / "server.crt"),
            *("--ssl-keyfile", self.tls / "server.key"),
            "--enable-supernode-auth",
            *("--database", self.directory / "superlink.db"),
            *("--isolation", "process"),
            "--disable-runtime-dependency-installation",
        ]
        with (self.directory / "superlink.log").open("ab") as log:
            self._process = subprocess.Popen(
                list(map(str, command)),
                stdout=log,
                stderr=log,
                env=flower_environment(self.directory),
                start_new_session=True,
            )
        try:
            eventually(self._answers)
        except BaseException:
            self.stop()
            raise

    def _answers(self) -> bool:
        try:
            with self.control() as control:
                control.ListNodes(ListNodesRequest())
        except httpx.HTTPError:
            return False
        return True

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, number)
            self._process.wait()
            self._process = None

    @contextmanager
    def control(self) -> Iterator[ControlHttpClient]:
        with ControlHttpClient.from_server_address(
            self.address, False, self.ca_certificate.read_bytes(), interceptors=[]
        ) as client:
            yield client

    def register(self, public_pem: bytes) -> int:
        """Register a node's key; its number."""
        with self.control() as control:
            node_id: int = control.RegisterNode(RegisterNodeRequest(public_key=public_pem)).node_id
            return node_id

    def status(self, node_id: int) -> str:
        """A node's status."""
        with self.control() as control:
            nodes = control.ListNodes(ListNodesRequest()).nodes_info
            return next(str(node.status) for node in nodes if node.node_id == node_id)

    def start_run(self, fab: bytes, *, prompt: str = "", **override: Any) -> int:
        """Start a run of a bundle, as anybody who reaches the port can; its number."""
        request = StartRunRequest(
            fab=Fab(content=fab),
            override_config=user_config_to_proto(override),
            user_prompt=prompt,
        )
        with self.control() as control:
            run_id: int = control.StartRun(request).run_id
            return run_id

    @contextmanager
    def drive(self, run_id: int, *, task_type: str = "flwr-serverapp") -> Iterator[Drive]:
        """Take over the run's task, as anybody can who reaches the port."""
        with RuntimeHttpClient.from_server_address(
            self.address, False, self.ca_certificate.read_bytes(), interceptors=[]
        ) as client:
            acquired = eventually(
                lambda: _acquired(client.AcquireTask(_acquire(task_type)), run_id)
            )
        grid = HttpGrid(
            self.address, root_certificates=self.ca_certificate.read_bytes(), token=acquired
        )
        given = grid._runtime_client.PullTaskInput(PullTaskInputRequest())
        TaskIdentity.task_id = given.task_id
        TaskIdentity.run_id = given.run.run_id
        TaskIdentity.node_id = given.context.node_id
        grid.set_run(run_from_proto(given.run))
        try:
            with self._kept(acquired):
                yield Drive(run_id, grid)
        finally:
            grid.close()

    @contextmanager
    def _kept(self, token: str) -> Iterator[None]:
        """Keep a task alive: without heartbeats SuperLink takes it back after 30 seconds."""
        ended = threading.Event()

        def beat() -> None:
            # Not the grid's client, which interrupts this whole process when it is refused.
            with RuntimeHttpClient.from_server_address(
                self.address,
                False,
                self.ca_certificate.read_bytes(),
                interceptors=[RuntimeTokenHttpInterceptor(token)],
            ) as client:
                while not ended.wait(_TASK_HEARTBEAT_SECONDS):
                    # SuperLink may be down, or know no such task any more: some tests want it so.
                    with suppress(httpx.HTTPError):
                        client.SendTaskHeartbeat(SendTaskHeartbeatRequest())

        thread = threading.Thread(target=beat)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _acquire(task_type: str) -> AcquireTaskRequest:
    return AcquireTaskRequest(supported_task_types=[task_type])


def _acquired(response: Any, run_id: int) -> str | None:
    return response.token if response.task.run_id == run_id else None


class StockSuperNode:
    """`flower-supernode` as its documentation starts it; its key is already registered."""

    def __init__(self, superlink: StockSuperLink, directory: Path) -> None:
        directory.mkdir()
        key = ec.generate_private_key(ec.SECP384R1())
        self.directory = directory
        (directory / "node.key").write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        )
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.node_id = superlink.register(public)
        self._superlink = superlink

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        command = [
            BIN / "flower-supernode",
            *("--superlink", self._superlink.address),
            *("--root-certificates", self._superlink.ca_certificate),
            *("--auth-supernode-private-key", self.directory / "node.key"),
            *("--host", "127.0.0.1", "--port", str(free_port())),
        ]
        with (self.directory / "supernode.log").open("ab") as log:
            process = subprocess.Popen(
                list(map(str, command)),
                stdout=log,
                stderr=log,
                env=flower_environment(self.directory),
                start_new_session=True,
            )
        try:
            yield process
        finally:
            # It shares its group with the SuperExec and the app process it has started.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def bundle(directory: Path, *, client: str, components: str = "", **config: str) -> bytes:
    """A Flower application bundle whose client module is `client`."""
    package = directory / "offered"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "client.py").write_text(client)
    (package / "server.py").write_text("from flwr.serverapp import ServerApp\napp = ServerApp()\n")
    parts = components or 'serverapp = "offered.server:app"\nclientapp = "offered.client:app"\n'
    settings = "".join(f'{name} = "{value}"\n' for name, value in config.items())
    (directory / "pyproject.toml").write_text(
        '[project]\nname = "offered"\nversion = "1.0.0"\ndependencies = []\n'
        '[tool.flwr.app]\npublisher = "anybody"\n'
        f"[tool.flwr.app.components]\n{parts}"
        f"[tool.flwr.app.config]\n{settings}"
    )
    with warnings.catch_warnings():
        # Flower's builder uses a deprecated name of a library it pins.
        warnings.simplefilter("ignore", DeprecationWarning)
        return build_fab_from_disk(directory)


def flower_environment(directory: Path) -> dict[str, str]:
    """The environment of a stock Flower process: its own state, no calls home."""
    return {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(directory),
        "FLWR_HOME": str(directory / "flwr"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
        "OMP_NUM_THREADS": "1",
    }


def free_port() -> int:
    """A port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
