"""Pausing: a file that in doubt means paused, and two clocks that must agree that it is over."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tacitly_client.pause
from hand_clock import SECOND, HandClock
from tacitly_client.capture.clock import SystemClock
from tacitly_client.home import AgentHome
from tacitly_client.pause import PauseState, pause, read_pause, resume
from tacitly_common.errors import ValidationError

HOUR = 3_600.0


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    return AgentHome(tmp_path)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def test_without_a_file_nothing_is_paused(home: AgentHome, clock: HandClock) -> None:
    assert read_pause(home, clock) == PauseState(paused=False)


def test_a_pause_lasts_until_it_is_ended(home: AgentHome, clock: HandClock) -> None:
    assert pause(home, clock) == PauseState(paused=True, since_ns=clock.monotonic)
    clock.pass_(1_000 * HOUR)
    assert read_pause(home, clock).paused
    assert resume(home, clock) == PauseState(paused=False, since_ns=clock.monotonic)


def test_a_pause_for_an_hour_is_over_after_an_hour(home: AgentHome, clock: HandClock) -> None:
    state = pause(home, clock, HOUR)
    assert state.until_ns == clock.wall + round(HOUR * SECOND)
    clock.pass_(HOUR - 1)
    assert read_pause(home, clock) == state
    clock.pass_(1)
    assert not read_pause(home, clock).paused


def test_a_wall_clock_set_forwards_does_not_shorten_it(home: AgentHome, clock: HandClock) -> None:
    pause(home, clock, HOUR)
    clock.wall += round(24 * HOUR * SECOND)
    state = read_pause(home, clock)
    assert state.paused
    assert state.until_ns == clock.wall + round(HOUR * SECOND)


def test_after_a_restart_of_the_machine_the_wall_clock_alone_decides(
    home: AgentHome, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause(home, clock, HOUR)
    monkeypatch.setattr(tacitly_client.pause, "boot_id", lambda: "another")
    clock.monotonic = 5 * SECOND
    clock.wall += round((HOUR - 1) * SECOND)
    assert read_pause(home, clock).paused
    clock.wall += SECOND
    assert read_pause(home, clock) == PauseState(paused=False)


@given(
    asked_seconds=st.floats(1, 1e6),
    steps=st.lists(st.tuples(st.floats(0, 1e5), st.floats(-1e6, 1e6)), max_size=20),
)
def test_no_setting_of_the_wall_clock_makes_a_pause_shorter(
    tmp_path_factory: pytest.TempPathFactory,
    asked_seconds: float,
    steps: list[tuple[float, float]],
) -> None:
    """`steps`: how long passes, and by how much the wall clock is set then."""
    home, clock = AgentHome(tmp_path_factory.mktemp("home")), HandClock()
    pause(home, clock, asked_seconds)
    over_ns = clock.monotonic + round(asked_seconds * SECOND)
    for passes, is_set in steps:
        clock.pass_(passes)
        clock.wall += round(is_set * SECOND)
        if not read_pause(home, clock).paused:
            assert clock.monotonic >= over_ns


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"paused": false}', b"[]"])
def test_a_file_that_cannot_be_read_is_a_pause_until_resume(
    home: AgentHome, clock: HandClock, content: bytes
) -> None:
    home.pause.write_bytes(content)
    assert read_pause(home, clock) == PauseState(paused=True)
    clock.pass_(1_000 * HOUR)
    assert read_pause(home, clock).paused
    assert not resume(home, clock).paused


def test_a_directory_in_its_place_is_a_pause(home: AgentHome, clock: HandClock) -> None:
    home.pause.mkdir()
    assert read_pause(home, clock).paused


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_no_pause_for_no_time(home: AgentHome, clock: HandClock, seconds: float) -> None:
    with pytest.raises(ValidationError, match="seconds must be > 0"):
        pause(home, clock, seconds)
    assert not read_pause(home, clock).paused


def test_a_pause_survives_the_kill_of_who_made_it(home: AgentHome) -> None:
    program = (
        "import os, pathlib, signal\n"
        "from tacitly_client.capture.clock import SystemClock\n"
        "from tacitly_client.home import AgentHome\n"
        "from tacitly_client.pause import pause\n"
        f"pause(AgentHome(pathlib.Path({os.fspath(home.root)!r})), SystemClock(), 3600)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -signal.SIGKILL
    assert read_pause(home, SystemClock()).paused
