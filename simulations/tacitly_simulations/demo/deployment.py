"""Starts and stops a real deployment on this machine, through the commands people use.

    with Deployment.create(root, plan, model) as deployment:
        deployment.add_agent("ada", events)      # invite, enrol, replay, join
        deployment.start_agents()
        ...
                                                 # leaving stops every process

The server runs under its supervisor (`tacitly-server up`), each agent is a process of its own
with its own store, keys and ledger. Nothing here reaches into a running part: what is shown
of it is read from its files.
"""

import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from tacitly_client.home import AgentHome
from tacitly_common.accounting.subject import epsilon_of
from tacitly_common.campaign import CampaignPlan
from tacitly_common.errors import TacitlyError
from tacitly_common.events import Event, to_json_line
from tacitly_server.home import ServerHome
from tacitly_simulations.demo.office import Office, policy_for

_STOP_SECONDS: Final = 20.0
# Names and keys of this process's surroundings are no business of the deployment's.
_KEPT_VARIABLES: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "VIRTUAL_ENV")


class DeploymentError(TacitlyError):
    """A part of the deployment failed; the message names the part, its output and its log."""


@dataclass(slots=True)
class Agent:
    """One agent: its directory and, while it runs, its process."""

    name: str
    home: AgentHome
    process: subprocess.Popen[bytes] | None = None


