"""How the capture process is put together: whose events count, and where it is told what was not
kept."""

import threading
from datetime import datetime
from pathlib import Path

import pytest

from hand_clock import HandClock
from tacitly_client.capture import main
from tacitly_client.capture.normaliser import Normaliser, Rule
from tacitly_client.capture.permit import Permission
from tacitly_client.capture.state import read_state
from tacitly_client.capture.unkept import Unkept
from tacitly_client.home import AgentHome
from tacitly_client.store import EventStore
from tacitly_client.store.dropped import read_dropped
from x_display import Server, server


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> "Server":
    with server() as running:
        monkeypatch.setenv("DISPLAY", running.name)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        monkeypatch.delenv("XDG_SESSION_TYPE", raising=False)
        yield running


def doing_after_start(home: AgentHome) -> str:
    """What a capture process that takes programs' events says that it does."""
    EventStore.create(home.store).close()
    stop = threading.Event()
    said = []
    looks = 0

    def permit() -> Permission:
        nonlocal looks
        looks += 1
        said.append(read_state(home.capture_state))
        if looks == 6:
            stop.set()
        return Permission(capturing=True, since_ns=0)

    main.run_capture(home, permit=permit, keep_injected=True, stop=stop)
    return f"{said[-1].doing.value}: {said[-1].reason}"


def test_programs_events_count_where_there_is_no_keyboard(display: Server, tmp_path: Path) -> None:
    assert doing_after_start(AgentHome(tmp_path)) == "capturing: "


def test_programs_events_are_refused_where_there_is_a_keyboard(
    display: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The test display's own keyboard stands for one that somebody can touch.
    monkeypatch.setattr(main, "_NOBODYS_KEYBOARDS", ("XTEST keyboard",))
    said = doing_after_start(AgentHome(tmp_path))
    assert said.startswith("not supported on this desktop: programs' events")


def test_no_command_and_no_setting_takes_programs_events() -> None:
    """A release has the argument for its demonstration alone."""
    client = Path(main.__file__).parents[1]
    users = {path.name for path in client.rglob("*.py") if "keep_injected" in path.read_text()}
    assert users == {"main.py", "normaliser.py"}


def test_what_was_not_kept_is_counted_by_day_and_rule(tmp_path: Path) -> None:
    clock = HandClock()
    normaliser = Normaliser(clock)
    unkept = Unkept(tmp_path, normaliser, clock)
    today = datetime.fromtimestamp(clock.wall_ns() / 1e9).astimezone().date()
    unkept({})
    assert read_dropped(tmp_path) == {}
    normaliser.dropped[Rule.INJECTED] += 3
    unkept({"identifier": 16})
    normaliser.dropped[Rule.INJECTED] += 1
    unkept({"identifier": 1, "digit": 2})
    assert read_dropped(tmp_path) == {today: {"injected": 4, "identifier": 17, "digit": 2}}


def test_counts_that_cannot_be_written_are_not_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = HandClock()
    Unkept(tmp_path / "missing", Normaliser(clock), clock)({"identifier": 1})
    assert "could not be counted" in caplog.text
