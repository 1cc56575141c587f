"""The control service: what a person's own programs may ask, and that nobody else may."""

import stat
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from hand_clock import HandClock
from tacitly_client.capture.state import CaptureState, Doing
from tacitly_client.choices import ChoicesFile
from tacitly_client.control.control_pb2 import (
    ExcludeRequest,
    PauseRequest,
    ResumeRequest,
    StatusRequest,
)
from tacitly_client.control.control_pb2_grpc import ControlStub
from tacitly_client.control.service import control, serving
from tacitly_client.daemon.conditions import Hindrance
from tacitly_client.daemon.state import Training, VaultState
from tacitly_client.home import AgentHome
from tacitly_client.live_file import LiveFile
from tacitly_client.pause import read_pause
from tacitly_common.errors import ValidationError

PATIENCE_SECONDS = 60


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    made = AgentHome(tmp_path / "home")
    made.create()
    return made


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def stub(home: AgentHome, clock: HandClock) -> Iterator[ControlStub]:
    with serving(home, clock), control(home) as asked:
        yield asked


def test_it_tells_what_every_process_shows(home: AgentHome, stub: ControlStub) -> None:
    shown = {
        home.capture_state: CaptureState(Doing.CAPTURING),
        home.vault_state: VaultState(Training.WAITING, (Hindrance.PRESENT,)),
    }
    files = []
    for path, state in shown.items():
        files.append(LiveFile(path))
        files[-1].show(state)
    told = stub.Status(StatusRequest(), timeout=PATIENCE_SECONDS)
    assert (told.capture, told.paused, told.training) == ("capturing", False, "waiting")
    assert list(told.training_waits_for) == [Hindrance.PRESENT]
    # The service itself.
    assert list(told.processes) == ["control"]
    for file in files:
        file.close()
    told = stub.Status(StatusRequest(), timeout=PATIENCE_SECONDS)
    assert (told.capture, told.training) == ("not running", "no round at the moment")


def test_it_pauses_and_resumes(home: AgentHome, clock: HandClock, stub: ControlStub) -> None:
    told = stub.Pause(PauseRequest(seconds=60), timeout=PATIENCE_SECONDS)
    assert told.paused
    assert told.paused_until_unix_ns == clock.wall + 60 * 10**9
    assert read_pause(home, clock).paused
    told = stub.Pause(PauseRequest(), timeout=PATIENCE_SECONDS)
    assert told.paused
    assert not told.HasField("paused_until_unix_ns")
    assert not stub.Resume(ResumeRequest(), timeout=PATIENCE_SECONDS).paused
    assert not read_pause(home, clock).paused


def test_it_excludes_and_takes_back(home: AgentHome, stub: ControlStub) -> None:
    for name in ("Signal", "diary"):
        told = stub.Exclude(ExcludeRequest(application=name), timeout=PATIENCE_SECONDS)
    assert list(told.excluded) == ["diary", "signal"]
    request = ExcludeRequest(application="signal", remove=True)
    assert list(stub.Exclude(request, timeout=PATIENCE_SECONDS).excluded) == ["diary"]
    assert ChoicesFile(home.choices)().excluded == {"diary"}


@pytest.mark.parametrize(
    ("call", "request_", "words"),
    [
        ("Pause", PauseRequest(seconds=0), "seconds must be > 0"),
        ("Exclude", ExcludeRequest(), "name one, such as signal"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_fix(
    stub: ControlStub, call: str, request_: object, words: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        getattr(stub, call)(request_, timeout=PATIENCE_SECONDS)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in caught.value.details()


def test_a_disk_that_cannot_be_written_is_said(home: AgentHome, stub: ControlStub) -> None:
    home.pause.mkdir()
    with pytest.raises(grpc.RpcError) as caught:
        stub.Pause(PauseRequest(), timeout=PATIENCE_SECONDS)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_the_socket_is_its_owners_alone(home: AgentHome, stub: ControlStub) -> None:
    for path, mode in ((home.run, 0o700), (home.control_socket, 0o600)):
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_there_is_one_for_a_home(home: AgentHome, clock: HandClock, stub: ControlStub) -> None:
    with pytest.raises(ValidationError, match="another control service"), serving(home, clock):
        pytest.fail("there were two")
    # And the refused one has not taken the first one's socket away.
    stub.Status(StatusRequest(), timeout=PATIENCE_SECONDS)