@dataclass(slots=True)
class Deployment:
    """Server and agents below `root`. A context manager."""

    root: Path
    plan: CampaignPlan
    port: int
    desk_port: int
    server: ServerHome
    office: Office
    supervisor: subprocess.Popen[bytes] | None = None
    agents: list[Agent] = field(default_factory=list)

    @classmethod
    def create(
        cls, root: Path, plan: CampaignPlan, model: NDArray[np.float32], *, campaigns: int = 1
    ) -> Self:
        """Initialise and start the server, and have its officers start the campaign.

        The policy's budgets are those of so many campaigns like it, one after the other.

        Raises:
            DeploymentError: a command failed.
        """
        deployment = cls.prepare(root, plan, campaigns=campaigns)
        try:
            deployment.start_campaign(plan, model)
        except BaseException:
            deployment.stop()
            raise
        return deployment

    @classmethod
    def prepare(cls, root: Path, plan: CampaignPlan, *, campaigns: int = 1) -> Self:
        """Initialise and start the server; no campaign was proposed yet. Else as `create`.

        Raises:
            DeploymentError: a command failed.
        """
        root.mkdir(parents=True, exist_ok=True)
        server, office = ServerHome(root / "server"), Office(root / "officers", _run)
        deployment = cls(root, plan, _free_port(), _free_port(), server, office)
        deployment._server_command("init")
        office.begin_log(server.root, policy_for(plan, campaigns=campaigns))
        deployment.start_server()
        return deployment

    def start_campaign(self, plan: CampaignPlan, model: NDArray[np.float32]) -> None:
        """Have the officers propose, approve and start a plan.

        Raises:
            DeploymentError: one of them was refused.
        """
        desk = f"127.0.0.1:{self.desk_port}"
        self.office.start(plan, model, desk=desk, ca=self.server.tls / "ca.crt")

    def start_server(self) -> None:
        """Start the supervisor and wait until SuperLink and desk answer.

        Raises:
            DeploymentError: it ended or did not answer within a minute.
        """
        own = self.server.campaign(self.plan.hash)
        self.supervisor = self._start(
            "server",
            [
                "tacitly-server", "up",
                "--home", str(self.server.root),
                "--port", str(self.port),
                "--enrolment-port", str(self.desk_port),
                *(["--campaign", self.plan.hash] if own.root.exists() else []),
            ],
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while self.supervisor.poll() is None and time.monotonic() < deadline:
            if all(map(_listening, (self.port, self.desk_port))):
                return
            time.sleep(0.2)
        raise DeploymentError(f"the server did not start; see {self._log('server')}")

    def restart_server(self) -> None:
        """End the server and start it anew: now it keeps to the deployment's own campaign.

        Raises:
            DeploymentError: as `start_server`.
        """
        if self.supervisor is not None:
            _end([self.supervisor])
        self.start_server()

    def add_agent(self, name: str, events: Iterable[Event], *, poll_seconds: float = 0.5) -> Agent:
        """Enrol an agent, fill its store by replay and join the campaign.

        Raises:
            DeploymentError: a command failed.
        """
        agent = self.enrol(name, poll_seconds=poll_seconds)
        recording = b"\n".join(to_json_line(event) for event in events)
        self.run_agent_command(agent, "replay", "-", stdin=recording)
        self.join(agent)
        return agent

    def enrol(self, name: str, *, poll_seconds: float = 0.5) -> Agent:
        """Invite a person and enrol an agent of theirs.

        Raises:
            DeploymentError: a command failed.
        """
        agent = Agent(name, AgentHome(self.root / "agents" / name))
        agent.home.root.parent.mkdir(exist_ok=True)
        invitation = agent.home.root.with_suffix(".invitation")
        invitation.write_bytes(
            self._server_command("invite", "--person", name, "--address", "127.0.0.1")
        )
        self.run_agent_command(
            agent,
            "enrol", str(invitation),
            "--lifetime-epsilon", self._campaign_epsilon(),
            "--poll-seconds", str(poll_seconds),
            "--idle-poll-seconds", str(poll_seconds),
            "--heartbeat-seconds", "10",
            # Nobody sits at these machines.
            "--train-when", "always",
        )  # fmt: skip
        self.agents.append(agent)
        return agent

    def join(self, agent: Agent) -> None:
        """Have an agent's person join the campaign.

        Raises:
            DeploymentError: it was refused.
        """
        self.run_agent_command(agent, "join", self.plan.hash, "--yes")

    def run_agent_command(self, agent: Agent, *arguments: str, stdin: bytes = b"") -> bytes:
        """The standard output of a `tacitly-agent` command for an agent.

        Raises:
            DeploymentError: it failed.
        """
        return _run(["tacitly-agent", *arguments, "--home", str(agent.home.root)], stdin)

    def start_agents(self, *, program: str = "") -> None:
        """Start every agent that does not run."""
        for agent in self.agents:
            if agent.process is None or agent.process.poll() is not None:
                self.start_agent(agent, program=program)

    def start_agent(self, agent: Agent, *, display: str = "", program: str = "") -> None:
        """Start one agent's process; one with a display takes a program there for a person.

        `program` is a module to run in the place of `tacitly-agent run`, with the home.
        """
        home = str(agent.home.root)
        if display:
            program = "tacitly_simulations.demo.desktop_agent"
        if program:
            command = [Path(sys.executable).name, "-P", "-m", program, home]
            agent.process = self._start(agent.name, command, DISPLAY=display)
        else:
            command = ["tacitly-agent", "run", "--home", home]
            agent.process = self._start(agent.name, command)

    def stop_agents(self) -> None:
        """End every agent that runs: first asked, then killed."""
        _end([agent.process for agent in self.agents if agent.process is not None])

    def stop(self) -> None:
        """End agents, then the server: first asked, then killed."""
        self.stop_agents()
        if self.supervisor is not None:
            _end([self.supervisor])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _campaign_epsilon(self) -> str:
        """What the plan may cost in all, rounded up: nobody here takes part in anything else."""
        epsilon = epsilon_of(self.plan.cap_nano_rho, float(self.plan.delta))
        return str(math.ceil(epsilon) + 1)

    def _server_command(self, *arguments: str) -> bytes:
        return _run(["tacitly-server", *arguments, "--home", str(self.server.root)])

    def _start(self, name: str, command: list[str], **environ: str) -> subprocess.Popen[bytes]:
        log = self._log(name)
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as output:
            return subprocess.Popen(
                [_script(command[0]), *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**_environment(), **environ},
                # Ctrl-C reaches the demo, which then stops its parts in order.
                start_new_session=True,
            )

    def _log(self, name: str) -> Path:
        return self.root / "logs" / f"{name}.log"


def _run(command: list[str], stdin: bytes = b"") -> bytes:
    """The standard output of a command that must succeed."""
    result = subprocess.run(
        [_script(command[0]), *command[1:]],
        input=stdin,
        capture_output=True,
        env=_environment(),
        check=False,
    )
    if result.returncode != 0:
        shown = " ".join(command[:3])
        raise DeploymentError(
            f"`{shown} ...` exited with {result.returncode}: {result.stderr.decode()[-2000:]}"
        )
    return result.stdout


def _script(name: str) -> str:
    """The console script beside the running interpreter."""
    return str(Path(sys.executable).with_name(name))


def _environment() -> Mapping[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def _listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
