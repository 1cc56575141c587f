"""`tacitly-agent run`: processes that come back by themselves, and end with their supervisor."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from homes import make_home, training_plan
from stock_flower import eventually
from tacitly_client.daemon.state import AgentState, PartState
from tacitly_client.daemon.supervisor import parts_for
from tacitly_client.home import AgentHome
from tacitly_client.live_file import read_live
from tacitly_client.local_socket import SocketError, connect
from tacitly_client.node.identity import create_node_key

AGENT = Path(sys.executable).with_name("tacitly-agent")


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    made = make_home(tmp_path / "home", training_plan())
    create_node_key(made)
    made.ca_certificate.write_bytes(made.authority_certificate.read_bytes())
    return made


def command(home: AgentHome) -> list[str]:
    return [str(AGENT), "run", "--home", str(home.root)]


@contextmanager
def running(home: AgentHome) -> Iterator[subprocess.Popen[bytes]]:
    environment = {"PATH": os.environ["PATH"]}
    with subprocess.Popen(command(home), env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: all(part.pid for part in parts(home)) and parts(home))
            yield process
        finally:
            process.kill()


def parts(home: AgentHome) -> tuple[PartState, ...]:
    state = read_live(home.agent_state, AgentState)
    return state.parts if state else ()


def alive(pid: int | None) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def answers(path: Path) -> bool:
    try:
        connect(path).close()
    except SocketError:
        return False
    return True


def test_without_a_desktop_nothing_that_captures_is_started(home: AgentHome) -> None:
    with running(home):
        assert [part.name for part in parts(home)] == ["vault", "node", "control"]


@pytest.mark.parametrize(
    ("environ", "capture", "there"),
    [
        ({}, True, False),
        ({"DISPLAY": ":0"}, True, True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, True, True),
        ({"DISPLAY": ":0"}, False, False),
        ({"DISPLAY": ""}, True, False),
    ],
)
def test_tray_and_capture_belong_together_and_to_a_desktop(
    environ: dict[str, str], capture: bool, there: bool
) -> None:
    names = {part.name for part in parts_for(environ, capture=capture)}
    assert ({"tray", "capture"} <= names) is there
    assert ("tray" in names) is ("capture" in names)


def test_each_process_comes_back_by_itself(home: AgentHome) -> None:
    chosen = random.Random(7)
    with running(home):
        for _ in range(6):
            victim = chosen.choice(parts(home))
            assert victim.pid is not None
            os.kill(victim.pid, signal.SIGKILL)
            eventually(
                lambda victim=victim: any(
                    part.name == victim.name
                    and part.pid not in (None, victim.pid)
                    and part.restarts == victim.restarts + 1
                    for part in parts(home)
                )
            )
            eventually(lambda: answers(home.vault_socket) and answers(home.control_socket))


def test_all_end_with_a_killed_supervisor_and_the_next_one_starts(home: AgentHome) -> None:
    with running(home) as process:
        former = parts(home)
        process.kill()
        eventually(lambda: not any(alive(part.pid) for part in former))
        assert parts(home) == ()
    with running(home):
        assert not {part.pid for part in parts(home)} & {part.pid for part in former}


def test_sigterm_ends_everything_in_order(home: AgentHome) -> None:
    with running(home) as process:
        former = parts(home)
        process.terminate()
        assert process.wait(60) == 0
        assert not any(alive(part.pid) for part in former)
    assert not home.control_socket.exists()


def test_there_is_one_for_a_home(home: AgentHome) -> None:
    with running(home):
        second = subprocess.run(command(home), capture_output=True, text=True, check=False)
    assert second.returncode == 2
    assert "another agent runs" in second.stderr


def test_after_withdrawal_the_node_ends_and_does_not_come_back(home: AgentHome) -> None:
    with running(home):
        (node,) = [part for part in parts(home) if part.name == "node"]
        assert node.pid is not None
        home.enrolment.unlink()
        eventually(lambda: not alive(node.pid))
        vault = next(part for part in parts(home) if part.name == "vault")
        assert vault.pid is not None
        os.kill(vault.pid, signal.SIGKILL)
        eventually(
            lambda: any(p.name == "vault" and p.restarts == 1 and p.pid for p in parts(home))
        )
        assert [part.pid for part in parts(home) if part.name == "node"] == [None]
