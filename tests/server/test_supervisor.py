"""`tacitly-server up`: what is killed comes back, and nothing outlives it. Real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

import agreement
from agreement import begin_log
from our_server import new_campaign
from stock_flower import eventually, free_port
from tacitly_common.campaign import CampaignPlan, read_plan
from tacitly_server.campaigns.filing import create_campaign
from tacitly_server.control import Control
from tacitly_server.health import Status, read_status
from tacitly_server.home import ServerHome
from tacitly_server.initialise import initialise

SERVER = Path(sys.executable).with_name("tacitly-server")


@dataclass
class Up:
    """A running `tacitly-server up` whose campaign waits for devices."""

    home: ServerHome
    port: int
    process: subprocess.Popen[bytes]

    def status(self) -> Status:
        return read_status(self.home)

    def until(self, what: Callable[[Status], bool]) -> Status:
        def seen() -> Status | None:
            if not self.home.status.exists():
                return None
            status = self.status()
            return status if status.supervisor_pid == self.process.pid and what(status) else None

        return eventually(seen)

    def working(self, *, other_than: Status | None = None) -> Status:
        """Everything is up, with another ServerApp than before."""
        former = other_than.serverapp_pid if other_than else None
        return self.until(lambda s: s.superlink_answers and s.serverapp_pid not in {None, former})


def start(home: ServerHome, port: int) -> Up:
    ports = ["--port", str(port), "--enrolment-port", str(free_port())]
    command = [SERVER, "up", "--home", home.root, *ports]
    with (home.root / "up.log").open("ab") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
    return Up(home, port, process)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    home = ServerHome(tmp_path / "home")
    initialise(home, [], now=datetime.now(UTC))
    begin_log(home)
    begin_campaign(home)
    running = start(home, free_port())
    try:
        yield running
    finally:
        running.process.terminate()
        running.process.wait()


def begin_campaign(home: ServerHome, **changes: Any) -> CampaignPlan:
    """File a campaign that officers have started."""
    plan, model = new_campaign(**changes)
    create_campaign(home, plan, model)
    agreement.start(home, plan)
    return plan


def alive(pid: int) -> bool:
    """Whether a process runs: a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pids(status: Status) -> list[int]:
    found = [status.superlink.pid, status.superexec.pid, status.serverapp_pid]
    return [pid for pid in found if pid is not None]


def test_each_process_that_is_killed_comes_back_and_the_state_stays(up: Up) -> None:
    first = up.working()
    with Control.of(up.home, up.port) as control:
        node_id = control.register(new_public_key())

    os.kill(first.serverapp_pid or 0, signal.SIGKILL)
    second = up.working(other_than=first)
    assert second.runs_started == first.runs_started + 1
    assert pids(second)[:2] == pids(first)[:2]

    os.kill(second.superlink.pid or 0, signal.SIGKILL)
    third = up.until(lambda s: s.superlink_answers and s.superlink.restarts == 1)
    assert third.serverapp_pid == second.serverapp_pid
    assert third.runs_started == second.runs_started
    with Control.of(up.home, up.port) as control:
        assert [node.node_id for node in control.nodes()] == [node_id]

    os.kill(third.superexec.pid or 0, signal.SIGKILL)
    fourth = up.until(lambda s: s.superexec.restarts == 1)
    fourth = up.working(other_than=third)
    assert fourth.superlink.pid == third.superlink.pid
    assert fourth.campaign == first.campaign

    health = subprocess.run(
        [SERVER, "health", "--home", up.home.root], capture_output=True, check=True
    )
    assert json.loads(health.stdout)["status"]["superexec"]["restarts"] == 1
    second_server = subprocess.run(
        [SERVER, "up", "--home", up.home.root, "--port", str(up.port)],
        capture_output=True,
        check=False,
    )
    assert second_server.returncode == 6
    assert b"runs already" in second_server.stderr


def test_nothing_outlives_it_ended_or_killed_and_it_starts_again(up: Up) -> None:
    before = up.working()
    up.process.terminate()
    assert up.process.wait() == 0
    assert not any(map(alive, pids(before)))
    after = up.status()
    assert (after.superlink.pid, after.superlink_answers) == (None, False)

    again = start(up.home, up.port)
    up.process = again.process
    running = again.working()
    assert running.campaign == before.campaign
    again.process.kill()
    again.process.wait()
    eventually(lambda: not any(map(alive, pids(running))))


def test_a_campaign_that_is_stopped_ends_at_once_and_the_next_one_runs(up: Up) -> None:
    working = up.working()
    plan = read_plan(up.home.campaign(working.campaign or "").plan)
    agreement.stop(up.home, plan)
    began = time.monotonic()
    stopped = up.until(lambda s: s.serverapp_pid is None and "was stopped" in s.problem)
    assert time.monotonic() - began < 10
    health = subprocess.run([SERVER, "health", "--home", up.home.root], capture_output=True)
    assert "was stopped by an officer" in json.loads(health.stdout)["status"]["problem"]

    following = begin_campaign(up.home, name="following")
    running = up.working(other_than=working)
    assert (running.campaign, running.problem) == (following.hash, "")
    assert running.runs_started == 1  # of this campaign; the stopped one was not started again
    assert stopped.runs_started == working.runs_started
    log = (up.home.logs / "serverapp.log").read_text()
    assert f"campaign {plan.name} is over: stopped by an officer" in log


def test_a_server_without_a_log_waits_for_one(tmp_path: Path) -> None:
    home = ServerHome(tmp_path / "home")
    initialise(home, [], now=datetime.now(UTC))
    running = start(home, free_port())
    try:
        running.until(lambda s: s.superlink_answers and "contract begin" in s.problem)
        begin_log(home)
        running.until(lambda s: not s.problem and s.campaign is None)
        plan = begin_campaign(home)
        assert running.working().campaign == plan.hash
    finally:
        running.process.terminate()
        running.process.wait()


def test_a_part_that_cannot_start_ends_the_server_with_its_reason(tmp_path: Path) -> None:
    home = ServerHome(tmp_path / "home")
    initialise(home, [], now=datetime.now(UTC))
    running = start(home, free_port())
    running.until(lambda s: s.superlink_answers and s.superexec.pid is not None)
    home.superexec_secret.chmod(0o644)
    os.kill(running.status().superexec.pid or 0, signal.SIGKILL)
    assert running.process.wait() == 6
    said = (home.root / "up.log").read_text()
    assert "SuperExec cannot start: error:" in said
    assert "superexec.secret can be read by others" in said


def new_public_key() -> bytes:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
